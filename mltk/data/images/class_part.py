"""Some classes of a dataset, so that others are kept back to decide by."""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Annotated

import numpy as np

from mltk.checks import Checked, CountOrZero, Flag, check_between
from mltk.data.images.class_split import split_classes
from mltk.data.images.pictures import Pictures
from mltk.data.images.tasks import ImageDataset
from mltk.errors import SettingError

FEW = 5
"""With fewer groups than this, classes are dealt out one by one."""


@dataclass(frozen=True)
class ClassPart(Checked, ImageDataset):
    """The classes of a dataset without some that are kept back, or these.

    Whole groups (alphabets) are kept back where there are at least 5 of them, and otherwise single classes:
    what is decided by classes kept back holds for new ones.

    Attributes:
        dataset: An `ImageDataset`.
        share: The part of its groups, or of its classes, that is kept back, between 0 and 1.
        kept_back: Whether this dataset has those that are kept back, and not the others.
        seed: Which ones are.

    Raises:
        SettingError: If a setting is not valid. When first used: if one of the parts has no class.

    Examples:
        >>> import mltk
        >>> glyphs = mltk.data.Glyphs(alphabets=10, characters=3, drawings=2)
        >>> rest = mltk.data.ClassPart(glyphs, share=0.2)
        >>> rest.n_classes, rest.other.n_classes, set(rest.class_names) & set(rest.other.class_names)
        (24, 6, set())
    """

    dataset: ImageDataset
    _: KW_ONLY
    share: Annotated[float, check_between] = 0.2
    kept_back: Flag = False
    seed: CountOrZero = 0

    def __post_init__(self) -> None:
        if not isinstance(self.dataset, ImageDataset):
            raise SettingError(
                f"dataset is {self.dataset!r}; expected an image dataset, as mltk.data.Glyphs()"
            )
        super().__post_init__()

    @property
    def other(self) -> ClassPart:
        """The other part."""
        return dataclasses.replace(self, kept_back=not self.kept_back)

    @property
    def names_identify(self) -> bool:  # type: ignore[override]
        """As of the dataset."""
        return self.dataset.names_identify

    def held_out(self) -> ImageDataset:
        """What the dataset holds out or, if that is nothing, the other part."""
        try:
            return self.dataset.held_out()
        except SettingError:
            return self.other

    def take(self, numbers: np.ndarray, *, rotations: bool = False) -> np.ndarray:
        """See `ImageDataset.take`."""
        whole = len(self.dataset.pictures.images)
        quarter, number = np.divmod(numbers, len(self._places))
        return self.dataset.take(self._places[number] + quarter * whole, rotations=rotations)

    @cached_property
    def pictures(self) -> Pictures:
        """See `ImageDataset.pictures`."""
        return self._load()

    @cached_property
    def class_digests(self) -> tuple[tuple[str, ...], ...]:
        """See `ImageDataset.class_digests`."""
        of_all = self.dataset.class_digests
        return tuple(of_all[place] for place in np.flatnonzero(self._chosen))

    @cached_property
    def _chosen(self) -> np.ndarray:
        """Which classes of the dataset are here, bool ``(classes,)``."""
        names, groups = self.dataset.class_names, self.dataset.pictures.groups
        dealt = names
        of_class = np.asarray(names)
        if groups is not None and len(self.dataset.group_names) >= FEW:
            dealt, of_class = self.dataset.group_names, groups
        back, rest = split_classes(dealt, (self.share, 1 - self.share), seed=self.seed)
        return np.isin(of_class, back if self.kept_back else rest)

    @cached_property
    def _places(self) -> np.ndarray:
        """Where the images that are here stand in the dataset."""
        return np.flatnonzero(np.repeat(self._chosen, self.dataset.pictures.counts))

    def _load(self) -> Pictures:
        images, counts, names, groups = self.dataset.pictures
        images = images[self._places]
        images.flags.writeable = False
        kept = tuple(name for name, here in zip(names, self._chosen, strict=True) if here)
        return Pictures(images, counts[self._chosen], kept, None if groups is None else groups[self._chosen])
