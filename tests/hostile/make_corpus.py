"""Make every hostile file in a folder: `python make_corpus.py FOLDER`. Some are large, so none is in the repository."""

from __future__ import annotations

import sys
from pathlib import Path

import hdf5_files
import index_files
import other_files
import own_hdf5_files
import safetensors_files
from hostile_file import HostileFile

CORPUS: list[HostileFile] = [
    *safetensors_files.FILES,
    *own_hdf5_files.FILES,
    *hdf5_files.FILES,
    *index_files.FILES,
    *other_files.FILES,
]


def make_corpus(folder: Path, corpus: list[HostileFile] = CORPUS) -> None:
    """Create the folder and write the files to it."""
    folder.mkdir(parents=True, exist_ok=True)
    for hostile in corpus:
        hostile.make(folder / hostile.file_name)


if __name__ == "__main__":
    make_corpus(Path(sys.argv[1]))
