"""Loading a file into a model. Core is imported only when it is used."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..errors import ArgumentError, MismatchError, enough_memory, nearest
from ..files import open_checkpoint
from ..formats import DEFAULT, format_named
from ..reading.lazy import Checkpoint
from ..state.sharing import pack
from .adapters import adapter_of
from .ties import Loaded, lacking, with_shapes_of

if TYPE_CHECKING:
    from ...core.commit.commit import Commit
    from ..mapping import Mapping

Ties = Literal["error", "restore", "copy"]

_TIE = 'Tie them in the model, or pass ties="restore" to have that done, or ties="copy" to give each its own copy.'
_MOST_STARTS = 5
_NO_NAME = "Check the prefix; inspect(file) lists the names."
_BUILD = "Build the model with them sharing memory as they do in the file."


@enough_memory("the file was not loaded, and the model is unchanged", "Free some memory.")
def load_model(
    model: Any,
    file: Any,
    strict: bool = True,
    cast: bool = False,
    ties: Ties = "error",
    *,
    prefix: str = "",
    verify: bool = True,
    skip_unsupported: bool = False,
    mapping: Mapping | None = None,
) -> Any:
    """Copy the values in a file into the model's own arrays. Return (missing_keys, unexpected_keys).

    A model whose arrays cannot change, such as a JAX pytree, is not changed: a new one is returned.

    strict=False skips names that are only on one side and values with a different shape, and lists them. cast=True
    converts to the model's dtypes. prefix: load only the names in the file that start with it, with the prefix removed:
    "model." for a training checkpoint. Only their bytes are read and checked.
    ties: what to do if names share memory in the file but not in the model. "error" refuses. "restore" makes them share
    memory in the model too; create the optimizer afterwards, since a tied name gets a new object. "copy" gives each
    name its own copy of the values. Names that are not loaded are ignored.
    A file may hold one of several names whose memory the model shares whole, as safetensors.torch.save_model writes it.
    file, verify, skip_unsupported, mapping: as for load_file. The mapping applies to names without the prefix.
    Raises MismatchError listing every problem, also if no name matches, or what load_file raises. The model is
    unchanged in these cases, and an interrupt such as Ctrl-C leaves all of the old values or all of the new ones.
    """
    adapter_of(model)
    if ties not in get_args(Ties):
        raise ArgumentError(f'ties is "error", "restore" or "copy", not {ties!r}.')
    with open_checkpoint(file, verify=verify) as checkpoint:
        load = plan_model(
            model, checkpoint, strict, cast, ties, prefix=prefix, skip_unsupported=skip_unsupported, mapping=mapping
        )
        return load.apply()


class ModelLoad:
    """A load whose file was read and compared with the model. Nothing has changed yet, and the file is still open.

    commit: the changes of the model, to which those of an optimizer can be added. result: what load_model returns.
    """

    def __init__(self, checkpoint: Checkpoint, commit: Commit, result: Any) -> None:
        self._checkpoint, self.commit, self.result = checkpoint, commit, result

    def apply(self) -> Any:
        """Make all changes, or none if anything is raised: MismatchError if a set_extra_state refuses its value."""
        from ...core.errors import StateDictError

        self._checkpoint.refuse_changed()
        try:
            self.commit.apply()
        except StateDictError as error:
            raise MismatchError(
                os.path.basename(self._checkpoint.name), error.model, error.problems, error.advice
            ) from error
        return self.result


def plan_model(
    model: Any,
    checkpoint: Checkpoint,
    strict: bool = True,
    cast: bool = False,
    ties: Ties = "error",
    *,
    prefix: str = "",
    skip_unsupported: bool = False,
    mapping: Mapping | None = None,
) -> ModelLoad:
    """Read everything, and return the load that changes the model. Raises MismatchError as load_model does."""
    from ...core.commit.commit import Commit
    from ...core.errors import StateDictError
    from ...core.nn.module.loading import plan_load

    source, adapter = os.path.basename(checkpoint.name), adapter_of(model)
    targets = adapter.targets(model)
    targets = targets._replace(tied_once=targets.in_place)  # as safetensors.torch saves
    if not any(name.startswith(prefix) for name in checkpoint):
        _refuse_prefix(source, targets.kind, prefix, checkpoint)
    live = {name: array for name, array in targets.known.items() if isinstance(array, np.ndarray)}
    part = _part(checkpoint, prefix, skip_unsupported, mapping, is_copied=targets.in_place)
    loaded = with_shapes_of(live, part)
    steps, apart = [], [] if ties == "copy" or not adapter.binds_ties else list(lacking(loaded, live))
    if ties == "restore":
        steps, apart = adapter.tie(model, targets, loaded.state, apart)
    problems = [f"{pair.name}  shares memory with {pair.partner} in the file, not in the model" for pair in apart]
    advice = [] if not problems else [_TIE if ties == "error" else _BUILD]

    def without_prefix(more: str) -> str:
        if mapping is None:
            return f"load_model(model, file, prefix={prefix + more!r})"
        return f"the mapping [*mapping, StripPrefix({more!r})]"

    try:
        plan, cause = plan_load(targets, loaded.state, strict, cast, source, "the file", without_prefix), None
        if not problems:
            commit = Commit()
            # Arrays are copied into the model, but a set_extra_state may keep what it gets, which may be mapped. And a
            # new tree has the arrays themselves.
            is_kept = ties == "copy" and not adapter.binds_ties
            arrays = {name: value for name, value in plan.values.items() if isinstance(value, np.ndarray)}
            kept = {name: array.copy() for name, array in arrays.items() if is_kept or name not in live}
            changed = adapter.load(model, plan.values | kept, commit)
            commit.add(steps)  # after the values, which go into the arrays that the model has now
            return ModelLoad(checkpoint, commit, plan.result if changed is None else changed)
    except StateDictError as error:
        problems, advice, cause = problems + error.problems, [*advice, error.advice], error
    raise MismatchError(source, targets.kind, problems, "\n".join(advice)) from cause


def _part(
    checkpoint: Checkpoint, prefix: str, skip_unsupported: bool, mapping: Mapping | None, is_copied: bool
) -> Loaded:
    """Return the entries whose names start with `prefix`, with the prefix removed, as the mapping gives them.

    is_copied: whether the load only copies the values, so that they need no memory of their own.
    """
    mmap = "once" if is_copied else False
    # In the default format, other libraries say which names share memory, but not how. All others say it, or nothing.
    is_exact = checkpoint.fingerprint is not None or format_named(checkpoint.format) is not DEFAULT
    if mapping is not None:
        from ..mapping import rules_of
        from ..mapping.states import load_mapped

        state = load_mapped(checkpoint, rules_of(mapping), mmap, prefix=prefix, skip_unsupported=skip_unsupported)
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        return Loaded(state, pack(arrays, {}, arrays).aliases, is_exact)
    whole = checkpoint.load(mmap, prefix=prefix, skip_unsupported=skip_unsupported)
    state = {name.removeprefix(prefix): value for name, value in whole.items()}
    aliases = {
        name.removeprefix(prefix): alias._replace(kept=alias.kept.removeprefix(prefix))
        for name, alias in checkpoint.aliases.items()
        if name.startswith(prefix)
    }
    return Loaded(state, aliases, is_exact)


def _refuse_prefix(source: str, model: str, prefix: str, names: Collection[str]) -> None:
    """Raise MismatchError if a prefix was given, since no name in the file starts with it."""
    if not prefix:
        return  # an empty file fits an empty model
    starts = list(dict.fromkeys(name.partition(".")[0] + "." if "." in name else name for name in names))
    near = nearest(prefix, starts)
    found = f"they start with {', '.join(map(repr, starts[:_MOST_STARTS]))}" if starts else "it has no names"
    found += f" and {len(starts) - _MOST_STARTS:,} more" if len(starts) > _MOST_STARTS else ""
    found += f"; did you mean prefix={near!r}?" if near else ""
    raise MismatchError(source, model, [f"no name in the file starts with {prefix!r}: {found}"], _NO_NAME)
