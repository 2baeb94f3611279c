"""Make every hostile file in a folder. Some are large, so none is in the repository.

cd tests/hostile; python -m corpus.make_corpus FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from corpus import framework_files, hdf5_files, index_files, other_files, own_hdf5_files, safetensors_files, torch_files
from corpus.hostile_file import HostileFile

CORPUS: list[HostileFile] = [
    *safetensors_files.FILES,
    *own_hdf5_files.FILES,
    *hdf5_files.FILES,
    *index_files.FILES,
    *other_files.FILES,
    *framework_files.FILES,
    *torch_files.FILES,
]


def make_corpus(folder: Path, corpus: list[HostileFile] = CORPUS) -> None:
    """Create the folder and write the files to it."""
    folder.mkdir(parents=True, exist_ok=True)
    for hostile in corpus:
        hostile.make(folder / hostile.file_name)


if __name__ == "__main__":
    make_corpus(Path(sys.argv[1]))
