"""Write docs/core/museum-of-bugs.md from what the exhibits say: `python tests/museum/make_page.py`."""

from __future__ import annotations

from pathlib import Path

from exhibit import Exhibit, exhibits

PAGE = Path(__file__).parents[2] / "docs" / "core" / "museum-of-bugs.md"

INTRODUCTION = """# A museum of bugs

Classic bugs, what PyTorch does with each, and what statezoo says: an immediate error, or a finding of `core.doctor`.
`nn` stands for `torch.nn` or `statezoo.core`, and `nn.F` for its functional module. The code is the same for both. Each
function returns `(model, optimizer, batch, loss)`, the arguments of `doctor`.

`python tests/museum/make_page.py` runs the code and writes this page. A test compares the page with the current output.
"""


def section(exhibit: Exhibit) -> str:
    """Return the section of the page on one exhibit."""
    return "\n\n".join(
        [
            f"## {exhibit.title}",
            f"```python\n{exhibit.code}\n```",
            f"PyTorch: {exhibit.pytorch_says()}",
            f"statezoo:\n\n```text\n{exhibit.statezoo_says()}\n```",
        ]
    )


def page() -> str:
    """Return the whole page."""
    return "\n".join([INTRODUCTION, *(section(each) + "\n" for each in exhibits())])


if __name__ == "__main__":
    PAGE.write_text(page())
