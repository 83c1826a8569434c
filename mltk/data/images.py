"""Image datasets: labelled pictures in memory, from which few-shot tasks are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from mltk.data.class_identity import digests
from mltk.data.image_tasks import QUARTERS, ImageTasks
from mltk.data.jitter import Jitter
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


class ImageDataset(ABC):
    """Labelled images for few-shot classification.

    A subclass is a frozen dataclass whose fields are settings alone. The images are loaded when they
    are first needed, and once.

    Attributes:
        names_identify: Whether classes of the same name in two such datasets are the same class.
    """

    names_identify: ClassVar[bool] = True

    @abstractmethod
    def _load(self) -> Pictures:
        """Read or draw the images."""

    @abstractmethod
    def held_out(self) -> ImageDataset:
        """A dataset of the same kind whose classes this one does not hold, to evaluate on.

        Raises:
            SettingError: If there is none.
        """

    @cached_property
    def pictures(self) -> Pictures:
        """The images and what they show.

        Raises:
            ShapeError: If their arrays do not fit each other.
            DtypeError: If the images are neither float32 nor uint8.
            NotFiniteError: If a value is NaN or lies outside [0, 1].
        """
        return _checked(self._load())

    @property
    def images(self) -> np.ndarray:
        """The images, float32 ``(N, C, H, W)`` in [0, 1]; from uint8 they are converted anew each time."""
        return _as_float(self.pictures.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.pictures.images.shape[1:]
        return channels, height, width

    @property
    def n_classes(self) -> int:
        """How many classes there are, rotations not counted."""
        return len(self.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class."""
        return self.pictures.names

    @cached_property
    def group_names(self) -> tuple[str, ...]:
        """The name of each group (alphabet, superclass), in order; empty if there are none."""
        groups = self.pictures.groups
        return () if groups is None else tuple(np.unique(groups).tolist())

    @cached_property
    def group_numbers(self) -> np.ndarray | None:
        """The place of each class's group in ``group_names``, ``(classes,)``; ``None`` without groups."""
        groups = self.pictures.groups
        return None if groups is None else np.unique(groups, return_inverse=True)[1]

    @cached_property
    def class_digests(self) -> tuple[tuple[str, ...], ...]:
        """A digest of each image of each class, of its pixels in bytes: see `mltk.data.class_identity`."""
        images, counts = self.pictures.images, self.pictures.counts
        return digests(images if images.dtype == np.uint8 else np.rint(255 * images).astype(np.uint8), counts)

    @cached_property
    def rotations(self) -> np.ndarray:
        """The images turned counter-clockwise by 0°, 90°, 180° and 270°, ``(4, N, C, H, W)``.

        Turning images as they are drawn takes three times as long as drawing them, so tasks with rotations
        keep these copies.

        Raises:
            ShapeError: If the images are not square.
        """
        images = self.pictures.images
        height, width = images.shape[-2:]
        if height != width:
            raise ShapeError(f"rotations need square images; these have {height} by {width} pixels")
        turned = np.empty((QUARTERS, *images.shape), images.dtype)
        for quarter in range(QUARTERS):
            turned[quarter] = np.rot90(images, quarter, axes=(-2, -1))
        return turned

    def take(self, numbers: np.ndarray, *, rotations: bool = False) -> np.ndarray:
        """Some of the images, as a new array.

        Args:
            numbers: Which ones: integers of any shape in ``0..N-1``, or with rotations in ``0..4N-1``:
                image ``n`` turned by ``q`` quarters is ``n + q N``.
            rotations: Whether ``numbers`` runs through the rotated images too.

        Returns:
            float32 ``(*numbers.shape, C, H, W)`` in [0, 1].

        Raises:
            ShapeError: If images that are not square should be rotated.
        """
        images = self.rotations if rotations else self.pictures.images
        return _as_float(images.reshape(-1, *self.image_shape)[numbers])

    def tasks(
        self,
        ways: int,
        shots: int,
        queries: int,
        *,
        within: str | None = None,
        rotations: bool = False,
        jitter: Jitter | None = None,
    ) -> ImageTasks:
        """Few-shot tasks on these images; the arguments are those of `ImageTasks`, and checked at once.

        Raises:
            SettingError: If a setting is not valid, or the dataset has too few classes or images for it.
        """
        tasks = ImageTasks(self, ways, shots, queries, within=within, rotations=rotations, jitter=jitter)
        tasks.check()
        return tasks


def _as_float(images: np.ndarray) -> np.ndarray:
    """Images as float32 in [0, 1], from that or from uint8."""
    return images if images.dtype == np.float32 else np.divide(images, np.float32(255))


def _checked(pictures: Pictures) -> Pictures:
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
