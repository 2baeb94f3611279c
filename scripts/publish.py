"""Publish a finished run as a zoo entry: evaluated, written, loaded back and compared before it appears.

    python scripts/publish.py runs/tense-mlp --zoo my-zoo
    python scripts/publish.py runs/tense-mlp --force

Without --zoo the entry goes beside its architecture in this checkout, as the zoo's own entries do.
"""

import argparse
import sys
from pathlib import Path

from statezoo import zoo
from statezoo.checkpoints import CheckpointError
from statezoo.core import ModuleError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder made by scripts/train.py")
    parser.add_argument("--zoo", type=Path, help="the folder that holds the entry's folder")
    parser.add_argument("--force", action="store_true", help="replace an entry of the same name")
    parsed = parser.parse_args(arguments)
    try:
        entry = zoo.publish(parsed.run, parsed.zoo, force=parsed.force)
    except (CheckpointError, ModuleError, zoo.ZooError, OSError) as error:
        print(f"publish.py: {error}", file=sys.stderr)
        return 1
    print(f'published; load it with: zoo.load("file:{entry}")')
    return 0


if __name__ == "__main__":
    sys.exit(main())
