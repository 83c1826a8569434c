"""Folders of images on the disk: which folders are classes, and which files images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mltk.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What the names of images end with."""

PARTS = ("train", "val", "valid", "validation", "test")
"""What folders are called that hold classes for training, validation and testing."""


def class_folders(root: Path, wanted: Sequence[str] | None = None) -> list[Path]:
    """The folders in the root, in the order of their names.

    Args:
        root: The folder.
        wanted: Only these; ``None`` for all.

    Raises:
        DataError: If the root cannot be read, has no folders, lacks a wanted one, or has parts instead.
    """
    folders = _folders(root)
    if not folders:
        raise DataError(f"{root} has no folders in it; expected one folder a class")
    if wanted is None:
        if parts := parts_of(root):
            raise DataError(
                f"{root} has the parts {', '.join(parts)}, each with classes of its own; expected one "
                f"of them, such as {root / parts[0]} (ImageFolder.split() gives a dataset for each)"
            )
        return folders
    if missing := sorted(set(wanted) - {folder.name for folder in folders}):
        raise DataError(
            f"{root} has no folder {missing[0]!r}, which is one of the {len(wanted)} classes wanted"
        )
    return [folder for folder in folders if folder.name in wanted]


def parts_of(root: Path) -> list[str]:
    """The parts that a folder consists of, in the order of `PARTS`; none if its folders are classes.

    They are parts if train and another one are there and nothing else, and hold folders but no images.
    """
    folders = {folder.name: folder for folder in _folders(root)}
    if "train" not in folders or len(folders) < 2 or not folders.keys() <= set(PARTS):
        return []
    for folder in folders.values():
        inside = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        if any(_is_image(entry) for entry in inside) or not any(entry.is_dir() for entry in inside):
            return []
    return [part for part in PARTS if part in folders]


def image_files(folder: Path) -> Iterator[Path]:
    """The images in a folder and the folders inside it, in the order of their paths."""
    for above, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(above, name)
            if not name.startswith(".") and _is_image(path):
                yield path


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _folders(root: Path) -> list[Path]:
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
    return [
        entry
        for entry in entries
        # A link back to the root or above it would make a class of all classes.
        if not entry.name.startswith(".") and entry.is_dir() and not here.is_relative_to(entry.resolve())
    ]
