"""Images as text: eight typed rows become a digit, and a digit becomes text."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...core import Module, Tensor, no_grad
from ...core import functional as F
from ..errors import InputError
from ..interface.applying import Fields, prepare
from . import enlarge

# From blank to full ink. Digits work too: 0 is blank, 9 is full.
SHADES = " .:-=+*#%@"

# A held-out 4 from scikit-learn's digits, as a user would type it.
EXAMPLE = "00018100/00178300/00787600/03928300/07849960/03999410/00139000/00018000"


def image_field(side: int, *steps: str) -> dict[str, Any]:
    """Return the declared field of a square image, with these steps (see interface)."""
    size = {"height": side, "width": side, "range": [0, 1]}
    return {"name": "image", "kind": "image", **size, "steps": [{"op": step} for step in steps]}


class DigitPrediction(NamedTuple):
    """One class and its probability."""

    label: int
    probability: float


def parse_image(image: object, side: int) -> np.ndarray:
    """Return a (side, side) float32 image in 0..1.

    image: an array of side*side values in 0..1 in any shape; or text, its rows separated by line breaks or "/", each
    character a shade from " " (blank) to "@" (full) or a digit from 0 to 9; or the Path of a file with such text. A str
    is never treated as a path. An 8 x 8 image is enlarged if side is larger.

    Raises InputError if the image is anything else.
    """
    if isinstance(image, Path):
        image = _read_text(image)
    pixels = _from_text(image) if isinstance(image, str) else _from_array(image)
    if pixels.shape == (8, 8) and side > 8:
        pixels = enlarge(pixels[None])[0]
    if pixels.shape != (side, side):
        raise InputError(
            f"An image must have {side} rows of {side} (or 8 rows of 8), "
            f"not {pixels.shape[0]} rows of {pixels.shape[1]}."
        )
    return pixels


def render_image(pixels: np.ndarray) -> str:
    """Return a (rows, columns) image in 0..1 as text, one character per pixel. `parse_image` reads it back."""
    shades = np.rint(np.clip(pixels, 0, 1) * (len(SHADES) - 1)).astype(int)
    return "\n".join("".join(SHADES[shade] for shade in row) for row in shades)


# The answer of an image classifier: a probability for each class.
CLASS_PROBABILITIES = ({"op": "softmax", "axis": "class"},)


def classify(model: Module, fields: Fields, pixels: np.ndarray) -> list[DigitPrediction]:
    """Return every class with its probability, the likeliest first. fields: what the model declares for its image."""
    x = prepare(fields, {"image": pixels}, np.float32)
    with no_grad():
        probabilities = F.softmax(model(Tensor(x[None])), dim=-1).data[0]
    best_first = np.argsort(-probabilities, kind="stable")
    return [DigitPrediction(int(label), float(probabilities[label])) for label in best_first]


def _from_array(image: object) -> np.ndarray:
    try:
        pixels = np.asarray(image, dtype=np.float32)
    except (ValueError, TypeError):
        raise InputError(f"An image must be an array of numbers or rows of text, not {type(image).__name__}.") from None
    side = round(pixels.size**0.5)
    if pixels.size == 0 or side * side != pixels.size:
        raise InputError(f"An image must be square, not an array of shape {pixels.shape}.")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise InputError(
            "The values of an image must be in 0..1. Divide scikit-learn's digits by 16, and MNIST's bytes by 255."
        )
    return pixels.reshape(side, side)


def _from_text(text: str) -> np.ndarray:
    rows = text.replace("/", "\n").splitlines()
    if len(rows) < 2:
        raise InputError(f"{text!r:.80} is not an image. Write its rows with '/' between them.")
    values = np.zeros((len(rows), max(map(len, rows))), np.float32)
    for i, row in enumerate(rows):
        for j, mark in enumerate(row):
            if mark not in SHADES and mark not in "0123456789":
                raise InputError(
                    f"{text!r:.80} is not an image: {mark!r} in row {i + 1} is not a shade. Use 0 to 9, or the shades "
                    f"{SHADES!r}. To read a file, pass a pathlib.Path."
                )
            values[i, j] = (SHADES.find(mark) if mark in SHADES else int(mark)) / 9
    return values


def _read_text(path: Path) -> str:
    """Return the text of an image file. Raises InputError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text. An image file holds rows of digits or shades.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from None
