"""The first of several learners whose tasks can start from others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mltk.episode import Episode
from mltk.errors import SettingError, UnsupportedError
from mltk.toolkit.transfer import KnowledgeTransfer
from mltk.tree import Tree


def transferring(entries: Mapping[str, tuple[Any, Tree]], tasks: Episode) -> KnowledgeTransfer:
    """A learner that adapts parameters, and remembers what these tasks have made of them.

    Args:
        entries: Learners with their meta-parameters, of which the first that can is taken.
        tasks: What it remembers.

    Raises:
        SettingError: If none of them adapts parameters.
    """
    for learner, meta_params in entries.values():
        if hasattr(learner, "embedding"):
            continue
        warm = KnowledgeTransfer(learner, meta_params)
        try:
            warm.remember(tasks.support_x, tasks.support_y)
        except UnsupportedError:
            continue
        return warm
    raise SettingError(
        f"{', '.join(entries)} adapt no parameters that others could start from; "
        "expected a learner that does, such as maml"
    )
