"""A model as it learns: the predictions of tense-mlp for one verb and person, after more and more epochs.

python examples/watch_it_learn.py
"""

from statezoo import zoo
from statezoo.zoo.models.tense_mlp.grammar import TENSES, load_grammar
from statezoo.zoo.publishing.text import table

VERB, PERSON = "hablar", "yo"  # the first pair of the grammar grid


def main() -> None:
    trajectory = zoo.trajectory("tense-mlp")
    rows = [("epoch", *TENSES)]
    for epoch in (0, 5, 10, 15, 20, 30, 40, 60, 100, 300):
        probability = {answer.tense: answer.probability for answer in trajectory[epoch].predict(VERB, PERSON)}
        rows.append((str(epoch), *(f"{probability[tense]:.1%}" for tense in TENSES)))
    rows.append(("grid", *(f"{share:.1%}" for share in load_grammar().probabilities[0])))
    print(f"{VERB}, {PERSON}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
