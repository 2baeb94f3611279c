"""A model of the world: whatever several processes, kills and users do to a folder, what must be there is there.

    python tests/campaigns/world/world.py              # 200 stories of up to 40 steps, with counts; takes some minutes
    python tests/campaigns/world/world.py 20 --seed 7

Hypothesis makes up the stories. Processes save, load, publish and are killed; a user copies, renames, links, removes
and damages files. A dictionary says what each path may hold. A path holds a state that somebody saved there; a save
that was completed is lost only to a later save, to retention or to the user; files of others are as they were; and
once the next save is through, nothing else is left in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

from histories import CALLS, HISTORIES, WORKER, Histories, counts
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test
from workers import end_all, killed_or_done, worker
from world_worker import DAMAGED

NAMES = ("a.safetensors", "b.safetensors", "c.h5", "sub/a.safetensors", "sub/c.h5")
LINK = "link.safetensors"
ENTRY = "entry"
INDEX = ".index.json"
FOREIGN = {
    "notes.txt": b"mine",
    ".statezoo-mine": b"mine too",
    "sub/a-00001-of-00002.safetensors": b"of another program",
    "plain/step-00000007/half": b"being copied",
    "shared/step-00000008.safetensors.part": b"being copied",
}
HOW = st.sampled_from(("plain", "shards", "training"))


class World(Histories):
    """The folder, and what may be in it. at: the states that each path may hold, None for nothing."""

    def __init__(self) -> None:
        super().__init__()
        for name, content in FOREIGN.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(content)
        self.at: dict[str, set[Any]] = {name: {None} for name in (*NAMES, ENTRY)}
        self.link: str | None = None

    # Saves to paths.

    def real(self, name: str) -> str:
        return self.link or "" if name == LINK else name

    names = st.sampled_from((*NAMES, LINK)).filter(bool)

    @rule(name=names, by=WORKER, how=HOW, durable=st.booleans())
    def save(self, name: str, by: int, how: str, durable: bool) -> None:
        arguments = self._save(name, how, durable)
        if arguments is not None:
            worker(by).do("save", **arguments)
            self._saved(self.real(name), {arguments["number"]}, "save")

    @rule(name=names, by=WORKER, how=HOW, at=CALLS)
    def save_and_die(self, name: str, by: int, how: str, at: int) -> None:
        arguments = self._save(name, how, durable=True)
        if arguments is not None:
            worker(by).do("die_at", call=at)
            worker(by).begin("save", **arguments)
            self._died(by, self.real(name), arguments["number"])

    @rule(name=names, hows=st.tuples(HOW, HOW))
    def save_together(self, name: str, hows: tuple[str, str]) -> None:
        both = [self._save(name, how, durable=False) for how in hows]
        if both[0] is not None and both[1] is not None:
            for by, arguments in enumerate(both):
                worker(by).begin("save", **arguments or {})
            for by in (0, 1):
                worker(by).result()
            self._saved(self.real(name), {arguments["number"] for arguments in both if arguments}, "save together")

    @rule(name=names, how=HOW)
    def save_while_another_loads(self, name: str, how: str) -> None:
        arguments = self._save(name, how, durable=False)
        if arguments is not None:
            real = self.real(name)
            worker(0).begin("save", **arguments)
            found = worker(1).do("look", path=self.path(name))
            worker(0).result()
            assert found in self.at[real] | {arguments["number"]}, f"{found} at {name}, not {self.at[real]}"
            self._saved(real, {arguments["number"]}, "save while another loads")

    @rule(name=names, by=WORKER)
    def load(self, name: str, by: int) -> None:
        real = self.real(name)
        if real:
            found = worker(by).do("look", path=self.path(name))
            assert found in self.at[real], f"{found} at {name}, not {self.at[real]}"
            self.at[real] = {found}
            counts["load"] += 1

    def _save(self, name: str, how: str, durable: bool) -> dict[str, Any] | None:
        if not self.real(name) or (how == "shards" and name.endswith(".h5")):
            return None
        return {"path": self.path(name), "number": self.next_number(), "how": how, "durable": durable}

    def _saved(self, name: str, numbers: set[Any], what: str) -> None:
        self.at[name] = numbers
        self.dirty.discard(name)
        counts[what] += 1

    def _died(self, by: int, name: str, number: int) -> None:
        if killed_or_done(by):
            self.at[name] = self.at[name] | {number}
            self.dirty.add(name)
            counts["kill"] += 1
        else:
            self._saved(name, {number}, "save")

    # What a user does.

    def _is_plain(self, name: str) -> bool:
        return (
            os.path.isfile(self.path(name)) and not os.path.exists(self.path(name) + INDEX) and name not in self.dirty
        )

    def _is_free(self, name: str) -> bool:
        return (
            not os.path.lexists(self.path(name))
            and not os.path.lexists(self.path(name) + INDEX)
            and name not in self.dirty
        )

    @rule(name=st.sampled_from(NAMES), other=st.sampled_from(NAMES), way=st.sampled_from(("copy", "rename", "link")))
    def give_another_name(self, name: str, other: str, way: str) -> None:
        if not self._is_plain(name) or not self._is_free(other) or Path(name).suffix != Path(other).suffix:
            return
        {"copy": shutil.copy2, "rename": os.rename, "link": os.link}[way](self.path(name), self.path(other))
        self.at[other] = self.at[name]
        if way == "rename":
            self.at[name] = {None}
        counts[way] += 1

    @precondition(lambda self: self.link is None)
    @rule(name=st.sampled_from([name for name in NAMES if name.endswith(".safetensors")]))
    def make_link(self, name: str) -> None:
        os.symlink(name, self.path(LINK))
        self.link = name
        counts["symbolic link"] += 1

    @precondition(lambda self: self.link is not None and LINK not in self.dirty)
    @rule()
    def remove_link(self) -> None:
        os.unlink(self.path(LINK))
        self.link = None

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        if name in self.dirty:
            return
        for path in (self.path(name), self.path(name) + INDEX):
            if os.path.exists(path):
                for shard in self._shards(path):
                    os.unlink(shard)
                os.unlink(path)
        self.at[name] = {None}
        counts["remove"] += 1

    @rule(name=st.sampled_from(NAMES), where=st.floats(0, 1, exclude_max=True), way=st.sampled_from(("flip", "cut")))
    def damage(self, name: str, where: float, way: str) -> None:
        if not self._is_plain(name):
            return
        status = os.stat(self.path(name))
        if status.st_nlink == 1 and status.st_size:  # an earlier cut may have left an empty file
            _damage(Path(self.path(name)), where, way)
            self.at[name] = self.at[name] | {DAMAGED}
            counts[way] += 1

    @staticmethod
    def _shards(path: str) -> list[str]:
        if not path.endswith(INDEX):
            return []
        names = json.loads(Path(path).read_bytes())["weight_map"].values()
        return sorted({os.path.join(os.path.dirname(path), name) for name in names})

    # Entries.

    @rule(by=WORKER)
    def publish(self, by: int) -> None:
        number = self.next_number()
        worker(by).do("publish", folder=self.path(ENTRY), number=number)
        self._saved(ENTRY, {number}, "publish")

    @rule(by=WORKER, at=CALLS)
    def publish_and_die(self, by: int, at: int) -> None:
        number = self.next_number()
        worker(by).do("die_at", call=at)
        worker(by).begin("publish", folder=self.path(ENTRY), number=number)
        self._died(by, ENTRY, number)
        found = worker(by).do("look_at_published", folder=self.path(ENTRY))
        assert found in self.at[ENTRY], f"{found} is published, not {self.at[ENTRY]}"
        self.at[ENTRY] = {found}

    # What is always so.

    @invariant()
    def foreign_files_are_untouched(self) -> None:
        for name, content in FOREIGN.items():
            assert (self.root / name).read_bytes() == content, f"{name} was changed"

    @invariant()
    def nothing_is_left_over(self) -> None:
        if self.dirty:
            return
        left = {str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir()}
        left -= {*FOREIGN, *NAMES, LINK, f"{ENTRY}/manifest.json", f"{ENTRY}/model.safetensors"}
        left -= {f"{name}/history.jsonl" for name in self.steps}
        if "copy" in self.steps:
            left -= {
                name.replace(old, "copy", 1) for name in FOREIGN for old in HISTORIES if name.startswith(f"{old}/")
            }
        for index in self.root.rglob(f"*{INDEX}"):
            left -= {str(Path(path).relative_to(self.root)) for path in (index, *self._shards(str(index)))}
        for name, steps in self.steps.items():
            left -= {f"{name}/step-{step:08}.safetensors" for step in steps}
        assert not left, f"{sorted(left)} belongs to nothing"


def _damage(path: Path, where: float, way: str) -> None:
    content = bytearray(path.read_bytes())
    place = int(where * len(content))
    if way == "flip":
        content[place] ^= 0x10
    path.write_bytes(content if way == "flip" else content[:place])


def run(stories: int, start: int, steps: int = 40) -> None:
    """Play stories. Raises AssertionError, with the shortest story that fails."""
    config = settings(
        max_examples=stories,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
    )
    try:
        run_state_machine_as_test(seed(start)(World), settings=config)
    finally:
        end_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stories", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        run(arguments.stories, arguments.seed)
    finally:
        for what, number in counts.most_common():
            print(f"{number:6,} {what}")
        print(f"{counts.total():,} steps")


if __name__ == "__main__":
    main()
