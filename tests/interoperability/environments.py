"""The environments in which the cells run: python tests/interoperability/environments.py makes those that are missing.

Libraries that do not fit together have environments of their own under build/readers. Each sees the packages of the
environment that runs this script too, so PyTorch is there only once, and is never replaced.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[2] / "build" / "readers"
# No cell may reach out for models or packages, and no other process may be slowed down.
_QUIET = {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}


class Environment(NamedTuple):
    """What is installed beside our own packages, and the variables that are set. alone: without its dependencies."""

    requirements: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


ENVIRONMENTS = {
    "main": Environment(),
    "keras on torch": Environment(variables=(("KERAS_BACKEND", "torch"),)),
    "keras on jax": Environment(variables=(("KERAS_BACKEND", "jax"),)),
    "transformers-4": Environment(("transformers>=4.57,<5",)),
    "transformers-5": Environment(("transformers>=5,<6", "accelerate>=1.15,<2")),
    # torchvision asks for a build of PyTorch that need not be the one at hand; timm needs only what is Python in it.
    "others": Environment(("pyfive>=1.3,<2", "tinygrad>=0.14,<0.15"), ("timm>=1.0.31,<2", "torchvision==0.28.0")),
}


def python_of(name: str) -> str:
    """Return the Python of an environment."""
    return str(_own_python(name)) if ENVIRONMENTS[name].requirements else sys.executable


def variables_of(name: str) -> dict[str, str]:
    """Return the environment variables of the processes of an environment."""
    return {**os.environ, **_QUIET, **dict(ENVIRONMENTS[name].variables)}


def _own_python(name: str) -> Path:
    return FOLDER / name / ("Scripts" if os.name == "nt" else "bin") / "python"


def _make(name: str, environment: Environment) -> None:
    place = FOLDER / name
    venv.create(place, with_pip=False, clear=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
    (own / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    (place / "constraints.txt").write_text(f"torch=={version('torch')}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(_own_python(name)), "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--constraint", str(place / "constraints.txt")]
    subprocess.run([*pip, *environment.requirements], check=True)
    if environment.alone:
        subprocess.run([*pip, "--no-deps", *environment.alone], check=True)


if __name__ == "__main__":
    for name, environment in ENVIRONMENTS.items():
        if environment.requirements:
            print(f"installing {', '.join(environment.requirements + environment.alone)}", flush=True)
            _make(name, environment)
