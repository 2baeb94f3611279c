"""The arguments of a campaign, and how it prints its counts and fails."""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence

BROKEN = "BROKEN"


def arguments(description: str | None, trials: int) -> argparse.ArgumentParser:
    """Return a parser of a number of trials and a seed. trials: the default number."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="?", type=int, default=trials, help=f"default: {trials:,}")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="default: a new one")
    return parser


def conclude(seed: int, counts: Counter[str], failures: Sequence[str] = ()) -> int:
    """Print the failures and the counts. Return the exit status.

    A count whose name starts with BROKEN counts failures, too.
    """
    print(*failures, sep="\n")
    for what, count in sorted((+counts).items()):
        print(f"{count:9,} {what}")
    failed = len(failures) + sum(broken(counts).values())
    print(f"seed {seed}: {failed:,} failures")
    return 1 if failed else 0


def broken(counts: Counter[str]) -> Counter[str]:
    """Return the counts of what must not happen."""
    return Counter({what: count for what, count in counts.items() if what.startswith(BROKEN)})
