"""Anybody's own images: one folder a class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mltk.checks import Checked, Count, Positive
from mltk.data.images.class_folders import PARTS, SUFFIXES, class_folders, image_files, parts_of
from mltk.data.images.class_split import split_classes
from mltk.data.images.file import Pixels, read_image, scaled, white_of
from mltk.data.images.pictures import Pictures
from mltk.data.images.tasks import ImageDataset
from mltk.errors import DataError, SettingError
from mltk.files import AnyPath
from mltk.installation import needed_for
from mltk.outside import reading

NAMED = 10
"""So many broken images, or classes left out, are named in a warning."""


class BrokenImageWarning(UserWarning):
    """Images of an `ImageFolder` cannot be read, and are left out."""


class SmallClassWarning(UserWarning):
    """Classes have fewer examples than asked for, and are left out."""


@dataclass(frozen=True)
class ImageFolder(Checked, ImageDataset):
    """Images of which each class has a folder: ``root/class/image.png``.

    A class is a folder in ``root``, with the images in it and in folders inside it, in the order of their
    names. Names that begin with a dot are left out, files that do not end like an image (BMP, GIF, JPEG, PNG,
    PPM, TIFF, WebP) as well. Links to files and from ``root`` to folders elsewhere are followed, other links
    to folders are not. Each image is turned as its EXIF orientation says, set on white where it is
    transparent, cut to the square in its middle, and resized (bilinear, antialiased).

    Grey images with more than 8 bits are scaled by ``white``. Images that cannot be read, hold numbers
    whose meaning is not known, or are larger than Pillow's limit against decompression bombs, are left out
    with a `BrokenImageWarning` and listed in ``skipped``. The images are read when first used, not when the
    dataset is made, and kept as bytes.

    Attributes:
        root: The folder.
        image_size: Side $s$ of the images ``(N, channels, s, s)``.
        channels: 3 for colour, 1 for grey.
        white: What white is in grey images of floating numbers, or of integers with more than 8 bits.
            ``None``: 1 for floating numbers; for integers the largest number of the fewest of 8, 10, 12, 14
            or 16 bits that hold all of the folder's. Images with larger numbers are left out as above.
        classes: Only these classes, by name; ``None`` for all.
        at_least: Classes with fewer images are left out, with a `SmallClassWarning`, and listed in
            ``left_out``; ``None`` leaves out none.

    Raises:
        SettingError: If a setting is not valid.
        DataError: When first used: if ``root`` is not a folder that can be read, has no classes, lacks one of
            ``classes``, or a class has no image that can be read; or if its folders are no classes but parts
            (train, val, test), each with classes of its own.
    """

    root: AnyPath
    image_size: Count
    _: KW_ONLY
    channels: int = 3
    white: Positive | None = None
    classes: tuple[str, ...] | None = None
    at_least: Count | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.root, str | os.PathLike):
            raise SettingError(f"root is {self.root!r}; expected the path of a folder")
        object.__setattr__(self, "root", os.fspath(self.root))
        super().__post_init__()
        if self.channels not in (1, 3):
            raise SettingError(f"channels is {self.channels!r}; expected 3 (colour) or 1 (grey)")
        if self.classes is not None:
            known = isinstance(self.classes, tuple | list) and all(isinstance(n, str) for n in self.classes)
            if not known or not self.classes or len(set(self.classes)) != len(self.classes):
                raise SettingError(f"classes is {self.classes!r}; expected different names, or None for all")
            object.__setattr__(self, "classes", tuple(sorted(self.classes)))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class; the images are read for it only where ``at_least`` must be known."""
        if self.at_least is not None:
            return self.pictures.names
        return tuple(folder.name for folder in class_folders(Path(self.root).expanduser(), self.classes))

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """The images that could not be read: path below ``root``, and why. Reads the folder if need be."""
        return self._read.skipped

    @property
    def left_out(self) -> tuple[tuple[str, int], ...]:
        """The classes with fewer than ``at_least`` images, and how many they have. Reads the folder."""
        return self._read.left_out

    def split(self, fractions: Sequence[float] | None = None, *, seed: int = 0) -> tuple[ImageFolder, ...]:
        """Datasets of the same folder that share no class.

        Args:
            fractions: The share of the classes that each has, 1 in all, such as ``(0.64, 0.16, 0.2)``;
                ``None`` for the parts that ``root`` has as folders: train, val (if there is one) and test.
            seed: Which classes go where.

        Raises:
            SettingError: If the fractions are not valid or leave a part without classes.
            DataError: If the folder cannot be read, or has no such parts.
        """
        root = Path(self.root).expanduser()
        if fractions is None:
            parts = parts_of(root)
            if not parts:
                raise DataError(
                    f"{root} has no folders train and test with classes; expected them, or fractions"
                )
            return tuple(replace(self, root=os.path.join(self.root, part)) for part in parts)
        parts_of_names = split_classes(self.class_names, fractions, seed=seed)
        return tuple(replace(self, classes=part) for part in parts_of_names)

    def held_out(self) -> ImageFolder:
        """The classes that this dataset does not hold.

        Of some ``classes`` of a folder these are the others. Of a folder called train or val they are those
        of the folder test beside it (or val, if there is no test), and of test those of train.

        Raises:
            SettingError: If all classes of the folder are in this dataset.
            DataError: If the folder cannot be read.
        """
        root = Path(self.root).expanduser()
        if self.classes is not None:
            others = {folder.name for folder in class_folders(root)} - set(self.classes)
            if others:
                return replace(self, classes=tuple(others))
        elif root.name in PARTS:
            parts = [part for part in parts_of(root.parent) if part != root.name]
            if parts:
                return replace(self, root=str(root.with_name(parts[0 if root.name == "test" else -1])))
        raise SettingError(
            f"all classes of {self.root} are in this dataset; expected another ImageFolder to evaluate on"
        )

    def _load(self) -> Pictures:
        return self._read.pictures

    @cached_property
    def _read(self) -> _Read:
        with needed_for("images"):
            import PIL  # noqa: F401 - before the images, none of which is broken without it
        root = Path(self.root).expanduser()
        skipped: list[tuple[str, str]] = []
        pixels: dict[str, list[Pixels]] = {}
        for folder in class_folders(root, self.classes):
            pixels[folder.name] = images = []
            for path in image_files(folder):
                try:
                    images.append(read_image(path, self.image_size, self.channels, white=self.white))
                except MemoryError:  # the machine's own lack, and no fault of the file
                    raise
                # A file from outside can make Pillow's decoders raise anything.
                except Exception as error:
                    kind = "" if isinstance(error, DataError) else f"{type(error).__name__}: "
                    skipped.append((path.relative_to(root).as_posix(), f"{kind}{error}"))
        small = {name: len(found) for name, found in pixels.items() if len(found) < (self.at_least or 1)}
        if small and self.at_least is None:
            raise _without_images(root, next(iter(small)), skipped)
        few = f"classes in {root} have fewer than at_least = {self.at_least} images"
        _warn(SmallClassWarning, few, [f"{name} ({count})" for name, count in small.items()])
        broken = f"images in {root} cannot be read"
        _warn(BrokenImageWarning, broken, [f"{path} ({reason})" for path, reason in skipped])
        if len(small) == len(pixels):
            raise DataError(f"no class in {root} has at_least = {self.at_least} images that can be read")
        kept = {name: found for name, found in pixels.items() if name not in small}
        every = [image for found in kept.values() for image in found]
        counts = np.asarray([len(found) for found in kept.values()])
        pictures = Pictures(scaled(every, self._white(every)), counts, tuple(kept), None)
        return _Read(pictures, tuple(skipped), tuple(small.items()))

    def _white(self, images: list[Pixels]) -> Callable[[Pixels], float]:
        """What white is in an image."""
        if (white := self.white) is not None:
            return lambda _: white
        deep = [p.highest for p in images if p.highest is not None and not p.floating]
        # What one dataset of the folder shows as white must be white in the others.
        others = self._elsewhere() if deep else ()
        integers = white_of(max((*deep, *others), default=0))
        return lambda pixels: 1 if pixels.floating else integers

    def _elsewhere(self) -> Iterator[float]:
        """The largest integers of deep images in the classes and parts that this dataset leaves out."""
        root = Path(self.root).expanduser()
        parts = parts_of(root.parent) if root.name in PARTS else []
        for folder in [root.with_name(part) for part in parts] or [root]:
            for path in image_files(folder):
                with suppress(DataError), reading(path, DataError):
                    pixels = read_image(path, 1, 1)
                    if pixels.highest is not None and not pixels.floating:
                        yield pixels.highest


class _Read(NamedTuple):
    """What a folder holds, and what was left out of it."""

    pictures: Pictures
    skipped: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, int], ...]


def _without_images(root: Path, name: str, skipped: list[tuple[str, str]]) -> DataError:
    """The error about a class without an image that can be read."""
    broken = [f"{path}: {reason}" for path, reason in skipped if path.startswith(f"{name}/")]
    unread = f" but for {len(broken)} that cannot be read ({broken[0]})" if broken else ""
    return DataError(
        f"the class {name!r} in {root} has no images{unread}; expected files that end with "
        f"{', '.join(SUFFIXES)} (at_least=1 leaves out classes without images)"
    )


def _warn(category: type[Warning], what: str, names: list[str]) -> None:
    """Warn that something is left out, if it is."""
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        message = f"{len(names)} {what} and are left out: {'; '.join(names[:NAMED])}{more}"
        warnings.warn(message, category, stacklevel=2)
