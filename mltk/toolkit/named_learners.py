"""Learners by name: those that are given, and names of those that are to be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mltk import tree
from mltk.checks import check_choice, check_has
from mltk.contracts import Backend
from mltk.data.source import TaskSource
from mltk.episode import Episode
from mltk.errors import SettingError
from mltk.recipes import ALGORITHMS, learner_for
from mltk.toolkit.toolkit_file import WARM


def named_learners(learners: Any) -> dict[str, Any]:
    """Learners, and names of those that are to be made, by name.

    Args:
        learners: Names of `mltk.recipes.ALGORITHMS`, or a dict of these and of learners.

    Raises:
        SettingError: If there are none, or one is neither.
    """
    if isinstance(learners, Mapping):
        named = dict(learners.items())
    elif isinstance(learners, Sequence) and not isinstance(learners, str):
        named = {name: name for name in learners}
    else:
        raise SettingError(f"learners is {learners!r}; expected names, or a dict of learners by name")
    if not named or len(named) < len(learners):
        raise SettingError(f"learners is {learners!r}; expected at least one, and different names")
    for name, value in named.items():
        if not isinstance(name, str) or not name or name in (".", "..") or set(name) & set("/\\\0"):
            raise SettingError(f"learners has the name {name!r}; expected texts that can name folders")
        if name.endswith(WARM):
            raise SettingError(f"learners has the name {name!r}; expected none that ends with {WARM!r}")
        if isinstance(value, str):
            check_choice("each of learners", value, ALGORITHMS)
        else:
            for method in ("value_and_grad", "init", "adapt", "predict"):
                check_has(f"learners[{name!r}]", value, method, "mltk.algorithms.MAML(...)")
    return named


def made_for(
    learners: Mapping[str, Any], tasks: TaskSource, unseen: TaskSource, *, backend: Backend, seed: int
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """All learners, those that are named with networks that fit the tasks, and the shape of an input.

    Args:
        learners: As from `named_learners`.
        tasks: What they will be trained on.
        unseen: What will be decided by.
        backend: Where they will be trained.
        seed: Of the training.

    Raises:
        SettingError: If one of them cannot be trained on such tasks.
    """
    example, later = (each.sample(1, seed, backend) for each in (tasks, unseen))
    if not (isinstance(example, Episode) and isinstance(later, Episode)):
        raise SettingError(f"tasks gives {type(example).__name__}; expected tasks of examples")
    if later.query_x.shape[1] < 2:
        raise SettingError(f"tasks has {later.query_x.shape[1]} query a task; expected at least 2")
    shape = tuple(example.support_x.shape[2:])
    outputs = example.ways or example.support_y.shape[-1]
    found = dict(learners)
    for name, learner in learners.items():
        if isinstance(learner, str):
            found[name] = learner_for(learner, shape, outputs, regression=example.ways is None)
        if not tree.leaves(found[name].init(backend, seed)):
            raise SettingError(f"{name} has no meta-parameters; expected learners that can be trained")
    return found, shape
