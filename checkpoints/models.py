"""Saving a model, and loading a file into one. Core is imported only when it is used."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, get_args

import numpy as np

from . import files
from .errors import ArgumentError, MismatchError, UnsupportedTypeError, enough_memory, nearest
from .files import open_checkpoint
from .reading.lazy import Checkpoint
from .state import sharing
from .state.validation import reading_names

if TYPE_CHECKING:
    from ..core.commit.steps import Step
    from ..core.nn.module.changes import Changes
    from ..core.nn.module.loading import LoadPlan, LoadResult
    from ..core.nn.module.module import Module
    from ..core.nn.module.parameter import Buffer, Parameter

Ties = Literal["error", "restore", "copy"]

_TIE = 'Tie them in the model, or pass ties="restore" to have that done, or ties="copy" to give each its own copy.'
_MOST_STARTS = 5
_NO_NAME = "Check the prefix; inspect(file) lists the names."
_BUILD = "Build the model with them sharing memory as they do in the file."


def save_model(
    model: Module,
    file: str | os.PathLike[str] | BinaryIO,
    metadata: Mapping[str, str] | None = None,
    *,
    durable: bool = True,
    max_shard_size: int | str | None = None,
    format: str | None = None,
    snapshot: bool = False,
) -> None:
    """Write the state of a model to a file: every parameter, persistent buffer and extra state, with their ties.

    For the other arguments and the errors, see save_file.
    """
    with reading_names():
        state = checked_model(model).state_dict()
    files.save_file(
        state, file, metadata, durable=durable, max_shard_size=max_shard_size, format=format, snapshot=snapshot
    )


@enough_memory("the file was not loaded, and the model is unchanged", "Free some memory.")
def load_model(
    model: Module,
    file: Any,
    strict: bool = True,
    cast: bool = False,
    ties: Ties = "error",
    *,
    prefix: str = "",
    verify: bool = True,
    skip_unsupported: bool = False,
) -> LoadResult:
    """Copy the values in a file into the model's own arrays. Return (missing_keys, unexpected_keys).

    strict=False skips names that are only on one side and values with a different shape, and lists them. cast=True
    converts to the model's dtypes. prefix: load only the names in the file that start with it, with the prefix removed:
    "model." for a training checkpoint. Only their bytes are read and checked.
    ties: what to do if names share memory in the file but not in the model. "error" refuses. "restore" makes them share
    memory in the model too; create the optimizer afterwards, since a tied name gets a new object. "copy" gives each
    name its own copy of the values. Names that are not loaded are ignored.
    file, verify, skip_unsupported: as for load_file.
    Raises MismatchError listing every problem, also if no name matches, or what load_file raises. The model is
    unchanged in these cases, and an interrupt such as Ctrl-C leaves all of the old values or all of the new ones.
    """
    checked_model(model)
    if ties not in get_args(Ties):
        raise ArgumentError(f'ties is "error", "restore" or "copy", not {ties!r}.')
    with open_checkpoint(file, verify=verify) as checkpoint:
        load = plan_model(model, checkpoint, strict, cast, ties, prefix=prefix, skip_unsupported=skip_unsupported)
    return load.apply()


class ModelLoad:
    """A load whose file was read and compared with the model. Nothing has changed yet.

    commit: the changes of the model, to which those of an optimizer can be added.
    """

    def __init__(self, plan: LoadPlan, source: str, ties: Iterable[Step]) -> None:
        from ..core.commit.commit import Commit

        self._plan, self._source, self.commit = plan, source, Commit()
        plan.add_to(self.commit)
        self.commit.add(ties)  # after the values, which go into the arrays that the model has now

    def apply(self) -> LoadResult:
        """Make all changes, or none if anything is raised: MismatchError if a set_extra_state refuses its value."""
        from ..core.errors import StateDictError

        try:
            self.commit.apply()
        except StateDictError as error:
            raise MismatchError(self._source, error.model, error.problems, error.advice) from error
        return self._plan.result


def plan_model(
    model: Module,
    checkpoint: Checkpoint,
    strict: bool = True,
    cast: bool = False,
    ties: Ties = "error",
    *,
    prefix: str = "",
    skip_unsupported: bool = False,
) -> ModelLoad:
    """Read everything, and return the load that changes the model. Raises MismatchError as load_model does."""
    from ..core.errors import StateDictError
    from ..core.nn.module.loading import plan_load

    source = os.path.basename(checkpoint.name)
    if not any(name.startswith(prefix) for name in checkpoint):
        _refuse_prefix(source, type(model).__name__, prefix, checkpoint)
    live = {name: array for name, array in model.state_dict().items() if isinstance(array, np.ndarray)}
    loaded = _with_shapes_of(live, _part(checkpoint, prefix, skip_unsupported))
    steps, problems = ([], []) if ties == "copy" else _plan_ties(model, live, loaded, ties == "restore")
    advice = [] if not problems else [_TIE if ties == "error" else _BUILD]

    def without_prefix(more: str) -> str:
        return f"load_model(model, file, prefix={prefix + more!r})"

    try:
        plan, cause = plan_load(model, loaded.state, strict, cast, source, "the file", without_prefix), None
        if not problems:
            return ModelLoad(plan, source, steps)
    except StateDictError as error:
        problems, advice, cause = problems + error.problems, [*advice, error.advice], error
    raise MismatchError(source, type(model).__name__, problems, "\n".join(advice)) from cause


def _part(checkpoint: Checkpoint, prefix: str, skip_unsupported: bool) -> _Loaded:
    """Return the entries whose names start with `prefix`, with the prefix removed."""
    ours = checkpoint.fingerprint is not None
    whole = checkpoint.load(prefix=prefix, skip_unsupported=skip_unsupported)
    state = {name.removeprefix(prefix): value for name, value in whole.items()}
    aliases = {
        name.removeprefix(prefix): alias._replace(kept=alias.kept.removeprefix(prefix))
        for name, alias in checkpoint.aliases.items()
        if name.startswith(prefix)
    }
    return _Loaded(state, aliases, ours)


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


def checked_model(model: Any) -> Module:
    from ..core.nn.module.module import Module

    if not isinstance(model, Module):
        raise UnsupportedTypeError(
            f"a model is a statezoo Module, not {type(model).__name__}. For a dict of arrays: save_file, load_file."
        )
    return model


class _Loaded(NamedTuple):
    """A state from a file. aliases: the names that share memory. ours: whether statezoo wrote the file."""

    state: dict[str, Any]
    aliases: Mapping[str, sharing.Alias]
    ours: bool


class _Pair(NamedTuple):
    """A name, and an earlier or the kept name that it shares memory with in a file."""

    name: str
    partner: str


def _plan_ties(
    model: Module, live: Mapping[str, np.ndarray], loaded: _Loaded, restore: bool
) -> tuple[list[Step], list[str]]:
    """Return steps that make the ties missing in the model, and a problem for each tie that is not made."""
    from ..core.nn.module.changes import Changes

    steps, changes, problems = [], Changes(), []
    for pair in _lacking(loaded, live):
        made = _remake(model, pair, loaded.state, changes) if restore else None
        if made is None:
            problems.append(f"{pair.name}  shares memory with {pair.partner} in the file, not in the model")
        else:
            steps += made
    return steps + changes.steps(), problems


def _lacking(loaded: _Loaded, live: Mapping[str, np.ndarray]) -> Iterator[_Pair]:
    """Yield the pairs that share memory in the file but not in the model. Both names are loaded."""
    families: dict[str, list[str]] = {}
    for name, alias in loaded.aliases.items():
        families.setdefault(alias.kept, [alias.kept]).append(name)
    for family in families.values():
        known = [name for name in family if _is_loaded(name, live, loaded.state)]
        for position, name in enumerate(known):
            for partner in known[:position]:
                if sharing.shares(loaded.state[partner], loaded.state[name]):
                    if not sharing.shares(live[partner], live[name]):
                        yield _Pair(name, partner)
                    break


def _is_loaded(name: str, live: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> bool:
    """Return True if a name is on both sides with one shape. Different shapes are skipped or reported elsewhere."""
    return name in live and name in state and live[name].shape == np.shape(state[name])


def _remake(model: Module, pair: _Pair, state: Mapping[str, Any], changes: Changes) -> list[Step] | None:
    """Make a pair share memory in the model as in `state`, by `changes` and by the steps returned.

    Return None if the arrays do not fit.
    """
    from ..core.autograd.base import set_data
    from ..core.nn.module.parameter import Parameter

    tensors = dict(_tensors(model))
    if pair.partner not in tensors or pair.name not in tensors:
        return None  # an array that is extra state
    base, tensor = tensors[pair.partner], tensors[pair.name]
    whole, part = state[pair.partner], state[pair.name]
    alias = sharing.pack({pair.partner: whole, pair.name: part}, {}, pair).aliases.get(pair.name)
    fits = _alike(base.data, whole) and base.data.strides == whole.strides
    # If the kept tensor is the other one, or a storage, there is no array in the model to make a view of.
    if alias is None or alias.kept != pair.partner or not fits or not _alike(tensor.data, part):
        return None
    places = [name for name, other in tensors.items() if other is tensor]
    others = [other for name, other in tensors.items() if name not in places]
    # New memory for this tensor would untie the tensors that share its memory now.
    if any(sharing.shares(tensor.data, other.data) for other in others) or not part.flags.writeable:
        return None
    if alias.view is None and type(base) is type(tensor):
        made = base
    elif isinstance(base, Parameter) and isinstance(tensor, Parameter) and base.dtype == tensor.dtype:
        made = Parameter.view_of(base, _placed(base.data, whole, part), tensor.requires_grad)
    else:
        return [(set_data, tensor, _placed(base.data, whole, part))]
    for name in places:
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        if isinstance(made, Parameter):
            changes.put(owner, "_parameters", leaf, made)
        else:
            changes.put(owner, "_buffers", leaf, made)
            changes.persist(owner, leaf, made.persistent)
    return []


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype


def _placed(base: np.ndarray, whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return the view of `base` that corresponds to `part` as a view of `whole`. Both have the same strides."""
    order = sorted(range(whole.ndim), key=lambda axis: -whole.strides[axis])
    memory = base.transpose(order).reshape(-1).view(np.uint8)
    offset = part.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return np.ndarray(part.shape, part.dtype, memory.data, offset, part.strides)


def _tensors(model: Module) -> Iterator[tuple[str, Parameter | Buffer]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _with_shapes_of(live: Mapping[str, np.ndarray], loaded: _Loaded) -> _Loaded:
    """Return `loaded`, with ties of a foreign file that the model also has in the shape that they have in the model.

    Other libraries write a transposed or sliced view as a tie: only the model knows what kind of view it is.
    """
    if loaded.ours:
        return loaded
    state = dict(loaded.state)
    for name, alias in loaded.aliases.items():
        kept = alias.kept
        if name in live and kept in live and sharing.shares(live[name], live[kept]):
            values = loaded.state[kept]
            if live[kept].shape == values.shape and live[kept].dtype == values.dtype:
                copy = sharing.copied({kept: live[kept], name: live[name]})
                copy[kept][...] = values
                state[name] = copy[name]
    return loaded._replace(state=state)
