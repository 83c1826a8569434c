"""Tasks to train on, and others of other classes to decide by."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from mltk.backend import backend
from mltk.checks import check_has
from mltk.data.images.class_identity import seen, trained_on
from mltk.data.images.class_part import ClassPart
from mltk.data.images.tasks import ImageTasks
from mltk.data.mixture import Mixture
from mltk.data.source import TaskSource, chosen_from
from mltk.errors import SettingError

if TYPE_CHECKING:
    from mltk.data.images.class_identity import Identified

SHARE = 0.25
"""Of the groups or classes, so many are kept back."""


def kept_back(tasks: TaskSource) -> tuple[TaskSource, TaskSource]:
    """Tasks to train on, and tasks that nothing is trained on.

    Of images a quarter of the groups (alphabets), or of the classes, is kept back, and shown upright and as
    it is; a curriculum then chooses among the others, and of a mixture each source has its own. Families that
    are drawn from nothing but numbers have no end of tasks: new ones are as good as others.

    Raises:
        SettingError: If there are too few classes for both, or tasks of one's own say of which classes they
            are, so that none can be kept back.
    """
    found = chosen_from(tasks)
    if isinstance(found, Mixture):
        parts = [kept_back(each) for each in found.sources]
        rest, back = (replace(found, sources=sources) for sources in zip(*parts, strict=True))
        return _in_place(tasks, found, rest), back
    if not isinstance(found, ImageTasks):
        if getattr(found.sample(1, 0, backend("numpy")), "classes", None) is not None:
            raise SettingError(
                f"tasks is {type(found).__name__}, of whose classes none can be kept back; "
                "expected validation=…, tasks of other classes"
            )
        return tasks, found
    part = ClassPart(found.dataset, share=SHARE)
    of_rest = replace(found, dataset=part)
    of_back = replace(found, dataset=part.other, jitter=None, rotations=False)
    try:
        of_rest.check()
        of_back.check()
    except SettingError as error:
        raise SettingError(
            f"tasks has too few classes to keep some back ({error}); expected validation=…, "
            "tasks of other classes"
        ) from None
    return _in_place(tasks, found, of_rest), of_back


def check_apart(tasks: TaskSource, unseen: TaskSource) -> None:
    """Raise `SettingError` if the second source has an example of a class of the first one."""
    check_has("validation", unseen, "sample", "mltk.data.Glyphs().held_out().tasks(...)")
    for one, other in product(_sources(tasks), _sources(unseen)):
        training = trained_on(one)
        if training is None or not hasattr(other, "class_digests"):
            continue
        shared = seen(cast("Identified", other), training).trained
        if shared is not None and shared.any():
            raise SettingError(
                f"validation has {int(shared.sum())} of the classes of tasks, or what is kept back of one "
                "source of a mixture has those of another; expected validation=…, tasks of other classes"
            )


def _sources(tasks: TaskSource) -> list[TaskSource]:
    """What tasks are chosen from, of a mixture all that it mixes."""
    found = chosen_from(tasks)
    return (
        [one for each in found.sources for one in _sources(each)] if isinstance(found, Mixture) else [found]
    )


def _in_place(tasks: Any, found: TaskSource, other: TaskSource) -> TaskSource:
    """What chooses from a source, as a curriculum does, choosing from another one."""
    return other if tasks is found else replace(tasks, tasks=_in_place(tasks.tasks, found, other))
