"""Image datasets, and the few-shot classification tasks that are drawn from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from mltk.backend import check_backend
from mltk.checks import Checked, Count, Flag, Several
from mltk.contracts import Backend
from mltk.data.distinct import distinct
from mltk.data.images.class_identity import digests
from mltk.data.images.jitter import Jitter
from mltk.data.images.pictures import Pictures, as_float, checked
from mltk.data.source import generator
from mltk.episode import Episode
from mltk.errors import SettingError, ShapeError

WITHIN = (None, "alphabet")
QUARTERS = 4
"""Rotations by a quarter turn that are classes of their own."""


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
        return checked(self._load())

    @property
    def images(self) -> np.ndarray:
        """The images, float32 ``(N, C, H, W)`` in [0, 1]; from uint8 they are converted anew each time."""
        return as_float(self.pictures.images)

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
        """A digest of each image of each class, of its pixels in bytes: see `class_identity`."""
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
        return as_float(images.reshape(-1, *self.image_shape)[numbers])

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


class Choice(NamedTuple):
    """What tasks choose from: classes in the order of their groups.

    Attributes:
        classes: Class numbers, those of one group together, ``(classes,)``.
        starts: Where each group starts in ``classes``, ``(groups,)``.
        sizes: How many classes each group has, ``(groups,)``.
        first: The first image of each class, ``(classes,)``.
    """

    classes: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    first: np.ndarray


@dataclass(frozen=True)
class ImageTasks(Checked):
    """Tasks of telling apart ``ways`` classes of a dataset, given ``shots`` images of each.

    The classes of a task differ from each other, and so do its images of a class: no support image is
    among the queries. All choices are uniform, and drawn for all tasks at once.

    Attributes:
        dataset: An `ImageDataset`.
        ways: Classes a task, at least 2.
        shots: Support images a class.
        queries: Query images a class.
        within: ``"alphabet"`` draws the classes of each task from one group of the dataset (an alphabet of
            Omniglot, a superclass), all groups being equally likely; ``None`` from the whole dataset.
        rotations: Whether each class counts as four, its images turned by 0°, 90°, 180° and 270° (as Vinyals
            et al. 2016 do with Omniglot); the four belong to the group of the class. Four copies of the
            images are kept in memory.
        jitter: A random distortion of each support and query image; ``None`` for none.

    Raises:
        SettingError: If a setting is not of its kind.
    """

    dataset: ImageDataset
    ways: Several
    shots: Count
    queries: Count
    _: KW_ONLY
    within: str | None = None
    rotations: Flag = False
    jitter: Jitter | None = None
    prefetch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not hasattr(type(self.dataset), "take"):
            raise SettingError(
                f"dataset is {self.dataset!r}; expected an image dataset, as mltk.data.Glyphs()"
            )
        super().__post_init__()
        if self.within not in WITHIN:
            raise SettingError(f"within is {self.within!r}; expected None or 'alphabet'")
        if not isinstance(self.jitter, Jitter | None):
            raise SettingError(f"jitter is {self.jitter!r}; expected a Jitter or None")

    def check(self) -> None:
        """Load the dataset, and raise unless it has enough images, classes and groups.

        `sample` does the same when it is first called.

        Raises:
            SettingError: If a class has fewer than ``shots + queries`` images, the dataset or a group
                fewer than ``ways`` classes, or ``within`` asks for groups and there are none.
            ShapeError: If images that are not square should be rotated.
        """
        self.dataset.take(self._choice.first[:1], rotations=self.rotations)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the ``classes`` of an episode mean: all classes, then all of them turned once, and so on."""
        names = self.dataset.class_names
        turned = QUARTERS if self.rotations else 1
        return tuple(f"{name} turned by {90 * q}°" if q else name for q in range(turned) for name in names)

    @property
    def distinct_classes(self) -> int:
        """How many classes there are, without turned ones: class ``c`` is ``c % distinct_classes`` turned."""
        return self.dataset.n_classes

    @property
    def class_digests(self) -> tuple[tuple[str, ...], ...]:
        """Digests of the images of the dataset's classes, which come first in ``class_names``."""
        return self.dataset.class_digests

    @property
    def names_identify(self) -> bool:
        """Whether a class of the same name in another such dataset is the same class."""
        return self.dataset.names_identify

    @property
    def group_names(self) -> tuple[str, ...]:
        """What the ``groups`` of an episode mean; empty if the dataset has no groups."""
        return self.dataset.group_names

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """Draw tasks.

        Inputs are ``(n_tasks, ways · shots or queries, C, H, W)``, labels int64. The images are ordered by
        class; which class has which label is random, and said by the episode's ``classes``.

        Args:
            n_tasks: How many.
            rng: A seed or a generator.
            backend: Where the arrays go.

        Raises:
            SettingError: If an argument is not of its kind, or as for `check`.
        """
        check_backend(backend)
        rng = generator(rng, n_tasks)
        choice, quarters = self._choice, QUARTERS if self.rotations else 1
        group = rng.integers(len(choice.sizes), size=n_tasks)
        drawn = distinct(rng, quarters * choice.sizes[group], self.ways)
        place, quarter = np.divmod(drawn, quarters)
        classes = choice.classes[choice.starts[group, None] + place] + self.dataset.n_classes * quarter
        return self.of_classes(classes, rng, backend)

    def allowed(self, n_tasks: int, rng: np.random.Generator) -> np.ndarray:
        """The classes that each of some tasks may choose from, bool ``(n_tasks, classes)``.

        That is all of them, or those of a group for each task: see ``within``.
        """
        choice = self._choice
        group = rng.integers(len(choice.sizes), size=n_tasks)
        of_class = np.empty(self.dataset.n_classes, np.int64)
        of_class[choice.classes] = np.repeat(np.arange(len(choice.sizes)), choice.sizes)
        return np.tile(of_class == group[:, None], QUARTERS if self.rotations else 1)

    def of_classes(self, classes: np.ndarray, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """Draw a task of each row of given classes, as `sample` does once it has chosen them.

        Args:
            classes: Numbers of ``class_names``, those of a row different, ``(n_tasks, ways)``; label ``j``
                belongs to column ``j``.
            rng: A seed or a generator.
            backend: Where the arrays go.

        Raises:
            SettingError: If an argument is not of its kind, or as for `check`.
            ShapeError: If ``classes`` has another shape.
        """
        check_backend(backend)
        classes = np.asarray(classes)
        if classes.ndim != 2 or classes.shape[1] != self.ways or not len(classes):
            raise ShapeError(f"classes is {classes.shape}; expected (n_tasks, ways) = (…, {self.ways})")
        n_classes, n_tasks = len(self.class_names), len(classes)
        known = classes.dtype.kind in "iu" and ((classes >= 0) & (classes < n_classes)).all()
        if not known or (np.diff(np.sort(classes, axis=1)) == 0).any():
            raise SettingError(
                f"classes is {classes.tolist()}; expected integers from 0 to {n_classes - 1}, "
                "those of a task different"
            )
        rng, choice = generator(rng, n_tasks), self._choice
        quarter, base = np.divmod(classes, self.dataset.n_classes)
        available = self.dataset.pictures.counts[base]
        images: np.ndarray = distinct(rng, available.reshape(-1), self.shots + self.queries)
        images = images.reshape(n_tasks, self.ways, -1) + choice.first[base][..., None]
        images += (len(self.dataset.pictures.images) * quarter)[..., None]
        groups = self.dataset.group_numbers
        sets = []
        for part in (images[..., : self.shots], images[..., self.shots :]):
            x = self.dataset.take(part.reshape(n_tasks, -1), rotations=self.rotations)
            if self.jitter is not None:
                x = self.jitter(x.reshape(-1, *x.shape[2:]), rng).reshape(x.shape)
            labels = np.tile(np.repeat(np.arange(self.ways, dtype=np.int64), part.shape[-1]), (n_tasks, 1))
            sets += [backend.asarray(x), backend.asarray(labels)]
        groups = None if groups is None else groups[base]
        return Episode(*sets, ways=self.ways, backend=backend, classes=classes, groups=groups)

    @cached_property
    def _choice(self) -> Choice:
        """What there is to choose from, once it is known to be enough."""
        _, counts, names, groups = self.dataset.pictures
        needed = self.shots + self.queries
        short = np.flatnonzero(counts < needed)
        if short.size:
            hint = (
                f" (at_least={needed} leaves out smaller classes)"
                if hasattr(self.dataset, "at_least")
                else ""
            )
            raise SettingError(
                f"class {_named(names[short[0]], short.size)} has {counts[short[0]]} images; "
                f"expected at least shots + queries = {self.shots} + {self.queries} = {needed} in each "
                f"class{hint}"
            )
        if self.within is None:
            order, starts = np.arange(len(counts)), np.zeros(1, np.int64)
            labels = np.asarray([type(self.dataset).__name__])
        elif groups is None:
            raise SettingError(
                f"within is {self.within!r}, but {type(self.dataset).__name__} has no alphabets "
                "or other groups of classes; expected None"
            )
        else:
            order = np.argsort(groups, kind="stable")
            labels, starts = np.unique(groups[order], return_index=True)
        sizes = np.diff(starts, append=len(counts))
        quarters = QUARTERS if self.rotations else 1
        few = np.flatnonzero(quarters * sizes < self.ways)
        if few.size:
            turned = f" ({quarters * sizes[few[0]]} with rotations)" if self.rotations else ""
            what = (
                "the dataset" if self.within is None else f"{self.within} {_named(labels[few[0]], few.size)}"
            )
            advice = (
                "choose fewer ways or more classes"
                if self.within is None
                else "choose fewer ways, or a dataset without such groups (Omniglot takes alphabets=…)"
            )
            raise SettingError(
                f"{what} has {sizes[few[0]]} classes{turned}; expected at least ways = {self.ways}: {advice}"
            )
        return Choice(order, starts, sizes, np.cumsum(counts) - counts)


def _named(name: str, count: int) -> str:
    """A name, and how many others share its fault."""
    return f"{str(name)!r}" + (f" (and {count - 1} more)" if count > 1 else "")
