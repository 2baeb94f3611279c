"""The digest of a tensor, made from the digests of its blocks, so that a part of a tensor can be checked on its own.

A tensor is cut into blocks of 64 KiB. If that would give more than 1,024 blocks, their size is the smallest power of
two that does not. The last block may be shorter. The digest of a block is the xxh3-128 of its bytes. The digest of a
tensor with one block is that of the block; the digest of any other tensor is the xxh3-128 of the digests of its blocks,
one after the other.

Archives need a CRC-32, too, which is also made from those of parts. It is a polynomial over GF(2) modulo P: n zero
bytes after it multiply it by x^(8n). Source: Mark Adler, zlib 1.3.1, crc32.c, crc32_combine().
"""

from __future__ import annotations

import functools

from xxhash import xxh3_128, xxh3_128_digest, xxh3_128_hexdigest

BYTES = 16
LEAST_BLOCK_BYTES = 1 << 16
_MOST_BLOCKS = 1 << 10
_P = 0xEDB88320  # the lowest bit is the highest power
_ONE = 1 << 31


def block_bytes_of(size_bytes: int) -> int:
    """Return the size of the blocks of a tensor."""
    if size_bytes <= LEAST_BLOCK_BYTES * _MOST_BLOCKS:
        return LEAST_BLOCK_BYTES
    return 1 << ((size_bytes - 1) // _MOST_BLOCKS).bit_length()


def count_of(size_bytes: int) -> int:
    """Return the number of blocks of a tensor, at least 1."""
    return max(1, -(-size_bytes // block_bytes_of(size_bytes)))


def blocks_of(memory: memoryview) -> bytes:
    """Return the digests of the blocks of a tensor with these bytes, one after the other."""
    if memory.nbytes <= LEAST_BLOCK_BYTES:
        return xxh3_128_digest(memory)
    hasher = Hasher(block_bytes_of(memory.nbytes))
    hasher.update(memory)
    return hasher.blocks()


def digest_of(memory: memoryview) -> str:
    """Return the digest of a tensor with these bytes, as 32 hexadecimal digits."""
    return digest_of_blocks(blocks_of(memory))


class Hasher:
    """The digests of the blocks of a tensor whose bytes come in pieces of any size."""

    def __init__(self, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._ended: list[bytes] = []
        self._open, self._open_bytes = xxh3_128(), 0

    def update(self, memory: memoryview) -> None:
        """Add the next bytes."""
        memory, size, start = memory.cast("B") if memory.nbytes else memory[:0], self._block_bytes, 0
        if self._open_bytes:
            start = size - self._open_bytes
            self._continue(memory[:start])
        end = start + max(0, len(memory) - start) // size * size
        self._ended += [xxh3_128_digest(memory[place : place + size]) for place in range(start, end, size)]
        self._continue(memory[end:])

    def _continue(self, piece: memoryview) -> None:
        """Add bytes that belong to one block, and end it if it is complete."""
        self._open.update(piece)
        self._open_bytes += len(piece)
        if self._open_bytes == self._block_bytes:
            self._ended.append(self._open.digest())
            self._open, self._open_bytes = xxh3_128(), 0

    def blocks(self) -> bytes:
        """Return the digests of all blocks, one after the other. An empty tensor has one block, which is empty."""
        if self._open_bytes or not self._ended:
            return b"".join((*self._ended, self._open.digest()))
        return b"".join(self._ended)

    def hexdigest(self) -> str:
        """Return the digest of the tensor."""
        return digest_of_blocks(self.blocks())


def digest_of_blocks(blocks: bytes) -> str:
    """Return the digest of a tensor from those of its blocks."""
    return blocks.hex() if len(blocks) == BYTES else xxh3_128_hexdigest(blocks)


def crc32_joined(first: int, second: int, second_bytes: int) -> int:
    """Return the CRC-32 of two pieces, one after the other, from that of each. second_bytes: the size of the second."""
    return _product(_power(second_bytes), first) ^ second


@functools.lru_cache
def _power(size_bytes: int) -> int:
    """Return x^(8 * size_bytes) modulo P."""
    found, square, exponent = _ONE, _ONE >> 1, 8 * size_bytes
    while exponent:
        if exponent & 1:
            found = _product(found, square)
        square, exponent = _product(square, square), exponent >> 1
    return found


def _product(a: int, b: int) -> int:
    """Return a * b modulo P."""
    found, bit = 0, _ONE
    while bit:
        if a & bit:
            found ^= b
        b = b >> 1 ^ (_P if b & 1 else 0)
        bit >>= 1
    return found
