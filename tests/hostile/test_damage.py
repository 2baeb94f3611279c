"""Random damage is reported or changes nothing. `make damage` does the same to tens of thousands of files."""

import damage
import pytest

pytestmark = pytest.mark.slow
COUNTS = {
    "safetensors": 1200,
    "HDF5": 600,
    "npz": 600,
    "npz of several blocks": 300,
    "npz of NumPy": 300,
    "npz of NumPy, compressed": 300,
    "safetensors of several blocks": 400,
    "HDF5 of several blocks": 300,
    "shards": 720,  # number 718 leaves only the end of the manifest, in the text before it
    "HDF5 of h5py": 30,
    "entry": 60,
}


@pytest.mark.parametrize("title", damage.KINDS)
def test_random_damage_is_reported_or_changes_no_bit_of_the_state(title: str):
    counts = damage.count(title, COUNTS[title])
    assert counts.total() == COUNTS[title]
    assert {outcome for _, outcome in counts} <= {*damage.HARMLESS} - (
        {"unchecked"} if damage.KINDS[title].has_digests else set()
    )


def test_a_reader_that_does_not_check_damage_is_counted_as_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: damage.Path
):
    kind, wrong = damage.KINDS["safetensors"], 0
    kind.make(path := tmp_path / "x.safetensors")
    content, good = path.read_bytes(), damage.load_file(path)
    for number in range(200):
        path.write_bytes(damage.damaged(content, str(number))[1])
        wrong += damage._outcome(kind, path, unchecked, good, damage.METADATA) == "WRONG"
    assert wrong


def unchecked(path: damage.Path) -> dict[str, object]:
    return damage.load_file(path, verify=False)


def test_a_manifest_that_damage_made_part_of_another_value_is_missed(tmp_path: damage.Path):
    damage.save_file(damage.a_state(), path := tmp_path / "x.safetensors", damage.METADATA)
    content = path.read_bytes()
    start, end = content.index(b'\xc3\xa9","statezoo":"'), content.index(b" digests=")
    for place in range(start, end, 7):
        rest = content[place:end].lstrip(b'"\\')
        # The same length as before, in a text that continues where the manifest did.
        path.write_bytes(content[:start] + rest.rjust(end - start, b"x").replace(b'","', b"x.x") + content[end:])
        with pytest.raises(damage.CheckpointError):
            damage.load_file(path)
