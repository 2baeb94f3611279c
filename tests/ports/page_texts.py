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
- `optimizer.step()` is an error if no parameter has a gradient: PyTorch does nothing.

## Every name

The table and those below are made from the names of PyTorch 2.13 and the code. "Differs" lists parameters that are
missing here, and other behaviour. `out=` and memory layouts exist nowhere here and are not listed.
"""

REST = "rarely used in scripts"
# How a name that is here differs, beside parameters that are missing.
DIFFERENT: dict[str, str] = {}
# The first pattern that matches a name says why it is not here.
MISSING: tuple[tuple[str, str], ...] = ()
