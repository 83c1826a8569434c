"""How a training gets the tasks of its next step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from mltk.contracts import Backend, Learner
from mltk.data.prefetch import Prefetch
from mltk.data.source import Proposal, TaskSource
from mltk.episode import Episode
from mltk.tree import Tree

Draw = Callable[[Tree, dict[str, np.ndarray]], Proposal]
"""The tasks of the next step, given the meta-parameters and the state of the source."""


def state_at_start(tasks: Any) -> dict[str, np.ndarray]:
    """What a source knows before the first step: nothing, unless it is a `mltk.data.source.Proposer`."""
    found: dict[str, np.ndarray] = tasks.start() if hasattr(tasks, "propose") else {}
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
        yield lambda meta_params, state: propose(
            n_tasks, rng, backend, learner=learner, meta_params=meta_params, state=state
        )
        return
    source: AbstractContextManager[Iterator[Episode]] = (
        Prefetch(tasks, n_tasks, rng, backend, count=count)
        if getattr(tasks, "prefetch", False)
        else nullcontext(tasks.sample(n_tasks, rng, backend) for _ in range(count))
    )
    with source as episodes:
        yield lambda meta_params, state: Proposal(next(episodes), state, {})
