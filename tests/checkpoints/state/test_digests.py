"""Digests of tensors, made from those of their blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_digest, xxh3_128_hexdigest

from statezoo.checkpoints.state.digests import LEAST_BLOCK_BYTES, Hasher, block_bytes_of, digest_of


@pytest.mark.parametrize(
    ("size_bytes", "block_bytes"),
    [
        (0, 1 << 16),
        (1 << 26, 1 << 16),
        ((1 << 26) + 1, 1 << 17),
        (1 << 27, 1 << 17),
        ((1 << 27) + 1, 1 << 18),
        (1 << 30, 1 << 20),
        (1 << 40, 1 << 30),
    ],
)
def test_a_tensor_has_at_most_1024_blocks_of_at_least_64_kib(size_bytes, block_bytes):
    assert block_bytes_of(size_bytes) == block_bytes


@pytest.mark.parametrize("size_bytes", [0, 1, LEAST_BLOCK_BYTES])
def test_the_digest_of_one_block_is_the_xxh3_128_of_its_bytes(size_bytes):
    content = bytes(range(256)) * (size_bytes // 256) + b"x" * (size_bytes % 256)
    assert digest_of(memoryview(content)) == xxh3_128_hexdigest(content)


def test_the_digest_of_several_blocks_is_the_xxh3_128_of_their_digests():
    content = b"a" * LEAST_BLOCK_BYTES + b"b" * LEAST_BLOCK_BYTES + b"c"
    blocks = [b"a" * LEAST_BLOCK_BYTES, b"b" * LEAST_BLOCK_BYTES, b"c"]
    assert digest_of(memoryview(content)) == xxh3_128_hexdigest(b"".join(map(xxh3_128_digest, blocks)))


@given(st.lists(st.binary(max_size=40)), st.sampled_from([1, 2, 16, 64]))
def test_the_digest_does_not_depend_on_the_pieces_that_the_bytes_come_in(pieces, block_bytes):
    hasher, whole = Hasher(block_bytes), Hasher(block_bytes)
    for piece in pieces:
        hasher.update(memoryview(piece))
    content = b"".join(pieces)
    whole.update(memoryview(content))
    expected = [xxh3_128_digest(content[start : start + block_bytes]) for start in range(0, len(content), block_bytes)]
    assert hasher.blocks() == whole.blocks() == (b"".join(expected) or xxh3_128_digest(b""))
