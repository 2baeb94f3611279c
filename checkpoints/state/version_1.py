"""The manifest of version 1, which is read and never written: JSON text without spaces, with sorted keys.

It has the fields of version 2 (see manifest.py) as entries, with these differences: aliases, extra, layouts and own are
always present; `checksum` also covers the user's metadata; the digest of a tensor of any size is that of one block.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii as json_text
from typing import Any

from xxhash import xxh3_128_hexdigest

from .manifest import FORMAT


def is_version_1(text: str) -> bool:
    """Return True if a manifest is JSON."""
    return text.startswith("{")


def content_of(text: str, metadata: Mapping[str, str], refuse: Callable[[str], Any]) -> dict[str, Any]:
    """Return the entries, not yet validated, as those of version 2. metadata: that of the file.

    refuse: raises ValueError. Raises other errors too if the text is anything else.
    """
    content = json.JSONDecoder(parse_constant=refuse).decode(text)
    if content["version"] != 1 or type(content["version"]) is not int:
        refuse("its version is invalid")
    # No "format" was added to the metadata by the library.
    return content | {"blocks": "", "own": [*content["own"], *({FORMAT} & metadata.keys())]}


def fits(text: str, checksum: str, user: Mapping[str, str]) -> bool:
    """Return True if the checksum matches the text, without the checksum itself, and the user's metadata."""
    bare = text.replace(f'"checksum":"{checksum}",', "", 1)
    strings = ",".join(f"{json_text(key)}:{json_text(user[key])}" for key in sorted(user))
    return checksum == xxh3_128_hexdigest(f"[{bare},{{{strings}}}]".encode())
