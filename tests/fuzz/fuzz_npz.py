"""Coverage-guided fuzzing of the reader of .npz and .npy: `python fuzz_npz.py [options of libFuzzer] FOLDER...`.

The first folder is the corpus, to which finds are added; what breaks a property is left as a file named crash-...
"""

import sys

import atheris  # pyright: ignore[reportMissingImports]

with atheris.instrument_imports(include=["statezoo.checkpoints"]):  # pyright: ignore[reportAttributeAccessIssue]
    from properties import check_npz as check


def one_input(content: bytes) -> None:
    check(content)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
