"""The file in memory that libhdf5 writes to behaves as an ordinary one."""

import os
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.checkpoints.formats.memory_file import MemoryFile

PLACES = st.one_of(st.integers(0, 50), st.integers(4080, 4110), st.integers(0, 20_000))
ACTIONS = st.lists(st.tuples(st.sampled_from(["write", "read", "truncate"]), PLACES, st.integers(0, 9000)), max_size=8)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(actions=ACTIONS)
def test_a_memory_file_holds_what_an_ordinary_file_would_hold(actions: list[tuple[str, int, int]]):
    ours = MemoryFile()
    with tempfile.TemporaryFile(buffering=0) as theirs:
        for number, (action, place, size) in enumerate(actions, 1):
            assert ours.seek(place) == theirs.seek(place) == ours.tell()
            if action == "write":
                assert ours.write(bytes([number]) * size) == theirs.write(bytes([number]) * size)
            elif action == "truncate":
                assert ours.truncate() == theirs.truncate()
            elif place + size <= ours.size_bytes:
                mine = bytearray(size)
                assert ours.readinto(memoryview(mine)) == size
                assert mine == theirs.read(size)
        assert ours.seek(0, os.SEEK_END) == theirs.seek(0, os.SEEK_END)
        pieces = bytearray(ours.size_bytes)
        for start, piece in ours.pieces():
            pieces[start : start + len(piece)] = piece
        theirs.seek(0)
        assert pieces == theirs.read()
