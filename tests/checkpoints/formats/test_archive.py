"""The members of zip archives: where they are, and which archives are refused."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.checkpoints.formats.archive import content_of, members_of
from statezoo.checkpoints.formats.entries import InvalidError
from statezoo.checkpoints.storage.source import MemorySource

CONTENT = {"a/data.pkl": b"first", "a/data/0": bytes(range(256)), "empty": b"", "é/\u6a21": b"named in Unicode"}


def source_of(content: bytes) -> MemorySource:
    return MemorySource(memoryview(content), "x.zip")


def zipped(content: dict[str, bytes] = CONTENT, method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, member in content.items():
            archive.writestr(name, member)
        archive.comment = comment
    return file.getvalue()


class _Pipe(io.BytesIO):
    """A file that cannot be positioned, so that zipfile writes sizes and checksums after each member."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError


def zipped_to_a_pipe(content: dict[str, bytes]) -> bytes:
    file = _Pipe()
    with zipfile.ZipFile(file, "w") as archive:
        for name, member in content.items():
            archive.writestr(name, member)
    return file.getvalue()


def refused(content: bytes) -> str:
    with pytest.raises(InvalidError) as caught:
        members_of(source_of(content))
    return str(caught.value)


@settings(deadline=None)
@given(
    st.dictionaries(st.text(min_size=1).filter(lambda name: "\0" not in name), st.binary()),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_every_member_of_an_archive_is_found_with_its_content(content: dict[str, bytes], method: int):
    for archive in (zipped(content, method, b"a comment"), zipped_to_a_pipe(content)):
        source = source_of(archive)
        members = members_of(source)
        assert {name: content_of(source, member) for name, member in members.items()} == content
        for name, member in members.items():
            assert (member.name, member.size_bytes) == (name, len(content[name]))
            if member.is_stored:
                assert archive[member.offset :][: member.size_bytes] == content[name]


def test_the_members_of_numpy_with_64_bit_sizes_are_found():
    file = io.BytesIO()
    np.savez(file, w=np.arange(3))
    source = source_of(file.getvalue())
    (member,) = members_of(source).values()
    assert np.load(io.BytesIO(content_of(source, member))).tolist() == [0, 1, 2]


def test_an_archive_without_members_has_none():
    assert members_of(source_of(zipped({}))) == {}


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\3\4" + bytes(100), b"x" * 1000])
def test_a_file_that_is_no_archive_is_refused(content: bytes):
    assert refused(content).startswith("it is not a valid zip archive (File is not a zip file)")


@pytest.mark.parametrize("size", range(1, len(zipped()), 7))
def test_an_archive_that_is_cut_off_is_refused(size: int):
    assert refused(zipped()[:size])


def test_an_archive_with_something_in_front_or_behind_is_refused():
    assert refused(b"#!/bin/sh\n" + zipped()) == "there is something else in front of the archive"
    assert refused(zipped({"b": b"2"}) + zipped()) == "there is something else in front of the archive"
    assert "not a zip file" in refused(zipped() + bytes(70_000))


def test_a_name_that_occurs_twice_is_refused():
    assert refused(zipped({"a": b"1", "b": b"2"}).replace(b"b", b"a")) == "its member 'a' occurs twice"


def test_a_header_that_differs_from_the_list_is_refused():
    archive = zipped({"name": b"content"})
    for place, what in ((4, 1 << 20), (6, 1), (8, 8), (14, 1), (18, 1), (22, 1), (26, 1), (30, 1)):
        changed = bytearray(archive)
        changed[place] ^= what & 0xFF
        if place != 4:  # the version that is needed to read it
            assert (
                refused(bytes(changed)) == "the header of its member 'name' differs from what the list of members says"
            )
    assert "differs" in refused(archive.replace(b"name", b"eman", 1))


def test_a_member_in_the_list_twice_under_two_names_is_refused():
    archive = zipped({"a": b"1", "b": b"2"})
    start = archive.index(b"PK\1\2", archive.index(b"PK\1\2") + 1)
    overlapping = bytearray(archive)
    overlapping[start + 42 : start + 46] = struct.pack("<I", 0)
    assert "differs" in refused(bytes(overlapping))
    # A quine-like bomb: the headers of both are valid, and one is inside the content of the other.
    inner = zipped({"b": b"2"})
    first = zipped({"a": inner[: inner.index(b"PK\1\2")]})
    listed = inner[inner.index(b"PK\1\2") : inner.index(b"PK\5\6")]
    listed = listed[:42] + struct.pack("<I", first.index(inner[:4], 4)) + listed[46:]
    directory = first[first.index(b"PK\1\2") : first.index(b"PK\5\6")] + listed
    start = first.index(b"PK\1\2")
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, len(directory), start, 0)
    assert refused(first[:start] + directory + end) == "its member 'b' shares bytes with another"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(method: int):
    text = "its member 'a' is encrypted, or compressed by a method other than deflate"
    assert refused(zipped({"a": b"1"}, method)) == text


def test_a_size_beyond_the_end_is_refused():
    archive = bytearray(zipped({"a": b"1"}))
    start = archive.index(b"PK\1\2")
    for place in (18, 22, start + 20, start + 24):
        archive[place : place + 4] = struct.pack("<I", 1 << 30)
    assert refused(bytes(archive)) == "its members reach beyond the end"


def test_content_that_was_damaged_is_refused():
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        archive = bytearray(zipped({"a": bytes(1000)}, method))
        (member,) = members_of(source_of(bytes(archive))).values()
        archive[member.offset + 2] ^= 4
        with pytest.raises(InvalidError, match=r"its member 'a' (does not match its CRC-32|cannot be decompressed)"):
            content_of(source_of(bytes(archive)), member)


def test_a_deflated_member_is_never_larger_than_the_list_says():
    archive = zipped({"a": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    small = archive.replace(struct.pack("<I", 1 << 20), struct.pack("<I", 10))
    small = small.replace(struct.pack("<I", zlib.crc32(bytes(1 << 20))), struct.pack("<I", zlib.crc32(bytes(10))))
    source = source_of(small)
    (member,) = members_of(source).values()
    with pytest.raises(InvalidError, match="does not match its CRC-32"):
        content_of(source, member)
