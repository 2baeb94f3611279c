"""Images a person can type: eight rows of text become a digit, and a digit becomes text."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...core import Module, Tensor, no_grad
from ...core import functional as F
from ..errors import InputError
from . import enlarge

# From blank to full ink. Digits count too: 0 is blank, 9 is full.
SHADES = " .:-=+*#%@"

# A held-out four of scikit-learn's digits, as a person could type it.
EXAMPLE = "00018100/00178300/00787600/03928300/07849960/03999410/00139000/00018000"


class DigitPrediction(NamedTuple):
    """One class a classifier considers, and how sure it is of it."""

    label: int
    probability: float


def parse_image(image: object, side: int) -> np.ndarray:
    """A (side, side) float32 image in 0..1 from what a person has at hand.

    image: an array of side*side values in 0..1 in any shape; or text, its rows separated by line breaks or "/", each
    character a shade from " " (blank) to "@" (full) or a digit from 0 to 9; or the name of a file that holds such text.
    8 x 8 images are enlarged when side is larger. Raises InputError for anything else.
    """
    pixels = _from_text(image) if isinstance(image, (str, Path)) else _from_array(image)
    if pixels.shape == (8, 8) and side > 8:
        pixels = enlarge(pixels[None])[0]
    if pixels.shape != (side, side):
        raise InputError(
            f"an image is {side} rows of {side} (or 8 rows of 8); got {pixels.shape[0]} of {pixels.shape[1]}"
        )
    return pixels


def render_image(pixels: np.ndarray) -> str:
    """Text that shows a (rows, columns) image in 0..1, one character a pixel; parse_image reads it back."""
    shades = np.rint(np.clip(pixels, 0, 1) * (len(SHADES) - 1)).astype(int)
    return "\n".join("".join(SHADES[shade] for shade in row) for row in shades)


def classify(model: Module, pixels: np.ndarray) -> list[DigitPrediction]:
    """Every class with its probability, the likeliest first. pixels: one input as the model takes it, unbatched."""
    with no_grad():
        probabilities = F.softmax(model(Tensor(pixels[None])), dim=-1).data[0]
    best_first = np.argsort(-probabilities, kind="stable")
    return [DigitPrediction(int(label), float(probabilities[label])) for label in best_first]


def _from_array(image: object) -> np.ndarray:
    try:
        pixels = np.asarray(image, dtype=np.float32)
    except (ValueError, TypeError):
        raise InputError(f"an image is an array of numbers or rows of text; got {type(image).__name__}") from None
    side = round(pixels.size**0.5)
    if pixels.size == 0 or side * side != pixels.size:
        raise InputError(f"an image is square; got an array of shape {pixels.shape}")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise InputError("an image's values lie in 0..1; divide scikit-learn's digits by 16, MNIST's bytes by 255")
    return pixels.reshape(side, side)


def _from_text(image: str | Path) -> np.ndarray:
    text = _read_text(image)
    rows = text.replace("/", "\n").splitlines()
    if len(rows) < 2:
        raise InputError(f"{text!r:.80} is neither a file nor an image; type its rows with '/' between them")
    values = np.zeros((len(rows), max(map(len, rows))), np.float32)
    for i, row in enumerate(rows):
        for j, mark in enumerate(row):
            if mark not in SHADES and mark not in "0123456789":
                raise InputError(
                    f"there is no file {str(image)!r:.80}, and it is no image: {mark!r} in row {i + 1} is no shade. "
                    f"Use 0 to 9, or the shades {SHADES!r}"
                )
            values[i, j] = (SHADES.find(mark) if mark in SHADES else int(mark)) / 9
    return values


def _read_text(image: str | Path) -> str:
    """The content of the file that is named, or the text itself if there is no such file."""
    try:
        if Path(image).is_file():
            return Path(image).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{image} is no text; an image file holds rows of digits or shades") from None
    except (OSError, ValueError):
        pass  # too long for a name, or no name at all: the image itself
    return str(image)
