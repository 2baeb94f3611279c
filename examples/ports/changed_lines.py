"""The scripts of this folder for PyTorch, and how many lines of each differ: python examples/ports/changed_lines.py

Each script runs on statezoo as it is and on PyTorch after its imports are changed: `statezoo.core` becomes `torch`. A
line that must differ as well ends with the line that PyTorch needs, after the words "PyTorch:".
"""

import re
from pathlib import Path

PORTS = Path(__file__).parent
SCRIPTS = sorted(path for path in PORTS.glob("*/*.py"))
_IMPORT = re.compile(r"^(import|from) statezoo\.core\b", re.MULTILINE)
_OTHER = re.compile(r"^( *)\S.*  # PyTorch: (.+)$", re.MULTILINE)


def for_torch(source: str) -> str:
    """Return a script with the imports, and the lines that say so, changed for PyTorch."""
    return _OTHER.sub(r"\1\2", _IMPORT.sub(r"\1 torch", source))


def count_changes(source: str) -> tuple[int, int]:
    """Return how many lines of a script differ for PyTorch: import lines, and all others."""
    pairs = zip(source.splitlines(), for_torch(source).splitlines(), strict=True)
    changed = [bool(_IMPORT.match(ours)) for ours, theirs in pairs if ours != theirs]
    return sum(changed), len(changed) - sum(changed)


def main() -> None:
    others = 0
    for script in SCRIPTS:
        source = script.read_text(encoding="utf-8")
        imports, other = count_changes(source)
        others += other
        name = str(script.relative_to(PORTS))
        print(f"{name:40} {len(source.splitlines()):4} lines, changed: {imports} imports, {other} others")
    print(f"{len(SCRIPTS)} scripts, {others} changed lines beyond the imports")


if __name__ == "__main__":
    main()
