"""Those of several learners whose tasks can start from others."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from mltk.episode import Episode
from mltk.errors import MltkError, SettingError, UnsupportedError
from mltk.toolkit.support_folds import support_folds
from mltk.toolkit.transfer import KnowledgeTransfer
from mltk.tree import Tree

BLOCK = 16
"""Tasks that are adapted to at once."""


def transferring(entries: Mapping[str, tuple[Any, Tree]], tasks: Episode) -> KnowledgeTransfer:
    """A learner that adapts parameters, and remembers what these tasks have made of them.

    Args:
        entries: Learners with their meta-parameters, of which the first that can is taken.
        tasks: What it remembers.

    Raises:
        SettingError: If none of them adapts parameters.
    """
    for _, warm in _remembering(entries, tasks):
        return warm
    raise SettingError(
        f"{', '.join(entries)} adapt no parameters that others could start from; "
        "expected a learner that does, such as maml"
    )


def warm_learners(entries: Mapping[str, tuple[Any, Tree]], tasks: Episode) -> dict[str, KnowledgeTransfer]:
    """All learners that adapt parameters, each of which remembers what these tasks have made of them.

    None where a task has too few examples to judge a warm start by.
    """
    if support_folds(tasks.support_y, KnowledgeTransfer.folds) is None:
        return {}
    return dict(_remembering(entries, tasks))


def _remembering(
    entries: Mapping[str, tuple[Any, Tree]], tasks: Episode
) -> Iterator[tuple[str, KnowledgeTransfer]]:
    """One after another; of tasks that are over, all examples are known."""
    xp = tasks.backend.xp
    x = xp.concat((tasks.support_x, tasks.query_x), axis=1)
    y = xp.concat((tasks.support_y, tasks.query_y), axis=1)
    for name, (learner, meta_params) in entries.items():
        warm = KnowledgeTransfer(learner, meta_params)
        try:
            for start in range(0, x.shape[0], BLOCK):
                warm.remember(x[start : start + BLOCK, ...], y[start : start + BLOCK, ...])
        except UnsupportedError:
            continue
        except MltkError as error:
            warnings.warn(f"{name} has no memory: {error}", stacklevel=3)
            continue
        yield name, warm
