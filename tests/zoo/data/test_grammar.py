"""The grammar grid: every form is checked by a second source and every weight by its rule; every word is found."""

import csv
import hashlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from statezoo.zoo import DataError, InputError
from statezoo.zoo.models.tense_mlp import grammar
from statezoo.zoo.models.tense_mlp.grammar import PERSONS, TENSES, VERBS, encode, form, load_grammar, usage_weight

CSV = Path(grammar.__file__).parent / "grammar.csv"
DOCS = Path(__file__).parents[3] / "docs" / "data.md"

# The regular endings, (yo, tu, el/ella). Futuro and condicional are added to the infinitive, the others to the stem.
ENDINGS = {
    ("ar", "presente"): ("o", "as", "a"),
    ("ar", "preterito"): ("é", "aste", "ó"),
    ("ar", "imperfecto"): ("aba", "abas", "aba"),
    ("er", "presente"): ("o", "es", "e"),
    ("er", "preterito"): ("í", "iste", "ió"),
    ("er", "imperfecto"): ("ía", "ías", "ía"),
    ("ir", "presente"): ("o", "es", "e"),
    ("ir", "preterito"): ("í", "iste", "ió"),
    ("ir", "imperfecto"): ("ía", "ías", "ía"),
}
ENDINGS |= {(conjugation, "futuro"): ("é", "ás", "á") for conjugation in ("ar", "er", "ir")}
ENDINGS |= {(conjugation, "condicional"): ("ía", "ías", "ía") for conjugation in ("ar", "er", "ir")}

# The forms that the endings table does not give, (yo, tu, el/ella).
IRREGULAR = {
    ("llegar", "preterito"): ("llegué", "llegaste", "llegó"),
    ("pensar", "presente"): ("pienso", "piensas", "piensa"),
    ("estar", "presente"): ("estoy", "estás", "está"),
    ("estar", "preterito"): ("estuve", "estuviste", "estuvo"),
    ("ser", "presente"): ("soy", "eres", "es"),
    ("ser", "preterito"): ("fui", "fuiste", "fue"),
    ("ser", "imperfecto"): ("era", "eras", "era"),
    ("ir", "presente"): ("voy", "vas", "va"),
    ("ir", "preterito"): ("fui", "fuiste", "fue"),
    ("ir", "imperfecto"): ("iba", "ibas", "iba"),
    ("tener", "presente"): ("tengo", "tienes", "tiene"),
    ("tener", "preterito"): ("tuve", "tuviste", "tuvo"),
    ("tener", "futuro"): ("tendré", "tendrás", "tendrá"),
    ("tener", "condicional"): ("tendría", "tendrías", "tendría"),
    ("saber", "presente"): ("sé", "sabes", "sabe"),
    ("saber", "preterito"): ("supe", "supiste", "supo"),
    ("saber", "futuro"): ("sabré", "sabrás", "sabrá"),
    ("saber", "condicional"): ("sabría", "sabrías", "sabría"),
    ("querer", "presente"): ("quiero", "quieres", "quiere"),
    ("querer", "preterito"): ("quise", "quisiste", "quiso"),
    ("querer", "futuro"): ("querré", "querrás", "querrá"),
    ("querer", "condicional"): ("querría", "querrías", "querría"),
    ("hacer", "presente"): ("hago", "haces", "hace"),
    ("hacer", "preterito"): ("hice", "hiciste", "hizo"),
    ("hacer", "futuro"): ("haré", "harás", "hará"),
    ("hacer", "condicional"): ("haría", "harías", "haría"),
    ("poner", "presente"): ("pongo", "pones", "pone"),
    ("poner", "preterito"): ("puse", "pusiste", "puso"),
    ("poner", "futuro"): ("pondré", "pondrás", "pondrá"),
    ("poner", "condicional"): ("pondría", "pondrías", "pondría"),
    ("decir", "presente"): ("digo", "dices", "dice"),
    ("decir", "preterito"): ("dije", "dijiste", "dijo"),
    ("decir", "futuro"): ("diré", "dirás", "dirá"),
    ("decir", "condicional"): ("diría", "dirías", "diría"),
    ("venir", "presente"): ("vengo", "vienes", "viene"),
    ("venir", "preterito"): ("vine", "viniste", "vino"),
    ("venir", "futuro"): ("vendré", "vendrás", "vendrá"),
    ("venir", "condicional"): ("vendría", "vendrías", "vendría"),
    ("salir", "presente"): ("salgo", "sales", "sale"),
    ("salir", "futuro"): ("saldré", "saldrás", "saldrá"),
    ("salir", "condicional"): ("saldría", "saldrías", "saldría"),
    ("dormir", "presente"): ("duermo", "duermes", "duerme"),
    ("dormir", "preterito"): ("dormí", "dormiste", "durmió"),
    ("pedir", "presente"): ("pido", "pides", "pide"),
    ("pedir", "preterito"): ("pedí", "pediste", "pidió"),
}


