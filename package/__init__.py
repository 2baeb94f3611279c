"""Neural networks in NumPy, their checkpoints, and a zoo of small pretrained models."""

__version__: str


def __getattr__(name: str) -> str:
    # Read on first use: importlib.metadata takes longer to import than everything else here.
    if name == "__version__":
        from importlib.metadata import version

        return version("statezoo")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
