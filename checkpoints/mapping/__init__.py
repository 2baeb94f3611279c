"""Mappings between the names and layouts of a file and those of a model: short lists of reversible rules.

    from statezoo.checkpoints.mapping import Rewrite, Transpose

    rules = [Transpose(r".*\\.kernel"), Rewrite(r"(.*)\\.kernel", r"\\1.weight")]
    load_model(model, "theirs.h5", mapping=rules)       # their names and layouts become ours
    save_model(model, "theirs.h5", mapping=rules)       # and back

docs/mapping.md lists the rules, the presets and the form of a file of rules.
"""

from .layouts import Cast, Regroup, Reshape, Transpose
from .parts import Concatenate, Split
from .presets import PRESETS
from .rules import AddPrefix, Fill, Ignore, Preset, Rename, Rewrite, Rule, StripPrefix
from .text import Mapping, reverse, rules_of

__all__ = [
    "PRESETS",
    "AddPrefix",
    "Cast",
    "Concatenate",
    "Fill",
    "Ignore",
    "Mapping",
    "Preset",
    "Regroup",
    "Rename",
    "Reshape",
    "Rewrite",
    "Rule",
    "Split",
    "StripPrefix",
    "Transpose",
    "reverse",
    "rules_of",
]
