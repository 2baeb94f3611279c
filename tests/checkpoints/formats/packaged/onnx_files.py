"""ONNX files made byte by byte, so that they may be wrong."""


def field(number: int, content: bytes | int) -> bytes:
    """Return a field of a message: a number, or bytes."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def model(*initializers: bytes) -> bytes:
    return field(1, 9) + field(7, b"".join(field(5, tensor) for tensor in initializers))


# Files that are not valid, and a part of what the error says.
FLOATS = field(2, 1) + field(8, b"x")
HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", r"it has no graph\. It is empty"),
    "no graph": (field(1, 9), "it has no graph"),
    "two graphs": (model() + field(7, b""), "it has 2 graphs"),
    "a graph that is a number": (field(1, 9) + field(7, 3), "field 7 of the model is written in a wrong way"),
    "an initializer that is a number": (field(1, 9) + field(7, field(5, 3)), "field 5 of the graph"),
    "a size beyond the end": (field(1, 9) + b"\x3a\xff\xff\xff\xff\x0f", "reaches beyond the end"),
    "a size beyond the message": (field(1, 9) + field(7, b"\x2a\x09") + field(8, bytes(50)), "is not valid"),
    "a number without end": (b"\x08" + b"\xff" * 20, "is too long"),
    "a group": (field(1, 9) + b"\x0b", "is written in an unknown way"),
    "field 0": (field(1, 9) + b"\0\0", "is not valid"),
    "two names": (model(FLOATS + field(8, b"y") + field(9, b"")), "occurs twice"),
    "two values": (model(FLOATS + field(9, b"") + field(9, b"")), "occurs twice"),
    "one name twice": (model(FLOATS + field(1, 0), FLOATS + field(1, 0)), "two initializers are named 'x'"),
    "a name that is no text": (model(field(8, b"\xff")), "is not UTF-8"),
    "a negative axis": (model(FLOATS + field(1, (1 << 64) - 1)), "negative length"),
    "many axes": (model(FLOATS + field(1, bytes([1]) * 5000)), "more than 64 axes"),
    "too few bytes": (model(FLOATS + field(1, 3) + field(9, bytes(8))), "'x' takes 12 bytes, and the file has 8"),
    "too many bytes": (model(FLOATS + field(1, 1) + field(9, bytes(8))), "'x' takes 4 bytes, and the file has 8"),
    "a huge shape": (model(FLOATS + field(1, 1 << 62) * 9 + field(9, bytes(8))), "takes .* bytes, and the file has 8"),
    "a shape of very many digits": (
        model(FLOATS + field(1, (1 << 63) - 1) * 64 + field(9, bytes(8))), "takes .* bytes, and the file has 8"
    ),
    "no values": (model(FLOATS + field(1, 3)), "'x' has fewer values than its shape says"),
    "few values": (model(FLOATS + field(1, 1 << 40) + field(4, bytes(8))), "'x' has fewer values than its shape says"),
    "a value short": (model(FLOATS + field(1, 3) + field(4, bytes(8))), "cannot be read as float32"),
    "values of another type": (model(FLOATS + field(1, 2) + field(5, bytes(2))), "cannot be read as float32"),
    "two sparse ones of one name": (
        field(1, 9) + field(7, 2 * field(15, field(1, FLOATS))), "two initializers are named 'x'"
    ),
    "a sparse and a dense one of one name": (
        field(1, 9) + field(7, field(15, field(1, FLOATS)) + field(5, FLOATS + field(1, 0))), "two initializers"
    ),
}  # fmt: skip
