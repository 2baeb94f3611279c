"""Check that every entry is still what its card says: hashes, weights, golden values, metrics, in one table.

python scripts/verify_zoo.py
python scripts/verify_zoo.py simple-mlp.digits file:my-zoo/tense-mlp
python scripts/verify_zoo.py --repro                # also train each again, and compare

"""

import argparse
import sys

from statezoo import zoo
from statezoo.checkpoints import CheckpointError
from statezoo.core import ModuleError
from statezoo.zoo.publishing.text import table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="entries to check (all that come with statezoo)")
    parser.add_argument("--repro", action="store_true", help="run each recipe again, and compare what it makes")
    parsed = parser.parse_args(arguments)
    names = parsed.names or zoo.list_models()
    rows = [("entry", "check", "", "found")]
    for name in names:
        try:
            checks = zoo.verify(name)
            if parsed.repro:
                checks.append(reproduce(name))
        except (CheckpointError, ModuleError, zoo.ZooError) as error:
            checks = [zoo.Check("entry", False, str(error).splitlines()[0])]
        rows += [(name, check.name, "ok" if check.passed else "FAILED", check.found) for check in checks]
    print(table(rows))
    failed = sum(row[2] == "FAILED" for row in rows)
    print(f"{len(names)} entries, {failed} checks failed")
    return 1 if failed else 0


def reproduce(name: str) -> zoo.Check:
    found = zoo.repro(name)
    differs = ", ".join(f"{key} {here} (published with {old})" for key, (old, here) in found.environment.items())
    return zoo.Check("repro", found.passed, f"{found.summary}; {differs or 'in the same environment'}")


if __name__ == "__main__":
    sys.exit(main())
