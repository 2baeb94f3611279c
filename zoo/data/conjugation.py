"""Spanish verbs in five tenses and all six persons, as characters.

The regular forms follow from the rules below; the irregular ones are typed out. Keys are plain ASCII, forms have their
accents. The rules are those of the Nueva gramática de la lengua española (RAE and ASALE 2009), chapter 4.
"""

import itertools
from functools import cache

import numpy as np

from . import Split, sha256_of_arrays, shuffled

TENSES = ("presente", "preterito", "imperfecto", "futuro", "condicional")
PERSONS = ("yo", "tu", "el/ella", "nosotros", "vosotros", "ellos/ellas")
LETTERS = "_abcdefghijklmnopqrstuvwxyzáéíóúñ"  # the first one fills what is left at the end
VERB_LENGTH, FORM_LENGTH = 10, 16
SPLIT_SEED = 2009

# Verbs that are regular in these tenses, but for the spelling rules of `_spelled`. At most VERB_LENGTH letters.
_REGULAR = """
abandonar abrazar acabar aceptar acompañar aconsejar activar adaptar admirar adoptar afectar afirmar agotar aguantar
ahorrar alcanzar alquilar amar amenazar analizar animar anotar apagar aplicar apoyar apuntar arreglar atacar aumentar
avanzar avisar ayudar bailar bajar bañar besar borrar brillar bromear buscar calcular callar cambiar caminar cancelar
cansar cantar captar cargar causar cenar charlar clavar cobrar cocinar colocar combinar comparar completar comprar
comunicar condenar conservar consultar contestar controlar copiar cortar crear cruzar cuidar dañar dedicar dejar
demandar desayunar descansar desear destacar dibujar disfrutar doblar dudar echar educar elaborar empacar emplear
encargar enfadar engañar ensayar entrar entregar escapar escuchar esperar estudiar evitar examinar explicar explorar
explotar expresar fabricar felicitar filmar firmar formar frenar fumar funcionar ganar gastar girar golpear grabar
gritar guardar gustar hablar imaginar importar indicar insultar intentar invitar jurar juzgar lanzar lavar levantar
limpiar llamar llegar llenar llevar llorar luchar mandar manejar marcar marchar matar mejorar mezclar mirar molestar
montar nadar narrar necesitar notar observar ocupar odiar olvidar operar ordenar organizar pagar parar participar
pasar pasear pegar peinar pelear perdonar pescar pintar pisar planear plantar practicar preguntar preparar presentar
prestar progresar proyectar publicar quedar quemar quitar reclamar regalar regresar relajar reparar repasar reservar
respetar respirar retirar rezar robar sacar saltar saludar secar separar significar sospechar subrayar sudar sumar
superar tardar terminar tirar tocar tomar trabajar tratar triunfar usar utilizar viajar visitar votar
absorber acceder aprender barrer beber ceder coger comer cometer comprender conceder correr corromper coser deber
depender emprender escoger esconder exceder lamer meter ofender prender proceder prometer proteger recoger reprender
responder romper someter sorber sorprender suceder suspender tejer temer toser vender
abatir aburrir acudir admitir aludir añadir aplaudir asistir asumir batir coincidir compartir consistir consumir
cubrir cumplir decidir definir describir descubrir difundir dirigir discutir dividir eludir escribir evadir exigir
existir fingir fundir hundir impartir imprimir insistir invadir nutrir ocurrir omitir partir percibir permitir
persistir presidir presumir recibir repartir residir resistir resumir revivir subir sufrir sumergir sumir suprimir
surgir transmitir unir vivir
"""
REGULAR = _REGULAR.split()

# The irregular verbs of the grammar grid in zoo/models/tense_mlp: the six forms of each tense that is irregular. In the
# other tenses they follow the rules.
IRREGULAR = {
    "pensar": {"presente": "pienso piensas piensa pensamos pensáis piensan"},
    "estar": {
        "presente": "estoy estás está estamos estáis están",
        "preterito": "estuve estuviste estuvo estuvimos estuvisteis estuvieron",
    },
    "ser": {
        "presente": "soy eres es somos sois son",
        "preterito": "fui fuiste fue fuimos fuisteis fueron",
        "imperfecto": "era eras era éramos erais eran",
    },
    "tener": {
        "presente": "tengo tienes tiene tenemos tenéis tienen",
        "preterito": "tuve tuviste tuvo tuvimos tuvisteis tuvieron",
        "futuro": "tendré tendrás tendrá tendremos tendréis tendrán",
        "condicional": "tendría tendrías tendría tendríamos tendríais tendrían",
    },
    "saber": {
        "presente": "sé sabes sabe sabemos sabéis saben",
        "preterito": "supe supiste supo supimos supisteis supieron",
        "futuro": "sabré sabrás sabrá sabremos sabréis sabrán",
        "condicional": "sabría sabrías sabría sabríamos sabríais sabrían",
    },
    "querer": {
        "presente": "quiero quieres quiere queremos queréis quieren",
        "preterito": "quise quisiste quiso quisimos quisisteis quisieron",
        "futuro": "querré querrás querrá querremos querréis querrán",
        "condicional": "querría querrías querría querríamos querríais querrían",
    },
    "hacer": {
        "presente": "hago haces hace hacemos hacéis hacen",
        "preterito": "hice hiciste hizo hicimos hicisteis hicieron",
        "futuro": "haré harás hará haremos haréis harán",
        "condicional": "haría harías haría haríamos haríais harían",
    },
    "poner": {
        "presente": "pongo pones pone ponemos ponéis ponen",
        "preterito": "puse pusiste puso pusimos pusisteis pusieron",
        "futuro": "pondré pondrás pondrá pondremos pondréis pondrán",
        "condicional": "pondría pondrías pondría pondríamos pondríais pondrían",
    },
    "dormir": {
        "presente": "duermo duermes duerme dormimos dormís duermen",
        "preterito": "dormí dormiste durmió dormimos dormisteis durmieron",
    },
    "pedir": {
        "presente": "pido pides pide pedimos pedís piden",
        "preterito": "pedí pediste pidió pedimos pedisteis pidieron",
    },
    "ir": {
        "presente": "voy vas va vamos vais van",
        "preterito": "fui fuiste fue fuimos fuisteis fueron",
        "imperfecto": "iba ibas iba íbamos ibais iban",
    },
    "decir": {
        "presente": "digo dices dice decimos decís dicen",
        "preterito": "dije dijiste dijo dijimos dijisteis dijeron",
        "futuro": "diré dirás dirá diremos diréis dirán",
        "condicional": "diría dirías diría diríamos diríais dirían",
    },
    "venir": {
        "presente": "vengo vienes viene venimos venís vienen",
        "preterito": "vine viniste vino vinimos vinisteis vinieron",
        "futuro": "vendré vendrás vendrá vendremos vendréis vendrán",
        "condicional": "vendría vendrías vendría vendríamos vendríais vendrían",
    },
    "salir": {
        "presente": "salgo sales sale salimos salís salen",
        "futuro": "saldré saldrás saldrá saldremos saldréis saldrán",
        "condicional": "saldría saldrías saldría saldríamos saldríais saldrían",
    },
}

