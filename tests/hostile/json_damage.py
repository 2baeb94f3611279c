"""JSON files with anything at any position, as a hostile or broken program may write them."""

import json
from collections.abc import Iterator
from typing import Any

# Each is the text of a JSON value, or of what Python's parser takes for one.
VALUES = (
    "null", "true", "false", "0", "-1", "1", "2.5", "1e400", "-1e400", "NaN", "-Infinity", "1e-400",
    "9" * 30, "9" * 5000, "[]", "{}", '""', '"text"', '"\\ud800"', '"\\u0000\\u001b[2J\\u202e"', '"../../etc/passwd"',
    "[[[[1]]]]", '{"a": {"b": [null]}}', "[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, "nonsense",
)  # fmt: skip
NAMES = ("", "\x1b[2J\n", "__class__", "self", "a" * 10_000, "\u202e", "/")


def damaged(text: str) -> Iterator[str]:
    """Yield the text of a JSON file with one position changed: to each value, removed, renamed or named twice."""
    content = json.loads(text)
    for path in positions(content):
        for value in VALUES:
            yield _with(content, path, value)
        if path and isinstance(path[-1], str):
            yield _without(content, path)
            for name in NAMES:
                yield _renamed(content, path, name)
            yield _doubled(content, path)


def positions(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value; of a list, only the first and the last."""
    yield path
    if isinstance(content, dict):
        for key, value in content.items():
            yield from positions(value, (*path, key))
    elif isinstance(content, list):
        for number in sorted({0, len(content) - 1} if content else ()):
            yield from positions(content[number], (*path, number))


_MARK = "a place that no file holds"


def _with(content: Any, path: tuple[Any, ...], value: str) -> str:
    changed = json.loads(json.dumps({"root": content}))
    _parent(changed, ("root", *path))[("root", *path)[-1]] = _MARK
    return json.dumps(changed["root"]).replace(json.dumps(_MARK), value)


def _without(content: Any, path: tuple[Any, ...]) -> str:
    changed = json.loads(json.dumps(content))
    del _parent(changed, path)[path[-1]]
    return json.dumps(changed)


def _renamed(content: Any, path: tuple[Any, ...], name: str) -> str:
    changed = json.loads(json.dumps(content))
    parent = _parent(changed, path)
    parent[name] = parent.pop(path[-1])
    return json.dumps(changed)


def _doubled(content: Any, path: tuple[Any, ...]) -> str:
    changed = json.loads(json.dumps(content))
    _parent(changed, path)[_MARK] = None
    return json.dumps(changed).replace(json.dumps(_MARK), json.dumps(path[-1]))


def _parent(content: Any, path: tuple[Any, ...]) -> Any:
    for step in path[:-1]:
        content = content[step]
    return content
