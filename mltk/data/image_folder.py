"""Anybody's own images: one folder a class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mltk.data.images import ImageDataset, Pictures
from mltk.errors import DataError, SettingError
from mltk.settings import check_count

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What the names of images end with. Pillow reads more, some of it by starting other programs."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The same for Pillow, which looks at the content."""

NAMED = 10
"""So many broken images are named in the warning."""


class BrokenImageWarning(UserWarning):
    """Images of an `ImageFolder` cannot be read, and are left out."""


@dataclass(frozen=True)
class ImageFolder(ImageDataset):
    """Images of which each class has a folder: ``root/class/image.png``.

    A class is a folder in ``root``, with the images in it and in folders inside it, in the order of their
    names. Names that begin with a dot are left out, files that do not end like an image (BMP, GIF, JPEG, PNG,
    PPM, TIFF, WebP) as well. Links to files and from ``root`` to folders elsewhere are followed, other links
    to folders are not. Each image is turned as its EXIF orientation says, set on white where it is
    transparent, cut to the square in its middle, and resized (bilinear, antialiased).

    Images that cannot be read, or are larger than Pillow's limit against decompression bombs, are left out
    with a `BrokenImageWarning` and listed in ``skipped``. The images are read when first used, not when the
    dataset is made, and kept as bytes.

    Attributes:
        root: The folder.
        image_size: Side $s$ of the images ``(N, channels, s, s)``.
        channels: 3 for colour, 1 for grey.

    Raises:
        SettingError: If a size or the number of channels is not valid.
        DataError: When first used: if ``root`` is not a folder that can be read, has no classes, or a class
            has no image that can be read.
    """

    root: str | os.PathLike[str]
    image_size: int
    _: KW_ONLY
    channels: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.root, str | os.PathLike):
            raise SettingError(f"root is {self.root!r}; expected the path of a folder")
        object.__setattr__(self, "root", os.fspath(self.root))
        check_count("image_size", self.image_size)
        if self.channels not in (1, 3):
            raise SettingError(f"channels is {self.channels!r}; expected 3 (colour) or 1 (grey)")

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """The images that could not be read: path below ``root``, and why. Reads the folder if need be."""
        return self._read[1]

    def held_out(self) -> ImageFolder:
        """There are none: the folder is the dataset.

        Raises:
            SettingError: Always; make an `ImageFolder` of a folder with other classes instead.
        """
        raise SettingError(
            f"all classes of {self.root} are in this dataset; expected another ImageFolder to evaluate on"
        )

    def _load(self) -> Pictures:
        return self._read[0]

    @cached_property
    def _read(self) -> tuple[Pictures, tuple[tuple[str, str], ...]]:
        root = Path(self.root).expanduser()
        folders = _class_folders(root)
        images: list[np.ndarray] = []
        counts: list[int] = []
        skipped: list[tuple[str, str]] = []
        for folder in folders:
            before, broken = len(images), len(skipped)
            for path in _image_files(folder):
                try:
                    images.append(_read_image(path, self.image_size, self.channels))
                # A file from outside can make Pillow's decoders raise anything.
                except Exception as error:
                    skipped.append((path.relative_to(root).as_posix(), f"{type(error).__name__}: {error}"))
            counts.append(len(images) - before)
            if not counts[-1]:
                unread = f" but for {len(skipped) - broken} that cannot be read" if skipped[broken:] else ""
                raise DataError(
                    f"the class {folder.name!r} in {root} has no images{unread}; "
                    f"expected files that end with {', '.join(SUFFIXES)}"
                )
        if skipped:
            named = "; ".join(f"{path} ({reason})" for path, reason in skipped[:NAMED])
            more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
            message = f"{len(skipped)} images in {root} cannot be read and are left out: {named}{more}"
            warnings.warn(message, BrokenImageWarning, stacklevel=2)
        names = tuple(folder.name for folder in folders)
        return Pictures(np.stack(images), np.asarray(counts), names, None), tuple(skipped)


def _class_folders(root: Path) -> list[Path]:
    """The folders in the root, in the order of their names."""
    try:
        entries = sorted(root.iterdir())
    except NotADirectoryError:
        raise DataError(
            f"root is {root}, which is a file; expected a folder with one folder a class"
        ) from None
    except OSError as error:
        raise DataError(f"root is {root}, which cannot be read: {error.strerror}") from error
    here = root.resolve()
    folders = [
        entry
        for entry in entries
        # A link back to the root or above it would make a class of all classes.
        if not entry.name.startswith(".") and entry.is_dir() and not here.is_relative_to(entry.resolve())
    ]
    if not folders:
        raise DataError(f"{root} has no folders in it; expected one folder a class")
    return folders


def _image_files(folder: Path) -> Iterator[Path]:
    """The images in a folder and the folders inside it, in the order of their paths."""
    for above, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(above, name)
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES:
                yield path


def _read_image(path: Path, size: int, channels: int) -> np.ndarray:
    """An image as ``(channels, size, size)`` uint8."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=FORMATS) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):
                # 16 bits a pixel, which Pillow would cut at 255 instead of scaling them.
                image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
            image = _on_white(image).convert("L" if channels == 1 else "RGB")
            side = min(image.size)
            left, upper = ((length - side) // 2 for length in image.size)
            square = image.crop((left, upper, left + side, upper + side))
            square = square.resize((size, size), Image.Resampling.BILINEAR)
    return np.atleast_3d(np.asarray(square)).transpose(2, 0, 1)


def _on_white(image: Image.Image) -> Image.Image:
    """A transparent image on white paper."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
