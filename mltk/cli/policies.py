"""What `mltk train` does for policies, in tasks where the learner acts."""

from __future__ import annotations

from pathlib import Path

from mltk import algorithms, data, models
from mltk.cli.recipes import Recipe, Wishes, given, refuse
from mltk.contracts import Backend
from mltk.errors import SettingError
from mltk.ops import Linear
from mltk.optim import Adam
from mltk.tree import Tree

ACTED = ("bandits", "navigation")
"""Task families in which the learner acts."""

NOT_HERE = ("ways", "queries", "transform", "part", "folder", "at_least")
"""Wishes that make no sense for them."""


def policy_recipe(_algorithm: str, family: str, wishes: Wishes) -> Recipe:
    """The training of stochastic MAML; ``shots`` are the trajectories of each inner step.

    Raises:
        SettingError: If a wish does not fit.
    """
    for name in NOT_HERE:
        refuse(wishes, (name,), f"--data is {family}; expected no --{name.replace('_', '-')}")
    tasks: data.Bandits | data.Navigation
    if family == "bandits":
        tasks = data.Bandits(5, given(wishes.shots, 20))
        # The logits of the arms alone: the only observation is a 1.
        policy, inner_lr = models.Sequential([Linear(1, tasks.arms, bias=False)]), 10.0
    else:
        tasks = data.Navigation(given(wishes.shots, 20))
        policy = models.mlp([2, 40, 40, 2], activation="tanh", output_scale=0.01)
        inner_lr = 0.002
    learner = algorithms.StochasticMAML(
        policy, inner_lr=given(wishes.inner_lr, inner_lr), inner_steps=given(wishes.inner_steps, 1)
    )
    optimizer, steps = Adam(given(wishes.meta_lr, 3e-3)), given(wishes.steps, 500)
    return Recipe(learner, tasks, optimizer, steps, given(wishes.meta_batch, 20))


def check_policy(algorithm: str, family: str) -> None:
    """Raise `SettingError` unless a learner of policies meets tasks where it acts."""
    if (algorithm == "stochastic-maml") != (family in ACTED):
        raise SettingError(
            f"{algorithm} does not learn on {family}; expected stochastic-maml with --data "
            f"{' or '.join(ACTED)}, and other learners with other data"
        )


def draw_policy(training: Recipe, meta_params: Tree, folder: Path, *, backend: Backend, seed: int) -> None:
    """Draw what was learned: paths to goals, for navigation."""
    if isinstance(training.tasks, data.Navigation):
        from mltk.pictures.navigation import navigation_picture

        path = folder / "paths.svg"
        navigation_picture(training.learner, meta_params, training.tasks, path, backend=backend, seed=seed)
