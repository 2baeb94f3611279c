"""The packages, found: every folder with an __init__.py. All else stands in pyproject.toml."""

from setuptools import find_packages, setup

TOPS = ("core", "checkpoints", "zoo", "scripts")
packages = [
    "statezoo",
    *(f"statezoo.{name}" for top in TOPS for name in (top, *(f"{top}.{p}" for p in find_packages(top)))),
]
setup(packages=packages)
