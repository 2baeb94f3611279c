"""What docs/coming-from-pytorch.md says that the code cannot say: how names differ, and why others are missing."""

INTRODUCTION = """# Coming from PyTorch

A script for PyTorch runs here after its imports are changed:

```python
import statezoo.core as torch                     # import torch
import statezoo.core.nn as nn                     # import torch.nn as nn
import statezoo.core.nn.functional as F           # import torch.nn.functional as F
from statezoo.core import optim                   # from torch import optim
from statezoo.core.utils.data import DataLoader   # from torch.utils.data import DataLoader
```

[`examples/ports`](../examples/ports) holds scripts of the kinds that people learn from, each of which runs on both:
regression, digits, autoencoders, characters, GPT, transfer learning, Q-learning, saving and loading. The tests compare
their losses step by step. `python examples/ports/changed_lines.py` counts the lines of each that differ.

## What is different on purpose

- Everything is computed by NumPy, on the processor. A device other than "cpu" is an error, `cuda.is_available()` is
  False, and `.to(device)` returns the same tensor.
- `.data` and `.grad` are arrays with the methods of tensors. Where NumPy has a name of its own, it has NumPy's meaning:
  `p.grad.std()` divides by n ([decision 17](decisions/0017-arrays-with-the-methods-of-tensors.md)).
- `torch.save` writes no pickle, so it takes tensors, numbers, text, and dicts and lists of these, but no modules: save
  `model.state_dict()`. `torch.load` also reads files of PyTorch, without running code.
- The seed of PyTorch gives other numbers here. `manual_seed` repeats a run of this library.
- A loss refuses an output and a target whose shapes differ, where PyTorch broadcasts them after a warning.
- `nn.MultiHeadAttention` is this library's own. `nn.MultiheadAttention` is PyTorch's: True in its masks means that a
  position is left out; True in the other means that it is seen.
- `optimizer.step()` warns if no parameter has a gradient: PyTorch says nothing.

## Every name

The table and those below are made from the names of PyTorch 2.13 and the code. "Differs" lists parameters that are
missing here, and other behaviour. `out=` and memory layouts exist nowhere here and are not listed.
"""

REST = "rarely used in scripts"
# How a name that is here differs, beside parameters that are missing.
DIFFERENT: dict[str, str] = {
    "torch.load": "opens files of PyTorch and of this library, and runs no code",
    "torch.save": "writes no pickle: tensors, numbers, text, and dicts and lists of these",
    "torch.manual_seed": "returns a generator of NumPy, whose numbers are others",
    "torch.get_rng_state": "returns the state of NumPy's generator, as a dict",
    "torch.set_rng_state": "takes a dict that `get_rng_state` returned",
    "torch.nn.Module": "`state_dict()` returns arrays with the methods of tensors",
    "torch.Tensor.data": "is an array with the methods of a tensor",
    "torch.Tensor.grad": "is an array with the methods of a tensor",
    "torch.nn.MSELoss": "output and target must have one shape",
    "torch.nn.functional.mse_loss": "output and target must have one shape",
    "torch.optim.Optimizer": "`step()` warns if no parameter has a gradient",
}
# The first pattern that matches a name says why it is not here.
MISSING: tuple[tuple[str, str], ...] = (
    (r".*3d(_.*)?", "volumes"),
    (r"Lazy.*|Uninitialized.*|skip_init|stateless|module_load", "shapes are given when a layer is made"),
    (
        r"angle|(is_)?conj.*|imag|real|is_?real|.*complex.*|polar|(re)?solve_.*|adjoint|mH|c(double|float|half)|chalf"
        r"|sgn_?|is_neg",
        "complex numbers",
    ),
    (
        r".*[sS]parse.*|.*c?(row|col)_indices.*|.*coalesced?|to_dense|dense_dim|indices(_copy)?|values(_copy)?"
        r"|hspmm|smm|sspaddmm",
        "sparse tensors",
    ),
    (r".*quantize.*|q_.*|qscheme|int_repr", "quantization"),
    (
        r"cholesky.*|lu(_.*)?|qr|svd|(sym)?eig|geqrf|or[gm]qr|(log|slog)?det|p?inverse|matrix_.*|solve|triangular_.*|lstsq"
        r"|lobpcg|chain_matmul|addb?mm_?|addr_?|renorm_?|vander|gradient|trapz|(cumulative_)?trapezoid",
        "linear algebra is left to NumPy",
    ),
    (
        r"arc.*|absolute_|greater.*|less.*|not_equal_?|divide_|multiply_|subtract_|negative_|true_divide_|fix_?|moveaxis"
        r"|swap(axes|dims)_|ger|inner|row_stack|column_stack|range|positive|vdot|upsample.*|NLLLoss2d|Container"
        r"|clip_grad_norm|fliplr|flipud|rot90|atleast_.*|[dhv]split|typename",
        "another name, or another form, of what is here",
    ),
    (
        r"(digamma|lgamma|polygamma|mvlgamma|igammac?|i0|erfc|erfinv|xlogy|logit|sinc|hypot|heaviside|copysign|nextafter"
        r"|gcd|lcm|ldexp|float_power|deg2rad|rad2deg)_?|frexp|logaddexp2?|logcumsumexp|is(neg|pos)inf",
        "special functions",
    ),
    (
        r".*_copy|as_strided.*|.*_strided|.*_permuted|.*storage.*|set_|.*data_ptr|resize.*|slice_inverse|nbytes|itemsize"
        r"|layout|dim_order|.*_memory_format|frombuffer|from_file|narrow_copy|is_set_to|is_pinned|pin_memory|as_subclass"
        r"|swap_in.*",
        "memory is NumPy's",
    ),
    (
        r"ipu|xpu|mtia|is_(cpu|ipu|maia|meta|mkldnn|mps|mtia|vulkan|xla|xpu)|to_mkldnn|get_device.*|record_stream"
        r"|get_default_device",
        "other hardware",
    ),
    (r"DataParallel|SyncBatchNorm|Distributed.*|share_memory_|is_(shared|distributed)", "one process"),
    (
        r"parse_.*|import_ir.*|merge_type.*|unify_type.*|fork|wait|cond|vmap|thread_safe.*|init_num_threads|.*threads"
        r"|fuse_.*|hash_tensor",
        "no compiler, and no other threads",
    ),
    (r".*_window|i?stft|unfold|conv_tbc", "signals"),
    (
        r"name|rename.*|align_.*|refine_names|has_names|is_nested|to_padded_tensor|volatile|reinforce|new|output_nr"
        r"|retains_grad|register_post.*|grad_dtype|map2?_|apply_|put_?",
        "deprecated or internal",
    ),
    (r"(are|is|set|get)_(deterministic|warn|flush|float32|inference|storage).*", "settings"),
    (r"[a-z]\w*_", "the form that changes the tensor is rare; the other one is here or not needed"),
)
