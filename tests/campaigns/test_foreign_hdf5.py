"""The short form of foreign_hdf5.py."""

import foreign_hdf5
import pytest


@pytest.mark.slow
def test_drawn_hdf5_files_are_read_as_h5py_reads_them():
    counts = foreign_hdf5.run(6)
    assert counts["files"] >= 6
    assert counts["datasets"] > 20
