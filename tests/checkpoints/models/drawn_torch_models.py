"""PyTorch models with every kind of sharing, drawn by hypothesis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    import torch

KINDS = ("float32", "float64", "bfloat16", "float16", "float8_e4m3fn", "int64", "uint8", "bool", "complex64")


@dataclass(frozen=True)
class Piece:
    """A tensor of a model: a view of a storage, as a parameter or a buffer, or an earlier object again."""

    storage: int
    view: str
    is_parameter: bool
    same_as: int | None


@dataclass(frozen=True)
class Spec:
    """A model: the dtype of each storage, the pieces of each submodule, and which submodules are there twice."""

    kinds: tuple[str, ...]
    modules: tuple[tuple[Piece, ...], ...]
    twice: tuple[int, ...]


VIEWS = ("whole", "transposed", "rows", "column", "steps", "repeated", "number", "empty")


def _pieces(storages: int) -> st.SearchStrategy[Piece]:
    return st.builds(
        Piece,
        storage=st.integers(0, storages - 1),
        view=st.sampled_from(VIEWS),
        is_parameter=st.booleans(),
        same_as=st.none() | st.integers(0, 3),
    )


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    kinds = tuple(draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3)))
    pieces = st.lists(_pieces(len(kinds)), max_size=4).map(tuple)
    modules = tuple(draw(st.lists(pieces, min_size=1, max_size=3)))
    return Spec(kinds, modules, tuple(draw(st.lists(st.integers(0, len(modules) - 1), max_size=2))))


def build(torch: Any, spec: Spec, seed: int) -> torch.nn.Module:
    """Return the model of a spec, with values that follow from the seed."""
    generator = torch.Generator().manual_seed(seed)
    storages = []
    for kind in spec.kinds:
        dtype = getattr(torch, kind)
        bits = torch.randint(0, 2 if kind == "bool" else 120, (16 * dtype.itemsize,), generator=generator)
        storages.append(bits.to(torch.uint8).view(dtype).reshape(4, 4))
    model, made = torch.nn.Module(), []
    for number, pieces in enumerate(spec.modules):
        part = torch.nn.Module()
        for position, piece in enumerate(pieces):
            tensor = _tensor(torch, piece, storages, made)
            made.append(tensor)
            if isinstance(tensor, torch.nn.Parameter):
                part.register_parameter(f"p{position}", tensor)
            else:
                part.register_buffer(f"b{position}", tensor)
        model.add_module(f"m{number}", part)
    for number, module in enumerate(spec.twice):
        model.add_module(f"again{number}", model.get_submodule(f"m{module}"))
    return model


def _tensor(torch: Any, piece: Piece, storages: list[Any], made: list[Any]) -> Any:
    if piece.same_as is not None and piece.same_as < len(made):
        return made[piece.same_as]
    whole = storages[piece.storage]
    view = {
        "whole": lambda: whole,
        "transposed": lambda: whole.t(),
        "rows": lambda: whole[1:3],
        "column": lambda: whole[:, 1],
        "steps": lambda: whole[::2, ::3],
        "repeated": lambda: whole[:1].expand(3, 4),
        "number": lambda: whole[2, 2],
        "empty": lambda: whole[:0],
    }[piece.view]()
    if not piece.is_parameter:
        return view
    return torch.nn.Parameter(view, requires_grad=view.is_floating_point() or view.is_complex())


def bits_of(torch: Any, tensor: Any) -> bytes:
    """Return the bytes of a tensor's elements in order."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def sharing_of(model: torch.nn.Module) -> dict[str, tuple[Any, ...]]:
    """Return for each name the first name on its storage, its place there, and the first name of its object."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    storages: dict[int, str] = {}
    objects: dict[int, str] = {}
    return {
        name: (
            storages.setdefault(tensor.untyped_storage().data_ptr(), name) if tensor.numel() else None,
            tensor.storage_offset(),
            tensor.stride(),
            objects.setdefault(id(tensor), name),
        )
        for name, tensor in tensors
    }
