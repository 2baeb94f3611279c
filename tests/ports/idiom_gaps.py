"""The idioms of idioms/*.txt that do not work on statezoo, each with the reason."""

GAPS: dict[str, str] = {}