def regular_forms(verb: str, tense: str) -> tuple[str, ...]:
    stem = verb if tense in ("futuro", "condicional") else verb[:-2]
    return tuple(stem + ending for ending in ENDINGS[verb[-2:], tense])


@pytest.mark.parametrize(("verb", "tense"), [*product(VERBS, TENSES)])
def test_every_form_follows_the_endings_or_the_list_of_irregular_forms(verb: str, tense: str):
    expected = IRREGULAR.get((verb, tense), regular_forms(verb, tense))
    assert tuple(form(verb, person, tense) for person in PERSONS) == expected


def test_no_regular_form_is_listed_as_irregular():
    assert [key for key, forms in IRREGULAR.items() if regular_forms(*key) == forms] == []


def test_the_grid_is_20_verbs_of_all_conjugations_by_3_persons_by_5_tenses():
    assert (len(VERBS), len(set(VERBS)), VERBS[0]) == (20, 20, "hablar")
    assert {verb[-2:] for verb in VERBS} == {"ar", "er", "ir"}
    assert list(load_grammar().forms) == list(product(VERBS, PERSONS, TENSES))


def test_every_weight_follows_the_rule():
    with CSV.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["weight"] for row in rows] == [str(usage_weight(*triple)) for triple in product(VERBS, PERSONS, TENSES)]


def test_states_favour_the_imperfect_and_achievements_the_preterite():
    likeliest = {
        aspect: {
            TENSES[load_grammar().probabilities[3 * number + 2].argmax()]
            for number, verb in enumerate(VERBS)
            if grammar.ASPECTS[verb] == aspect
        }
        for aspect in grammar.ASPECT_FACTORS
    }
    assert likeliest == {
        "state": {"presente"},
        "activity": {"presente"},
        "accomplishment": {"preterito"},
        "achievement": {"preterito"},
    }
    imperfecto, preterito = TENSES.index("imperfecto"), TENSES.index("preterito")
    for person in PERSONS:
        state = load_grammar().probabilities[3 * VERBS.index("ser") + PERSONS.index(person)]
        assert state[imperfecto] > state[preterito]


def test_each_one_hot_pair_has_a_distribution():
    grid = load_grammar()
    assert (grid.inputs.shape, grid.inputs.dtype) == ((60, 23), np.float32)
    assert (grid.weights.shape, grid.weights.dtype, grid.weights.min() > 0) == ((60, 5), np.int64, True)
    assert (grid.inputs[:, :20].sum(axis=1) == 1).all()
    assert (grid.inputs[:, 20:].sum(axis=1) == 1).all()
    assert len(np.unique(grid.inputs, axis=0)) == 60
    np.testing.assert_allclose(grid.probabilities.sum(axis=1), 1)
    for row, (verb, person) in enumerate(product(VERBS, PERSONS)):
        assert (grid.inputs[row] == encode(verb, person)).all()


def test_the_documentation_states_the_rule_the_floor_and_the_hash_of_the_table():
    text = DOCS.read_text(encoding="utf-8")
    for aspect, factors in grammar.ASPECT_FACTORS.items():
        verbs = ", ".join(verb for verb in VERBS if grammar.ASPECTS[verb] == aspect)
        assert f"| {aspect} | {' | '.join(map(str, factors))} | {verbs} |" in text
    for person, factors in grammar.PERSON_FACTORS.items():
        assert f"| {person} | {' | '.join(map(str, factors))} |" in text
    assert f"**{load_grammar().entropy_floor_nats():.4f} nats**" in text
    assert f"`{load_grammar().sha256}`" in text


