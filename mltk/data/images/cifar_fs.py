"""CIFAR-FS: CIFAR-100 split by classes for few-shot learning (Bertinetto et al. 2019)."""

from __future__ import annotations

from dataclasses import KW_ONLY, InitVar, dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from mltk.checks import Count, check_choice, check_fields
from mltk.data.files.archives import read_members
from mltk.data.files.cache import DAMAGED, Layout, read_cache, write_cache
from mltk.data.files.fetch import absent, data_home, fetch, find, present
from mltk.data.images.area_average import area_average
from mltk.data.images.pictures import Pictures
from mltk.data.images.splits import CIFAR_FS
from mltk.data.images.tasks import ImageDataset
from mltk.errors import DataError

SIDE = 32
CLASSES = 100
SPLITS = ("train", "validation", "test")
ARCHIVE = "cifar-100"
CACHE = "cifar-fs.npz"
FILES = ("train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt")


@dataclass(frozen=True)
class CIFARFS(ImageDataset):
    """Small colour photographs of 100 classes, 600 each: 64 classes to train, 16 to validate, 20 to test.

    The images are those of CIFAR-100 (Krizhevsky 2009), training and test images of a class together; the
    split of the classes is that of Bertinetto, Henriques, Torr & Vedaldi (2019), *Meta-learning with
    differentiable closed-form solvers*. A class is a fine label, its group the superclass.

    The images are read from the folder of datasets (``$MLTK_DATA``): from ``cifar-fs.npz`` if it is there,
    otherwise from the binary version of CIFAR-100, after which that file is written. They are read when first
    used, not when the dataset is made.

    Attributes:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        image_size: Side $s$ of the images ``(N, 3, s, s)``; other sizes than 32 are made by area averaging.
        download: Fetch what is missing, when the dataset is made. No attribute, only an argument.

    Raises:
        SettingError: If there is no such split.
        DataError: If the images cannot be had (``AbsentDataError``) or their file is damaged: when first
            used, with ``download`` at once.
    """

    split: str = "train"
    image_size: Count = SIDE
    _: KW_ONLY
    download: InitVar[bool] = False

    def __post_init__(self, download: bool) -> None:
        check_fields(self)
        check_choice("split", self.split, SPLITS)
        if download and present(ARCHIVE) is None:
            fetch(ARCHIVE)

    def held_out(self) -> CIFARFS:
        """The test classes, or of the test split itself the training classes."""
        return CIFARFS("train" if self.split == "test" else "test", self.image_size)

    def _load(self) -> Pictures:
        cache = data_home() / CACHE
        layout: Layout = {
            f"{self.split}_images": ("u1", (None, 3, SIDE, SIDE)),
            f"{self.split}_counts": ("i8", (None,)),
            f"{self.split}_names": ("U", (None,)),
            f"{self.split}_superclasses": ("U", (None,)),
        }
        if cache.is_file():
            arrays = read_cache(cache, layout)
            self._check(cache, arrays)
        else:
            if find(ARCHIVE) is None:
                raise absent(ARCHIVE)
            arrays = read_archive(fetch(ARCHIVE))  # it is here: fetch verifies its checksum
            write_cache(cache, arrays)
        images, counts, names, superclasses = (arrays[name] for name in layout)
        if self.image_size != SIDE:
            images = area_average(images, self.image_size) / 255
        return Pictures(images, counts, tuple(names.tolist()), superclasses)

    def _check(self, cache: Path, arrays: dict[str, np.ndarray]) -> None:
        """See that the arrays of a cache fit each other."""
        images, counts, names, superclasses = (
            arrays[f"{self.split}_{what}"] for what in ("images", "counts", "names", "superclasses")
        )
        alike = len(counts) == len(names) == len(superclasses) and 0 < len(counts) <= len(images)
        if not alike or counts.min() < 1 or sum(counts.tolist()) != len(images):
            raise DataError(f"{cache} {DAMAGED}: its arrays do not fit each other")


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Read the binary version of CIFAR-100 and split its classes.

    A record is a byte for the superclass, one for the class, and 3 · 32 · 32 for the pixels, by colour.

    Args:
        path: The tar archive.

    Returns:
        For each split ``s``: ``s_images`` ``(N, 3, 32, 32)`` uint8, the images of one class together,
        training images before test images; ``s_counts`` ``(classes,)`` int64; ``s_names`` and
        ``s_superclasses`` ``(classes,)`` strings. Classes are in alphabetical order.

    Raises:
        DataError: If the archive is damaged or refused, lacks a file, or does not hold the 100 classes.
    """
    files = {PurePosixPath(name).name: content for name, content in read_members(path)}
    missing = [name for name in FILES if name not in files]
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)}; expected the binary version of CIFAR-100")
    records = np.concatenate([_records(path, name, files[name]) for name in FILES[:2]])
    names, superclasses = (_lines(path, name, files[name]) for name in FILES[2:])
    split_of = {name: split for split, some in CIFAR_FS.items() for name in some}
    unknown = sorted(split_of.keys() - set(names))
    if len(set(names)) != CLASSES or unknown:
        raise DataError(
            f"{path}: fine_label_names.txt has {len(set(names))} names, and not {unknown}; "
            f"expected the {CLASSES} classes of CIFAR-100"
        )
    coarse, fine = records[:, 0], records[:, 1]
    if fine.max() >= CLASSES or coarse.max() >= len(superclasses):
        raise DataError(f"{path} has images of the class {fine.max()} in the superclass {coarse.max()}")
    counts = np.bincount(fine, minlength=CLASSES)
    if not counts.all():
        raise DataError(f"{path} has no image of {names[int(np.argmin(counts))]}")
    arrays = {}
    for split in SPLITS:
        labels = sorted(
            (n for n, name in enumerate(names) if split_of.get(name, "train") == split), key=names.__getitem__
        )
        rows = [np.flatnonzero(fine == label) for label in labels]
        arrays[f"{split}_images"] = records[np.concatenate(rows), 2:].reshape(-1, 3, SIDE, SIDE)
        arrays[f"{split}_counts"] = counts[labels]
        arrays[f"{split}_names"] = np.asarray([names[label] for label in labels])
        arrays[f"{split}_superclasses"] = np.asarray([superclasses[coarse[some[0]]] for some in rows])
    return arrays


def _records(path: Path, name: str, content: bytes) -> np.ndarray:
    """The records of a file, ``(N, 2 + 3 · 32 · 32)`` uint8."""
    length = 2 + 3 * SIDE**2
    if not content or len(content) % length:
        raise DataError(f"{path}: {name} has {len(content)} bytes; expected a multiple of {length}")
    return np.frombuffer(content, np.uint8).reshape(-1, length)


def _lines(path: Path, name: str, content: bytes) -> list[str]:
    """The lines of a text file."""
    try:
        return content.decode("ascii").split()
    except UnicodeDecodeError:
        raise DataError(f"{path}: {name} is no text; expected a name a line") from None
