"""BLAS: what makes its small products fast from the first one on."""

import numpy as np


def write_packing_memory() -> None:
    """Have OpenBLAS write once to the memory that it packs matrices into; a millisecond.

    A small product writes only to the beginning of it, but fetches what follows in advance, and as long as that has
    never been written to, each fetch looks for it in vain. Products of float32 took up to four times as long that way
    (256 by 256: 2,850 microseconds in place of 795, OpenBLAS 0.3.31 in a virtual machine).
    """
    # More columns than OpenBLAS takes at a time (320): only then it packs the whole of the other factor.
    np.ones((64, 384), np.float32).dot(np.ones((384, 352), np.float32))
