"""The Report that the doctor returns, and its Findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One bug. kind: the family of checks. name: the full name of the parameter or module. fix: code that fixes it."""

    kind: str
    name: str
    seen: str
    fix: str

    def __str__(self) -> str:
        return f"{self.name} [{self.kind}]\n  seen: {self.seen}\n  fix: {self.fix}"


@dataclass(frozen=True, repr=False)
class Report:
    """The findings on a model, in the order of the checks. Print it to read them.

    A report is true if there are no findings, so `assert doctor(model)` is a test. looked_at: what was examined.
    """

    model: str
    findings: tuple[Finding, ...]
    looked_at: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if there are no findings."""
        return not self.findings

    def __bool__(self) -> bool:
        return self.ok

    def about(self, name: str) -> list[Finding]:
        """Return the findings on the parameter or module with this name."""
        return [finding for finding in self.findings if finding.name == name]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as dicts and lists, for JSON."""
        findings = [vars(finding) for finding in self.findings]
        return {"model": self.model, "ok": self.ok, "findings": findings, "looked_at": list(self.looked_at)}

    def __str__(self) -> str:
        count = len(self.findings)
        found = "nothing found" if self.ok else f"{count} finding{'' if count == 1 else 's'}"
        heading = f"{self.model}: {found} (looked at {', '.join(self.looked_at)})"
        return "\n\n".join([heading, *map(str, self.findings)])

    __repr__ = __str__


def in_code(path: str, model: str = "model") -> str:
    """Return a dotted name as Python code: layers.0.weight is model.layers[0].weight."""
    parts = path.split(".") if path else []
    return model + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts)
