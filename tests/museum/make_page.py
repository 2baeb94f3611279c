"""Write docs/museum-of-bugs.md from what the exhibits say: `python tests/museum/make_page.py`."""

from __future__ import annotations

from pathlib import Path

from exhibit import Exhibit, exhibits

PAGE = Path(__file__).parents[2] / "docs" / "museum-of-bugs.md"

INTRODUCTION = """# A museum of bugs

Models that are broken in the classic ways, what PyTorch makes of each, and what statezoo says: an error at once, or a
finding of `core.doctor`. `nn` stands for `torch.nn` or `statezoo.core`, and `nn.F` for its functional; the code is the
same for both. A given is `(model, optimizer, batch, loss)`, as `doctor` takes it.

`python tests/museum/make_page.py` runs all of it and writes this page; a test compares the page with what is said now.
"""


def section(exhibit: Exhibit) -> str:
    """What the page shows of one exhibit."""
    return "\n\n".join(
        [
            f"## {exhibit.title}",
            f"```python\n{exhibit.code}\n```",
            f"PyTorch: {exhibit.pytorch_says()}",
            f"statezoo:\n\n```text\n{exhibit.statezoo_says()}\n```",
        ]
    )


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section(each) + "\n" for each in exhibits())])


if __name__ == "__main__":
    PAGE.write_text(page())
