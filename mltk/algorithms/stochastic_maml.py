"""MAML for policies: inner and outer losses are costs of sampled trajectories."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from mltk import tree
from mltk.algorithms.checkpoints import unroll_from_checkpoints
from mltk.algorithms.unroll import GradientStep, Pullback, descend, unroll
from mltk.arguments import check_params
from mltk.backend import check_backend
from mltk.checks import Checked, CountOrZero, Flag, NonNegative, check_has
from mltk.contracts import Backend, Model, Objective
from mltk.data.families.rollouts import Environments, Rollout
from mltk.models import check_model
from mltk.ops import LogLikelihood, PolicyLoss
from mltk.ops.kernels import kernels_of
from mltk.ops.loss import mean_over_tasks
from mltk.ops.policy_loss import costs_to_go
from mltk.optim.transforms.granularity import along_tasks
from mltk.tree import Array, Tree


class CreditedAdjoint(NamedTuple):
    """The derivatives of the query loss at a point of the descent, per task.

    Attributes:
        params: For its parameters.
        credit: What weighs the score of the examples that were sampled on the way there: the query loss, from
            which a number may be taken that does not depend on the samples of the own task.
    """

    params: Tree
    credit: Array


@dataclass(frozen=True)
class StochasticMAML(Checked):
    r"""MAML whose losses are sampled, for policies (Finn et al. 2017, algorithm 3).

    Each inner step samples trajectories of the present policy and descends along the gradient of their
    `mltk.ops.PolicyLoss`; the query loss is the mean cost of trajectories of the adapted policy. The
    meta-gradient can be that of two things:

    - By default, the expected cost after steps along the *expected* gradient. The Hessian products then need
      the magic box, without which they miss terms (Foerster et al. 2018). They are unbiased, and the
      meta-gradient is consistent: its bias falls with the number of trajectories.
    - With ``sampled_step``, the expected cost after the steps that the *sampled* gradients make. The samples
      of a step are then data, with the plain Hessian, but their probability depends on the policy, which adds
      the cost times its score (E-MAML: Stadie et al. 2018). This is unbiased for any number of trajectories,
      with more variance.

    The baseline of each trajectory is the mean cost that is still to come in the other trajectories of its
    task; that of the score is the mean cost in the other tasks. Gradients and Hessian products of costs stay
    unbiased with them, and so does the whole with ``sampled_step``; the bias that few trajectories leave in
    the default form is another one. They make costs that all trajectories share count for nothing, and pay
    with many trajectories: the mean of one other trajectory is a poor baseline.

    Attributes:
        model: The policy: from observations to the numbers that the distribution of actions needs.
        inner_lr: Inner step size.
        inner_steps: Gradient steps, each with new trajectories.
        first_order: Leave the Hessian products out.
        checkpoint: Keep few points of the descent only, and sample them again on the way back.
        sampled_step: See above.
        baseline: Take the baselines; ``False`` for none.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.StochasticMAML(mltk.models.mlp([1, 3]))
        >>> tasks, backend = mltk.data.Bandits(arms=3), mltk.backend("numpy")
        >>> value, grads = learner.value_and_grad(learner.init(backend, seed=0), tasks.sample(4, 0, backend))
        >>> list(mltk.tree.flatten(grads))
        ['0.weight', '0.bias']
    """

    model: Model
    _: KW_ONLY
    inner_lr: NonNegative = 0.01
    inner_steps: CountOrZero = 1
    first_order: Flag = False
    checkpoint: Flag = False
    sampled_step: Flag = False
    baseline: Flag = True

    def __post_init__(self) -> None:
        check_model("model", self.model)
        super().__post_init__()

    @property
    def meta_shapes(self) -> dict[str, tuple[int, ...]]:
        """Dotted name and shape of every meta-parameter."""
        return self.model.shapes

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """The policy's initial parameters.

        Args:
            backend: Where they go, and their dtype.
            seed: A seed or a generator.
        """
        return self.model.init(backend, seed)

    def adapt(self, meta_params: Tree, tasks: Environments) -> Tree:
        """The parameters after adaptation to trajectories of each task.

        Args:
            meta_params: As from `init`.
            tasks: As from the ``sample`` of `mltk.data.Bandits` or `mltk.data.Navigation`.

        Returns:
            A tree like ``meta_params`` with a leading task axis.

        Raises:
            MltkError: If the arguments do not fit each other or the model.
        """
        self._check(meta_params, tasks)
        adapted: Tree = descend(partial(self._step, tasks), meta_params, range(self.inner_steps))
        return adapted

    def returns(self, params: Tree, tasks: Environments) -> Array:
        """The mean return (minus the sum of the costs) of a policy's trajectories in each task, ``(T,)``.

        Args:
            params: Parameters with or without a task axis, as from `init` or `adapt`. All are judged with the
                same random numbers, which `adapt` does not use.
            tasks: The tasks.
        """
        check_has("tasks", tasks, "rollout", "those of mltk.data.Navigation().sample(...)")
        check_params("params", params, self.model.shapes, tasks.backend, tasks=(tasks.n_tasks,))
        costs = self._rollout(tasks, params, self.inner_steps).costs
        return -tasks.backend.xp.sum(costs, axis=(-2, -1)) / costs.shape[-2]

    def value_and_grad(self, meta_params: Tree, tasks: Environments) -> tuple[Array, Tree]:
        """The mean cost of a trajectory after adaptation, averaged over tasks, and its estimated gradient.

        Args:
            meta_params: As from `init`.
            tasks: The tasks, on the backend of the meta-parameters.

        Returns:
            A 0-d array, and a tree like ``meta_params``.

        Raises:
            MltkError: If the arguments do not fit each other or the model.
        """
        self._check(meta_params, tasks)
        way = unroll_from_checkpoints if self.checkpoint else unroll
        value, adjoint = way(
            partial(self._step, tasks), meta_params, self.inner_steps, partial(self._query, tasks)
        )
        return mean_over_tasks(value), tree.map(mean_over_tasks, adjoint.params)

    def _check(self, meta_params: Tree, tasks: Environments) -> None:
        check_has("tasks", tasks, "rollout", "those of mltk.data.Navigation().sample(...)")
        check_backend(tasks.backend)
        check_params("meta_params", meta_params, self.model.shapes, tasks.backend)

    def _step(self, tasks: Environments, params: Tree, number: int, *, back: bool) -> tuple[Tree, Pullback]:
        """A step on trajectories of its own: see `mltk.algorithms.unroll.InnerStep`."""
        engine, (x, y) = tasks.backend.engine, self._examples(tasks, params, number)
        objective = self._objective(tasks, box=not self.sampled_step)
        step = GradientStep(engine, objective, x, y, self.inner_lr, first_order=self.first_order)
        moved, pull_back = step(params, number, back=back)
        score: Tree | None = None
        if back and self.sampled_step:
            probability = Objective(self.model, LogLikelihood(tasks.distribution))
            score = engine.linearize(probability, params, x, y, curvature=False).grad

        def pull_back_both(after: CreditedAdjoint) -> CreditedAdjoint:
            adjoint = pull_back(after.params)
            if score is not None:
                adjoint = tree.map(lambda a, s: a + along_tasks(after.credit, s) * s, adjoint, score)
            return after._replace(params=adjoint)

        return moved, pull_back_both

    def _objective(self, tasks: Environments, *, box: bool) -> Objective:
        return Objective(self.model, PolicyLoss(tasks.distribution, tasks.horizon, box))

    def _query(self, tasks: Environments, params: Tree) -> tuple[Array, CreditedAdjoint]:
        """The cost of new trajectories at adapted parameters, and its derivatives."""
        x, y = self._examples(tasks, params, self.inner_steps)
        objective = self._objective(tasks, box=True)
        lin = tasks.backend.engine.linearize(objective, params, x, y, curvature=False)
        credit = lin.value - mean_of_others(lin.value) if self.baseline else lin.value
        return lin.value, CreditedAdjoint(lin.grad, credit)

    def _examples(self, tasks: Environments, params: Tree, stage: int) -> tuple[Array, Array]:
        """Observations, and what `PolicyLoss` needs beside them, of trajectories of a stage of its own."""
        rollout = self._rollout(tasks, params, stage)
        xp = tasks.backend.xp
        ahead = costs_to_go(rollout.costs)
        baselines = mean_of_others(ahead, axis=1) if self.baseline else xp.zeros_like(ahead)
        columns = [xp.reshape(part, (*rollout.x.shape[:2], 1)) for part in (rollout.costs, baselines)]
        return rollout.x, xp.concat([rollout.actions, *columns], axis=-1)

    def _rollout(self, tasks: Environments, params: Tree, stage: int) -> Rollout:
        return tasks.rollout(partial(self.model.apply, params), stage)


def mean_of_others(values: Array, axis: int = 0) -> Array:
    """Along an axis, the mean of all other values; zero where there are none."""
    count = values.shape[axis]
    xp = kernels_of(values).xp
    if count == 1:
        return xp.zeros_like(values)
    return (xp.sum(values, axis=axis, keepdims=True) - values) / (count - 1)
