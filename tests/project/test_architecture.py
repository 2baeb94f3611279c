"""The rooms and floors of docs/architecture.md, compared with the imports in the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
# From the top floor to the ground floor.
FLOORS = re.findall(r"^\| `([\w/]+)` \|", PAGE, re.MULTILINE)
PACKAGES = ("scripts", "zoo", "checkpoints", "core")
MOST_THINGS = 12
# A flat list of files, each of which can be read on its own.
LISTS = {"core/inspection/checks"}

# Imports inside functions that point up, and why each is there.
LATE = {
    ("core", "checkpoints/models"): "core.save and core.load are those of the checkpoint library (decision 18)",
    ("core/nn/module", "core/inspection"): "Module.summary is a method that calls a tool",
    ("zoo/registry", "zoo/models"): "a built-in architecture registers itself when it is asked for",
}


def room_of(module: str) -> str:
    """Return the room of a module, both as paths from the root."""
    return next(
        room for room in sorted(FLOORS, key=len, reverse=True) if module == room or module.startswith(f"{room}/")
    )


def files() -> list[Path]:
    return sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def is_module(path: str) -> bool:
    return (ROOT / path).is_dir() or (ROOT / f"{path}.py").exists()


def imports_of(file: Path) -> Iterator[tuple[str, bool]]:
    """Yield each module of the project that a file imports, as a path, and whether a function imports it."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    at_start = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or id(node) in for_types:
            continue
        if node.level:
            base = file.parent.parts[: len(file.parent.parts) - (node.level - 1)]
        elif (node.module or "").startswith("statezoo."):
            base = ()
        else:
            continue
        named = (node.module or "").removeprefix("statezoo.").split(".") if node.module else ()
        module = "/".join((*base, *named))
        for alias in node.names:
            name = f"{module}/{alias.name}".lstrip("/")
            yield name if is_module(name) else module, id(node) not in at_start


def arrows() -> Iterator[tuple[Path, str, str, bool]]:
    """Yield each import between rooms: the file, the two rooms, and whether a function imports it."""
    for file in files():
        room = room_of(str(file.with_suffix("")).removesuffix("/__init__"))
        for module, is_late in imports_of(file):
            if (other := room_of(module)) != room:
                yield file, room, other, is_late


def test_every_import_points_to_a_lower_floor():
    up = [
        f"{file}: {room} imports {other}"
        for file, room, other, is_late in arrows()
        if FLOORS.index(other) < FLOORS.index(room) and not (is_late and (room, other) in LATE)
    ]
    assert not up


def test_every_late_import_that_points_up_still_exists():
    found = {(room, other) for _, room, other, is_late in arrows() if is_late}
    built_in = {("zoo/registry", "zoo/models")}  # imported by name, which the code does not show
    assert LATE.keys() - built_in <= found


def test_every_room_on_the_page_exists_and_every_folder_is_in_one_room():
    assert [room for room in FLOORS if not is_module(room)] == []
    folders = {str(file.parent) for file in files()}
    inside = {folder for folder in folders if folder.startswith("zoo/models/")}
    assert folders - inside - set(FLOORS) == set()


@pytest.mark.parametrize("folder", sorted({str(file.parent) for file in files()} - LISTS))
def test_every_folder_is_small_enough_to_take_in_at_a_glance(folder: str):
    things = [thing for thing in (ROOT / folder).iterdir() if thing.suffix == ".py" or next(thing.glob("*.py"), None)]
    assert len(things) <= MOST_THINGS, sorted(thing.name for thing in things)


def test_core_imports_nothing_of_the_project_but_for_save_and_load_and_checkpoints_read_files_without_it():
    outside = {
        (room, other) for _, room, other, _ in arrows() if room.startswith("core") and not other.startswith("core")
    }
    assert outside == {("core", "checkpoints/models")}
    users = {
        room for _, room, other, is_late in arrows() if room.startswith("checkpoints") and other.startswith("core")
    }
    assert users <= {
        "checkpoints/models",
        "checkpoints/models/adapters",
        "checkpoints/models/trees",
        "checkpoints/runs/training",
        "checkpoints/runs/history",
        "checkpoints/testing",
    }
