"""A picture of what adaptation does to a policy that navigates: its paths before and after."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mltk.checks import check_count
from mltk.contracts import Backend
from mltk.pictures.figure import BLACK, BLUE, GREY, AnyPath, drawn, save, titled
from mltk.tree import Tree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mltk.algorithms import StochasticMAML
    from mltk.data import Navigation

PATHS = 6
"""At most so many trajectories are sampled for one goal."""


def navigation_picture(
    algorithm: StochasticMAML,
    meta_params: Tree,
    tasks: Navigation,
    path: AnyPath,
    *,
    backend: Backend,
    goals: int = 4,
    seed: int = 0,
) -> None:
    """Write the paths towards some unseen goals, before and after adaptation, as an SVG file.

    Args:
        algorithm: A meta-learner of policies.
        meta_params: Its meta-parameters.
        tasks: Where goals come from.
        path: The file; its folder must exist. It is replaced in one go.
        backend: Where to compute.
        goals: How many goals.
        seed: Seed of the goals and of the paths.

    Raises:
        SettingError: If ``goals`` is not a positive integer.
    """
    figure = navigation_figure(algorithm, meta_params, tasks, backend=backend, goals=goals, seed=seed)
    save(figure, path)


def navigation_figure(
    algorithm: StochasticMAML,
    meta_params: Tree,
    tasks: Navigation,
    *,
    backend: Backend,
    goals: int = 4,
    seed: int = 0,
) -> Figure:
    """The picture that `navigation_picture` writes: a panel for each goal."""
    check_count("goals", goals)
    sampled = tasks.sample(goals, seed, backend)
    adapted = algorithm.adapt(meta_params, sampled)
    places = backend.to_numpy(sampled.goals)
    paths, returns = [], []
    for params in (meta_params, adapted):
        rollout = sampled.rollout(partial(algorithm.model.apply, params), algorithm.inner_steps)
        x = backend.to_numpy(rollout.x)
        paths.append(x.reshape(goals, sampled.trajectories, sampled.horizon, 2))
        returns.append(backend.to_numpy(algorithm.returns(params, sampled)))
    with drawn(2.6 * goals, 4.0) as figure:
        panels = figure.subplots(1, goals, sharex=True, sharey=True, squeeze=False)[0]
        for task, axes in enumerate(panels):
            for xs, colour, label in zip(paths, (GREY, BLUE), ("before", "after"), strict=True):
                for number, walk in enumerate(xs[task, :PATHS]):
                    name = label if number == 0 else None
                    axes.plot(walk[:, 0], walk[:, 1], color=colour, linewidth=0.9, alpha=0.8, label=name)
            axes.plot(*places[task], "*", color=BLACK, markersize=10, zorder=5, label="goal")
            axes.plot(0, 0, "o", color=BLACK, markersize=3, label="start")
            axes.set_aspect("equal")
            change = f"return {returns[0][task]:.1f} → {returns[1][task]:.1f}"
            titled(axes, f"Unseen goal {task + 1}\n{change}", width=2.6, size=10)
            axes.set_xlabel("position x₁ (no unit)")
        # Squares have the same height whatever the paths are, and leave room for the legend.
        reach = 1.05 * max(float(np.abs(xs[:, :PATHS]).max()) for xs in (*paths, places[:, None]))
        panels[0].set(xlim=(-reach, reach), ylim=(-reach, reach))
        panels[0].set_ylabel("position x₂ (no unit)")
    return figure