def test_inputs_and_weights_are_those_of_the_300_triples_in_the_order_of_the_table():
    grid = load_grammar()
    assert (grid.inputs.shape, grid.inputs.dtype) == ((60, 23), np.float32)
    assert (grid.weights.shape, grid.weights.dtype) == ((60, 5), np.int64)
    for row, (verb, person) in enumerate(product(VERBS, PERSONS)):
        assert (grid.inputs[row] == encode(verb, person)).all()
        assert grid.weights[row].tolist() == [usage_weight(verb, person, tense) for tense in TENSES]


def test_the_shared_grid_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        load_grammar().weights[0, 0] = 1


def test_the_entropy_floor_is_the_cross_entropy_of_the_targets_with_themselves_and_well_under_ln_5():
    grid = load_grammar()
    cross_entropy = -np.average(np.log(grid.probabilities), weights=grid.weights)
    assert grid.entropy_floor_nats() == pytest.approx(cross_entropy, abs=1e-12)
    assert grid.entropy_floor_nats() == pytest.approx(1.3056462858722753, abs=1e-12)
    assert grid.entropy_floor_nats() < np.log(5) - 0.15


def test_a_verb_and_a_person_alone_each_leave_more_uncertainty_than_both():
    grid = load_grammar()
    for axis in (0, 1):  # a model that sees only the person, or only the verb
        pooled = grid.weights.reshape(20, 3, 5).sum(axis=axis)
        joint = pooled / pooled.sum()
        entropy = -(joint * np.log(pooled / pooled.sum(axis=1, keepdims=True))).sum()
        assert entropy > grid.entropy_floor_nats() + 0.01


def test_the_hash_is_that_of_the_table_with_unix_line_ends():
    content = CSV.read_bytes().replace(b"\r\n", b"\n")
    assert load_grammar().sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("verb", "person", "same_as"),
    [
        ("HABLAR", "Yo", ("hablar", "yo")),
        (" decir ", "tú", ("decir", "tu")),
        ("ir", "TÚ", ("ir", "tu")),
        ("salir", "él", ("salir", "el/ella")),
        ("salir", "e\u0301l", ("salir", "el/ella")),
        ("salir", "el", ("salir", "el/ella")),
        ("salir", "ella", ("salir", "el/ella")),
        ("salir", "Él/Ella", ("salir", "el/ella")),
    ],
)
def test_words_are_found_with_any_accents_and_case(verb: str, person: str, same_as: tuple[str, str]):
    assert (encode(verb, person) == encode(*same_as)).all()
    assert encode(*same_as)[VERBS.index(same_as[0])] == 1
    assert encode(*same_as)[20 + PERSONS.index(same_as[1])] == 1
    assert form(verb, person, "Pretérito") == form(*same_as, "preterito")


def test_a_misspelt_verb_is_an_error_with_the_nearest_verb_and_all_verbs():
    with pytest.raises(InputError) as caught:
        encode("ablar", "yo")
    assert str(caught.value) == (
        "'ablar' is not a known verb; the verbs are hablar, comprar, llegar, pensar, estar, comer, ser, tener, saber, "
        "querer, hacer, poner, vivir, escribir, dormir, pedir, ir, decir, venir, salir. Did you mean 'hablar'?"
    )


@pytest.mark.parametrize(
    ("person", "message"),
    [
        ("yoo", "'yoo' is not a known person; the persons are yo, tu, el/ella. Did you mean 'yo'?"),
        ("ellla", "'ellla' is not a known person; the persons are yo, tu, el/ella. Did you mean 'el/ella'?"),
        ("nosotros", "'nosotros' is not a known person; the persons are yo, tu, el/ella."),
        ("", "'' is not a known person; the persons are yo, tu, el/ella."),
    ],
)
def test_an_unknown_person_lists_the_persons(person: str, message: str):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared below
        encode("hablar", person)
    assert str(caught.value) == message


def test_an_unknown_tense_lists_the_tenses():
    with pytest.raises(InputError, match=r"'futur' is not a known tense; .* Did you mean 'futuro'\?"):
        form("hablar", "yo", "futur")


def test_a_damaged_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = CSV.read_text(encoding="utf-8").splitlines()
    damaged = tmp_path / "grammar.csv"
    monkeypatch.setattr(grammar, "_CSV_PATH", damaged)
    for lines in ([""], rows[:-1], [rows[0], rows[2], rows[1], *rows[3:]], [*rows[:5], "hablar", *rows[6:]], rows[1:]):
        damaged.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(DataError, match="is not the published grammar grid"):
            load_grammar.__wrapped__()