# The endings of the six persons, after the stem; in the last two tenses after the infinitive.
_ENDINGS = {
    "presente": {"ar": "o as a amos áis an", "er": "o es e emos éis en", "ir": "o es e imos ís en"},
    "preterito": {"ar": "é aste ó amos asteis aron"} | dict.fromkeys(("er", "ir"), "í iste ió imos isteis ieron"),
    "imperfecto": {"ar": "aba abas aba ábamos abais aban"} | dict.fromkeys(("er", "ir"), "ía ías ía íamos íais ían"),
    "futuro": dict.fromkeys(("ar", "er", "ir"), "é ás á emos éis án"),
    "condicional": dict.fromkeys(("ar", "er", "ir"), "ía ías ía íamos íais ían"),
}


def conjugate(verb: str, tense: str) -> list[str]:
    """Return the six forms of a verb in a tense: those of IRREGULAR, or the regular ones."""
    typed = IRREGULAR.get(verb, {}).get(tense)
    if typed is not None:
        return typed.split()
    endings = _ENDINGS[tense][verb[-2:]].split()
    if tense in ("futuro", "condicional"):
        return [verb + ending for ending in endings]
    return [_spelled(verb, ending) for ending in endings]


def _spelled(verb: str, ending: str) -> str:
    """Return the stem and the ending, with the letter between them that keeps the sound of the infinitive."""
    stem, last = verb[:-3], verb[-3]
    if verb.endswith("ar") and ending[0] in "eé":
        last = {"c": "qu", "g": "gu", "z": "c"}.get(last, last)
    elif not verb.endswith("ar") and ending[0] in "oa":
        last = {"g": "j"}.get(last, last)
    return stem + last + ending


@cache
def held_out_verbs() -> frozenset[str]:
    """Return a fifth of the regular verbs of each conjugation, chosen by a fixed seed."""
    order = shuffled(len(REGULAR), SPLIT_SEED)
    chosen: list[str] = []
    for ending in ("ar", "er", "ir"):
        verbs = [REGULAR[i] for i in order if REGULAR[i].endswith(ending)]
        chosen += verbs[: len(verbs) // 5]
    return frozenset(chosen)


def numbers(word: str, length: int) -> list[int]:
    """Return the place in LETTERS of each letter, filled to `length`."""
    return [LETTERS.index(letter) for letter in word.ljust(length, LETTERS[0])]


def word(letters: np.ndarray) -> str:
    """Return the text of places in LETTERS, up to the first one that only fills."""
    return "".join(LETTERS[i] for i in letters).split(LETTERS[0])[0]


def conjugation() -> Split:
    """Return (verb, tense, person) and the form. Held out: all forms of a fifth of the regular verbs.

    x: (N, 12) int64, the places in TENSES, in PERSONS and, of the verb, in LETTERS.  y: (N, 16) int64, the form.
    The last rows of the training part are the irregular verbs.
    """
    held_out = held_out_verbs()
    verbs = ([v for v in REGULAR if v not in held_out] + list(IRREGULAR), [v for v in REGULAR if v in held_out])
    arrays = [array for part in verbs for array in arrays_of(part)]
    return Split(
        "spanish-conjugation",
        *arrays,
        source="Made by the rules of Spanish grammar in zoo/data/conjugation.py; irregular forms are typed out.",
        licence="Apache-2.0",
        sha256=sha256_of_arrays(*arrays),
    )


def arrays_of(verbs: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of `conjugation` for all forms of these verbs: PERSONS within TENSES within verbs."""
    x, y = [], []
    for verb, (place, tense) in itertools.product(verbs, enumerate(TENSES)):
        for person, form in enumerate(conjugate(verb, tense)):
            x.append([place, person, *numbers(verb, VERB_LENGTH)])
            y.append(numbers(form, FORM_LENGTH))
    return np.array(x, np.int64), np.array(y, np.int64)
