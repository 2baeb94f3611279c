"""Elements smaller than a byte: how safetensors packs them, and how NumPy holds them, one per byte.

Packed elements fill the whole tensor without gaps, the first one in the lowest bits: two elements of F4 take one byte,
four of F6_E2M3 or F6_E3M2 take three bytes. A tensor ends at the end of a byte. PyTorch's `float4_e2m1fn_x2` has the
same order; its last axis counts pairs, while the shape in a file counts elements.
"""

from __future__ import annotations

import numpy as np

BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


def unpacked(packed: bytes, dtype: str) -> np.ndarray:
    """Return the elements of a packed tensor as flat uint8, each in the lowest bits of its byte."""
    raw = np.frombuffer(packed, np.uint8)
    elements = np.empty(raw.size * 8 // BITS[dtype], np.uint8)
    if BITS[dtype] == 4:
        elements[0::2] = raw & 0x0F
        elements[1::2] = raw >> 4
        return elements
    first, second, third = raw[0::3], raw[1::3], raw[2::3]
    elements[0::4] = first & 0x3F
    elements[1::4] = first >> 6 | (second & 0x0F) << 2
    elements[2::4] = second >> 4 | (third & 0x03) << 4
    elements[3::4] = third >> 2
    return elements
