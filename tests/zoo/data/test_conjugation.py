"""The conjugations: the rules give what typed tables and the grammar grid say, and the split holds out whole verbs."""

import numpy as np
import pytest

from statezoo.zoo import InputError
from statezoo.zoo.data.conjugation import (
    FORM_LENGTH,
    IRREGULAR,
    LETTERS,
    PERSONS,
    REGULAR,
    TENSES,
    VERB_LENGTH,
    conjugate,
    conjugation,
    held_out_verbs,
    numbers,
    word,
)
from statezoo.zoo.models.shared.conjugating import fields, question
from statezoo.zoo.models.tense_mlp.grammar import VERBS, load_grammar

# Typed from a printed table, not computed: one verb of each conjugation, and each spelling rule.
TABLES = {
    ("hablar", "presente"): "hablo hablas habla hablamos habláis hablan",
    ("hablar", "preterito"): "hablé hablaste habló hablamos hablasteis hablaron",
    ("hablar", "imperfecto"): "hablaba hablabas hablaba hablábamos hablabais hablaban",
    ("hablar", "futuro"): "hablaré hablarás hablará hablaremos hablaréis hablarán",
    ("hablar", "condicional"): "hablaría hablarías hablaría hablaríamos hablaríais hablarían",
    ("comer", "presente"): "como comes come comemos coméis comen",
    ("comer", "preterito"): "comí comiste comió comimos comisteis comieron",
    ("comer", "imperfecto"): "comía comías comía comíamos comíais comían",
    ("vivir", "presente"): "vivo vives vive vivimos vivís viven",
    ("vivir", "preterito"): "viví viviste vivió vivimos vivisteis vivieron",
    ("vivir", "condicional"): "viviría vivirías viviría viviríamos viviríais vivirían",
    ("buscar", "preterito"): "busqué buscaste buscó buscamos buscasteis buscaron",
    ("llegar", "preterito"): "llegué llegaste llegó llegamos llegasteis llegaron",
    ("cruzar", "preterito"): "crucé cruzaste cruzó cruzamos cruzasteis cruzaron",
    ("coger", "presente"): "cojo coges coge cogemos cogéis cogen",
    ("dirigir", "presente"): "dirijo diriges dirige dirigimos dirigís dirigen",
    ("ir", "futuro"): "iré irás irá iremos iréis irán",
    ("ser", "imperfecto"): "era eras era éramos erais eran",
}


@pytest.mark.parametrize(("verb", "tense"), TABLES)
def test_the_rules_give_the_forms_of_the_tables(verb: str, tense: str) -> None:
    assert conjugate(verb, tense) == TABLES[verb, tense].split()


def test_the_forms_are_those_of_the_grammar_grid() -> None:
    assert set(VERBS) <= {*REGULAR, *IRREGULAR}
    for (verb, person, tense), form in load_grammar().forms.items():
        assert conjugate(verb, tense)[PERSONS.index(person)] == form


def test_the_verbs_are_distinct_and_short_enough() -> None:
    assert len({*REGULAR, *IRREGULAR}) == len(REGULAR) + len(IRREGULAR) == 335
    assert max(map(len, REGULAR)) == VERB_LENGTH
    # The rules do not know these: a stem that changes, a vowel that takes an accent, or y between vowels.
    assert not [
        v for v in REGULAR if v.endswith(("uar", "uir", "eer", "aer", "oír", "cer", "cir", "guir", "llir", "ñir"))
    ]
    for verb in (*REGULAR, *IRREGULAR):
        for tense in TENSES:
            forms = conjugate(verb, tense)
            assert len(forms) == len(PERSONS)
            assert max(map(len, forms)) < FORM_LENGTH
            assert set("".join(forms)) <= set(LETTERS[1:])


def test_whole_verbs_are_held_out_and_all_irregular_ones_are_trained_on() -> None:
    split, held_out = conjugation(), held_out_verbs()
    assert split.train_x.shape == (8130, 2 + VERB_LENGTH)
    assert split.test_y.shape == (1920, FORM_LENGTH)
    assert {word(row[2:]) for row in split.test_x} == held_out
    assert {word(row[2:]) for row in split.train_x} == {*REGULAR, *IRREGULAR} - held_out
    assert {verb[-2:] for verb in held_out} == {"ar", "er", "ir"}
    assert split.sha256 == "baa4540adae78cc93801cb5f85eecffab76edfdb9a7a0bdcce6645dd835f2da4"


def test_a_word_becomes_numbers_and_back() -> None:
    assert word(np.array(numbers("añadí", 8))) == "añadí"
    assert numbers("ab", 4) == [1, 2, 0, 0]


def test_a_question_is_read_in_any_case_with_or_without_accents() -> None:
    declared = fields((33, 38), 6)
    expected = [33 + TENSES.index("preterito"), 38 + PERSONS.index("el/ella"), *numbers("hablar", 16)]
    for verb, tense, person in (("hablar", "preterito", "el/ella"), (" Hablar", "Pretérito", "Él")):
        asked = question(declared, verb, tense, person)
        assert asked.tolist() == expected
        assert asked.dtype == np.int64


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (("hablo", "presente", "yo"), "'hablo' is not a Spanish infinitive, which ends in -ar, -er or -ir"),
        (("h4blar", "presente", "yo"), "'h4blar' is not a Spanish infinitive"),
        ((3, "presente", "yo"), "3 is not a Spanish infinitive"),
        (("desoxigenar", "presente", "yo"), "'desoxigenar' has 11 letters. The model reads at most 10."),
        (("hablar", "presnte", "yo"), "'presnte' is not a known tense; the tenses are presente, preterito, imperfecto"),
        (("hablar", "presente", "nosotro"), "Did you mean 'nosotros'?"),
    ],
)
def test_a_question_that_cannot_be_read_is_refused(asked: tuple[str, str, str], text: str) -> None:
    with pytest.raises(InputError) as error:
        question(fields((0, 0), 6), *asked)
    assert text in str(error.value)
