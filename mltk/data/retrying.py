"""Sources that raise now and then: a draw that fails is made again, as if it had not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np

from mltk.checks import Checked, CountOrZero, NonNegative, has
from mltk.contracts import Backend
from mltk.episode import Episode
from mltk.errors import DivergedError, SettingError

FINAL = (SettingError, DivergedError)
"""What no further attempt mends: a wrong argument, and a learner that has diverged."""

Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class Retrying(Checked):
    """A task source that is asked again where it raises: a file server that is away, a download that broke.

    A generator is put back to where it stood before the attempt, so a draw that succeeds at last gives the
    tasks that it would have given at once, and leaves the generator as it would have. It is otherwise as the
    source: curricula propose, `mltk.data.Prefetch` reads ahead. After the last attempt the error is raised,
    and no task is left out: an evaluation is of all the tasks that it names, or of none. In a training,
    `mltk.toolkit.Recovery` draws others in their place.

    An exception of any kind counts, but for a `mltk.errors.SettingError` (a wrong argument) and a
    `mltk.errors.DivergedError` (of a learner that a curriculum asks).

    Attributes:
        tasks: The source.
        retries: How often a draw is tried again.
        wait: Seconds before the first retry; twice as many before each further one.

    Examples:
        >>> import mltk
        >>> class Flaky(mltk.data.Sinusoid):
        ...     failures = [ConnectionError("the server is away")]
        ...     def sample(self, n_tasks, rng, backend):
        ...         if self.failures:
        ...             raise self.failures.pop()
        ...         return super().sample(n_tasks, rng, backend)
        >>> tasks = mltk.data.Retrying(Flaky(shots=5, queries=5), wait=0.0)
        >>> tasks.sample(4, 0, mltk.backend("numpy")).support_x.shape
        (4, 5, 1)
    """

    tasks: Annotated[Any, has("sample", "mltk.data.Sinusoid(...)")]
    retries: CountOrZero = 3
    wait: NonNegative = 0.1

    passes_on: ClassVar[bool] = True

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """See `mltk.data.TaskSource`."""
        episode: Episode = self._drawn(self.tasks.sample, n_tasks, rng, backend)
        return episode

    def __getattr__(self, name: str) -> Any:
        if name == "tasks" or name.startswith("__"):  # asked for before there are any, when one is unpickled
            raise AttributeError(name)
        found = getattr(self.tasks, name)
        return partial(self._drawn, found) if name in ("propose", "of_classes", "allowed") else found

    def _drawn(self, draw: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What ``draw`` gives, at some attempt."""
        return self.drawn(
            partial(draw, *given, **named), generators(given, named), lambda error, attempt: None
        )

    def drawn(
        self,
        draw: Callable[[], Drawn],
        generators: Sequence[np.random.Generator],
        failed: Callable[[Exception, int], None],
    ) -> Drawn:
        """What ``draw`` gives, at some attempt.

        Args:
            draw: Draws once.
            generators: What it draws with: put back after each failure.
            failed: Told of each failure, the last one as well, with its number.
        """
        states = [(each, each.bit_generator.state) for each in generators]
        for attempt in range(1, self.retries + 2):
            try:
                return draw()
            except FINAL:
                raise
            except Exception as error:
                for rng, state in states:
                    rng.bit_generator.state = state
                failed(error, attempt)
                if attempt > self.retries:
                    raise
            time.sleep(self.wait * 2 ** (attempt - 1))
        raise AssertionError("every attempt returns or raises")


def generators(given: tuple[Any, ...], named: dict[str, Any]) -> list[np.random.Generator]:
    """The generators among the arguments of a call."""
    return [each for each in (*given, *named.values()) if isinstance(each, np.random.Generator)]
