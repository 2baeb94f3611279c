"""End the training of every zoo entry by SIGKILL, Ctrl-C or SIGTERM, repeatedly, and compare with an undisturbed run.

    python tests/campaigns/resume/campaign.py                      # the unchanged recipes: `make resume`
    python tests/campaigns/resume/campaign.py --epochs 6 --kills 8 --seed 5 tense-mlp

Prints a line for each entry and format; exit status 1 if one file differs in one byte. Of a run.json, the wall time and
the commit of the checkout are left out.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from killing import Case, Whole, differences, kill_and_resume

from statezoo import zoo

FORMATS = ("safetensors", "hdf5", "npz")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="entries (all whose data need no folder)")
    parser.add_argument("--kills", type=int, default=8, help="for each entry and format (8)")
    parser.add_argument("--epochs", type=int, help="at most so many, to shorten it")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parsed = parser.parse_args()
    print(f"seed {parsed.seed}")
    rng, total, differing = random.Random(parsed.seed), 0, 0
    for name in parsed.names or [name for name in zoo.recipes() if not zoo.get_recipe(name).reads_folder]:
        for format in FORMATS:
            epochs = min(parsed.epochs, zoo.get_recipe(name).epochs) if parsed.epochs else None
            kills, different = strike(Case(name, format, epochs), parsed.kills, rng)
            total, differing = total + kills, differing + len(different)
    print(f"{total} kills, {differing} files that differ")
    return 1 if differing else 0


def strike(case: Case, kills: int, rng: random.Random) -> tuple[int, list[str]]:
    """Kill runs of a case until there have been enough kills. Return their number and the files that differ."""
    began, done, runs = time.monotonic(), 0, 0
    different: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        whole = Whole.of(case, Path(scratch) / "whole")
        while done < kills:
            out = Path(scratch) / f"killed-{runs}"
            done += kill_and_resume(case, whole, out, kills - done, rng)
            different += differences(whole.folder, out)
            runs += 1
    took_s = time.monotonic() - began
    verdict = f"DIFFER: {', '.join(different)}" if different else "the same bytes"
    print(f"{case.name:28} {case.format:12} {done:3} kills  {runs:2} runs  {took_s:6.1f} s  {verdict}", flush=True)
    return done, different


if __name__ == "__main__":
    sys.exit(main())
