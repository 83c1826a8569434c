"""An archive of CIFAR-100's form, with few images of random pixels."""

import dataclasses
import hashlib
import io
import tarfile

import numpy as np
import pytest

from mltk.data.files import registry
from mltk.data.images.splits import CIFAR_FS

TRAINING = sorted(f"thing{number:02}" for number in range(64))
NAMES = sorted([*TRAINING, *CIFAR_FS["validation"], *CIFAR_FS["test"]])
"""Names of 100 classes, in the order of their labels; those for training do not matter."""


@pytest.fixture
def cifar_records():
    """The records of ``train.bin`` and ``test.bin``, 4 and 2 images a class, in random order."""
    rng = np.random.default_rng(0)
    files = {}
    for name, images in [("train.bin", 4), ("test.bin", 2)]:
        fine = rng.permutation(np.repeat(np.arange(100), images)).astype(np.uint8)
        pixels = rng.integers(0, 256, (len(fine), 3072), dtype=np.uint8)
        files[name] = np.column_stack([fine // 5, fine, pixels])
    return files


def contents(records):
    """The files of the archive."""
    return {name: array.tobytes() for name, array in records.items()} | {
        "fine_label_names.txt": "\n".join([*NAMES, ""]).encode(),
        "coarse_label_names.txt": "\n".join(f"group{number:02}" for number in range(20)).encode(),
    }


def write(path, files):
    """An archive of the official form."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            if content is not None:
                member = tarfile.TarInfo(f"cifar-100-binary/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def cifar_home(tmp_path, monkeypatch, cifar_records):
    """A folder of datasets with an archive that passes for the official one."""
    monkeypatch.setenv("MLTK_DATA", str(tmp_path))
    path = write(tmp_path / "cifar-100-binary.tar.gz", contents(cifar_records))
    checksum = hashlib.md5(path.read_bytes()).hexdigest()
    known = dataclasses.replace(registry.FILES["cifar-100"], md5=checksum, size=path.stat().st_size)
    monkeypatch.setitem(registry.FILES, "cifar-100", known)
    return tmp_path
