"""A look inside the sorting transformer: the positions it attends to while it writes six digits in order.

`capture` records the inputs of the attention, and `attention_weights` computes its pattern from them. Arranged by the
size of the digits, the pattern is a diagonal: to write the n-th digit, the model looks at the n-th smallest digit of
the input, wherever it is, and hardly at the digits it has already written. The picture needs the extra `train`.

    python examples/attention_pattern.py [attention.png]
"""

import sys
from pathlib import Path

import numpy as np

from statezoo import zoo
from statezoo.core import capture, no_grad
from statezoo.zoo.data import sorting
from statezoo.zoo.models.transformer_block import SortingTransformer
from statezoo.zoo.models.transformer_block.attention import attention_by_rank, draw_attention
from statezoo.zoo.publishing.pictures import save_picture

EXAMPLE = np.array([3, 5, 2, 9, 1, 4])
SEPARATOR = 10


def main() -> None:
    model = zoo.load("transformer-block.sort")
    assert isinstance(model, SortingTransformer)
    with no_grad(), capture(model, "block.attention") as seen:
        model(np.array([[*EXAMPLE, SEPARATOR]]))
    (call,) = seen["block.attention"]
    weights = model.block.attention.attention_weights(*call.args, **call.kwargs)  # (1, heads, 7, 7)
    print("attention of each head while the model writes the first digit, in %:")
    print("       ", "  ".join(f"{token!s:>3}" for token in [*EXAMPLE, "|"]))
    for head, pattern in enumerate(weights.data[0, :, -1], start=1):
        print(f"head {head} ", "  ".join(f"{share:3.0%}".rjust(4)[:-1] for share in pattern))

    digits = sorting(n_train=1, n_test=2_000, seed=0).test_x
    by_rank = attention_by_rank(model, digits).mean(axis=0)  # the mean of the heads
    print("\nthe same, averaged over those of 2,000 held-out sequences with six different digits:")
    for step, shares in enumerate(by_rank[:, : model.length]):
        rank = shares.argmax()
        print(f"output digit {step + 1}: {shares[rank]:.0%} of the attention is on the digit of rank {rank + 1}")

    path = Path(sys.argv[1] if len(sys.argv) > 1 else "attention.png")
    save_picture(draw_attention(model, digits, EXAMPLE), path)
    print(f"\nsaved a picture of both to {path}")


if __name__ == "__main__":
    main()
