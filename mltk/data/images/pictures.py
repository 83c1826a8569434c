"""The labelled pictures of a dataset, as arrays in memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mltk.errors import DtypeError, NotFiniteError, ShapeError


class Pictures(NamedTuple):
    """All images of a dataset, those of one class together and the classes in order.

    Attributes:
        images: ``(N, C, H, W)``: float32 in [0, 1], or uint8 that stands for 255 times the value, which
            takes a quarter of the memory.
        counts: How many images each class has, ``(classes,)``, integers.
        names: The name of each class, such as ``"Latin/character01"``.
        groups: The group of each class, ``(classes,)`` strings: its alphabet or superclass. ``None`` if there
            are none.
    """

    images: np.ndarray
    counts: np.ndarray
    names: tuple[str, ...]
    groups: np.ndarray | None = None


def as_float(images: np.ndarray) -> np.ndarray:
    """Images as float32 in [0, 1], from that or from uint8."""
    return images if images.dtype == np.float32 else np.divide(images, np.float32(255))


def checked(pictures: Pictures) -> Pictures:
    """The same, with read-only images, if the arrays fit each other."""
    images, counts, names, groups = pictures
    if images.ndim != 4 or 0 in images.shape:
        raise ShapeError(f"images has shape {images.shape}; expected (N, C, H, W), not empty")
    if images.dtype not in (np.float32, np.uint8):
        raise DtypeError(f"images has dtype {images.dtype}; expected float32 or uint8")
    # A comparison with NaN is false.
    if images.dtype == np.float32 and not (images.min() >= 0 and images.max() <= 1):
        raise NotFiniteError("images holds NaN or values outside [0, 1]; expected numbers in [0, 1]")
    if counts.dtype.kind not in "iu" or counts.ndim != 1:
        raise DtypeError(f"counts is {counts.dtype} {counts.shape}; expected integers, one a class")
    if counts.sum() != len(images) or counts.min() < 0:
        raise ShapeError(f"counts add up to {counts.sum()}; expected the number of images, {len(images)}")
    for name, labels in (("names", names), ("groups", groups)):
        if labels is not None and len(labels) != len(counts):
            raise ShapeError(f"{name} has {len(labels)} entries; expected one a class, {len(counts)}")
    images = images.view()
    images.flags.writeable = False
    return pictures._replace(images=images)
