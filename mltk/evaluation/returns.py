"""What adaptation is worth to a policy: returns before and after it, on unseen tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np

from mltk.backend import backend_of, check_backend
from mltk.checks import Count, CountOrZero, checked, has
from mltk.contracts import Backend
from mltk.errors import NotFiniteError
from mltk.evaluation.blocks import blocks
from mltk.evaluation.result import Evaluation
from mltk.tree import Tree

if TYPE_CHECKING:
    from mltk.algorithms import StochasticMAML
    from mltk.data.families.rollouts import EnvironmentSource


class Returns(NamedTuple):
    """The mean return of trajectories over unseen tasks, with and without adaptation.

    Attributes:
        before: Of the policy as it was meta-trained.
        after: Of the policy adapted to each task, with the same random numbers.
        gain: Their difference, task by task.
    """

    before: Evaluation
    after: Evaluation
    gain: Evaluation

    def __str__(self) -> str:
        return f"before adaptation: {self.before}\nafter adaptation: {self.after}\ngain: {self.gain}"


@checked
def returns(
    algorithm: Annotated[StochasticMAML, has("returns", "mltk.algorithms.StochasticMAML(...)")],
    meta_params: Tree,
    tasks: Annotated[EnvironmentSource, has("sample", "mltk.data.Navigation()")],
    *,
    episodes: Count,
    seed: CountOrZero = 0,
    backend: Backend | None = None,
) -> Returns:
    """Roll a policy out in unseen tasks, before and after it has adapted to them.

    The tasks are drawn in blocks as by `mltk.evaluate`.

    Args:
        algorithm: A meta-learner of policies.
        meta_params: Its meta-parameters.
        tasks: Where tasks come from.
        episodes: How many tasks.
        seed: Seed of the tasks; none of them is drawn by `mltk.train`, whatever its seed.
        backend: Where to compute; ``None`` for the backend of the meta-parameters.

    Raises:
        SettingError: If a setting is not valid.
        NotFiniteError: If a return is NaN or infinite.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.StochasticMAML(mltk.models.mlp([1, 3]))
        >>> params = learner.init(mltk.backend("numpy"), seed=0)
        >>> found = mltk.evaluation.returns(learner, params, mltk.data.Bandits(arms=3), episodes=40)
        >>> found.after.values.shape
        (40,)
    """
    if backend is None:
        backend = backend_of(meta_params)
    check_backend(backend)
    found: tuple[list[np.ndarray], list[np.ndarray]] = [], []
    for drawn in blocks(tasks, episodes, seed, backend):
        for values, params in zip(found, (meta_params, algorithm.adapt(meta_params, drawn)), strict=True):
            values.append(backend.to_numpy(algorithm.returns(params, drawn)).astype(np.float64))
    before, after = (np.concatenate(values)[:episodes] for values in found)
    if not np.isfinite(after - before).all():
        task = int(np.argmin(np.isfinite(after - before)))
        raise NotFiniteError(f"a return in task {task} is NaN or infinite: adapting diverged")
    return Returns(*(Evaluation("return", values) for values in (before, after, after - before)))
