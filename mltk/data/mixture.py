"""Tasks of several kinds at once."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np

from mltk.checks import Checked, Flag, check_has, check_scale
from mltk.contracts import Backend
from mltk.data.source import TaskSource, generator
from mltk.episode import ARRAYS, Episode, joined
from mltk.errors import SettingError


def check_sources(name: str, value: Any) -> None:
    """Raise `SettingError` unless this is a tuple of task sources, at least one."""
    if not isinstance(value, tuple) or not value:
        raise SettingError(f"{name} is {value!r}; expected a tuple of task sources, at least one")
    for each in value:
        check_has(f"each of {name}", each, "sample", "mltk.data.Sinusoid(shots=5, queries=10)")


@dataclass(frozen=True)
class Mixture(Checked):
    """Tasks of several sources, each of one of them at random.

    Half sinusoids and half lines (Finn, Xu & Levine 2018, *Probabilistic model-agnostic meta-learning*) is
    one; so are tasks of few and of many shots. What tasks say of classes and groups is kept if all sources
    have the same ``class_names``.

    Attributes:
        sources: Where tasks come from.
        weights: How often each is chosen, in any unit; ``None`` for equally often.
        together: Whether all tasks of one draw are of the same source. They must be where these differ in
            ways, shots or shapes; an evaluation then draws blocks of 20 of a kind.

    Raises:
        SettingError: If there is no source, or the weights are not as many numbers of at least 0, one above.

    Examples:
        >>> import mltk
        >>> waves = mltk.data.Sinusoid(shots=5, queries=10)
        >>> lines = mltk.data.LinearRegression(shots=5, queries=10, features=1)
        >>> mltk.data.Mixture((waves, lines)).sample(4, rng=0, backend=mltk.backend("numpy")).support_x.shape
        (4, 5, 1)
    """

    sources: Annotated[tuple[TaskSource, ...], check_sources]
    _: KW_ONLY
    weights: tuple[float, ...] | None = None
    together: Flag = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is not None:
            if not isinstance(self.weights, tuple):
                raise SettingError(f"weights is {self.weights!r}; expected a tuple of numbers")
            for each in self.weights:
                check_scale("each of weights", each)
            if len(self.weights) != len(self.sources) or not sum(self.weights):
                raise SettingError(
                    f"weights is {self.weights}; expected {len(self.sources)} numbers, not all of them 0"
                )

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """Draw tasks; see `TaskSource.sample`.

        Raises:
            ShapeError: If tasks of different sources do not fit each other, unless ``together``.
        """
        rng = generator(rng, n_tasks)
        which = rng.choice(len(self.sources), 1 if self.together else n_tasks, p=self._chances)
        if self.together:
            which = np.repeat(which, n_tasks)
        counts = np.bincount(which, minlength=len(self.sources))
        drawn = (
            source.sample(int(count), rng, backend)
            for source, count in zip(self.sources, counts, strict=True)
            if count
        )
        episode = joined([part if self._same_classes else _nameless(part) for part in drawn])
        # They stand by their source, and are put where each was drawn for.
        places = np.argsort(np.argsort(which, kind="stable"), kind="stable")
        moved: dict[str, Any] = {
            name: backend.xp.take(getattr(episode, name), backend.asarray(places), axis=0) for name in ARRAYS
        }
        for name in ("classes", "groups", "weights"):
            values = getattr(episode, name)
            moved[name] = None if values is None else values[places]
        return replace(episode, **moved)

    @property
    def _chances(self) -> np.ndarray:
        """How probable each source is."""
        weights = np.ones(len(self.sources)) if self.weights is None else np.asarray(self.weights, float)
        return np.asarray(weights / weights.sum())

    @cached_property
    def _same_classes(self) -> bool:
        """Whether numbers of classes mean the same in all sources."""
        return len({getattr(source, "class_names", None) for source in self.sources}) == 1


def _nameless(episode: Episode) -> Episode:
    return replace(episode, classes=None, groups=None)
