"""How a training gets the tasks of its next step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from mltk.checks import check_has
from mltk.contracts import Backend, Learner
from mltk.data.prefetch import Prefetch
from mltk.data.source import Proposal, TaskSource
from mltk.episode import Episode
from mltk.errors import SettingError
from mltk.tree import Tree

Draw = Callable[[Tree, dict[str, np.ndarray]], Proposal]
"""The tasks of the next step, given the meta-parameters and the state of the source."""


def state_at_start(tasks: Any) -> dict[str, np.ndarray]:
    """What a source knows before the first step: nothing, unless it is a `mltk.data.source.Proposer`."""
    if not hasattr(tasks, "propose"):
        return {}
    check_has("tasks", tasks, "start", "mltk.task_analysis.curricula.HardMining(...)")
    found = tasks.start()
    if not isinstance(found, dict) or not all(isinstance(each, np.ndarray) for each in found.values()):
        raise SettingError(f"tasks.start gave {found!r}; expected NumPy arrays by name")
    return found


@contextmanager
def draws(
    learner: Learner,
    tasks: TaskSource,
    n_tasks: int,
    rng: np.random.Generator,
    backend: Backend,
    *,
    count: int,
) -> Iterator[Draw]:
    """What is called once for each of ``count`` steps; after each, ``rng`` is as sampling has left it."""
    if hasattr(tasks, "propose"):
        propose = tasks.propose

        def checked(meta_params: Tree, state: dict[str, np.ndarray]) -> Proposal:
            found = propose(n_tasks, rng, backend, learner=learner, meta_params=meta_params, state=state)
            return _checked(found, n_tasks, state)

        yield checked
        return
    source: AbstractContextManager[Iterator[Episode]] = (
        Prefetch(tasks, n_tasks, rng, backend, count=count)
        if getattr(tasks, "prefetch", False)
        else nullcontext(tasks.sample(n_tasks, rng, backend) for _ in range(count))
    )
    with source as episodes:
        yield lambda meta_params, state: Proposal(next(episodes), state, {})


def _checked(found: Any, n_tasks: int, state: dict[str, np.ndarray]) -> Proposal:
    """A proposal, with figures as plain numbers.

    Raises:
        SettingError: If it is none, or not of as many tasks, of a state like the last, and of new figures.
    """
    if not isinstance(found, Proposal) or not isinstance(found.episode, Episode):
        raise SettingError(f"tasks.propose gave {type(found).__name__}; expected a Proposal of an Episode")
    if len(found.episode.support_x) != n_tasks:
        raise SettingError(f"tasks.propose gave {len(found.episode.support_x)} tasks; expected {n_tasks}")
    told, known = (
        {name: (array.shape, array.dtype) for name, array in each.items()} for each in (found.state, state)
    )
    if told != known:
        raise SettingError(f"the state of tasks.propose is {told}; expected {known}, as of tasks.start")
    if taken := found.figures.keys() & {"step", "loss", "seconds"}:
        raise SettingError(f"the figures of tasks.propose have {min(taken)!r}; expected other names")
    return found._replace(figures={name: float(value) for name, value in found.figures.items()})
