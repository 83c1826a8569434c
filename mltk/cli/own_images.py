"""Folders of the user's own images: which classes are trained on, and which are kept to test on."""

from __future__ import annotations

from pathlib import Path

from mltk.data import ImageFolder
from mltk.data.images.class_folders import parts_of

HELD_OUT = 0.2
"""The share of the classes of a folder that are kept to test on, at least two of them."""


def own_images(folder: Path, size: int, *, ways: int | None, at_least: int | None) -> ImageFolder:
    """The classes to train on: those of the folder train, if there is one, or most of them, at random.

    All of them, if otherwise fewer were left than a task needs.

    Args:
        folder: Holds a folder a class, or the folders train and test (and val) that hold those.
        size: Side of the images.
        ways: Classes a task that are asked for.
        at_least: Classes with fewer images are left out.
    """
    # Absolute, so that the run can be evaluated from anywhere.
    whole = ImageFolder(folder.resolve(), size, at_least=at_least)
    if parts_of(Path(whole.root)):
        return whole.split()[0]
    kept = max(2, round(HELD_OUT * whole.n_classes))
    if whole.n_classes - kept < max(2, ways or 0):
        return whole
    share = kept / whole.n_classes
    return whole.split((1 - share, share))[0]
