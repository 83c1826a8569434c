"""Tasks to train on, and others of other classes to decide by."""

from __future__ import annotations

from dataclasses import replace

from mltk.data.images.class_part import ClassPart
from mltk.data.images.tasks import ImageTasks
from mltk.data.source import TaskSource, chosen_from
from mltk.errors import SettingError

SHARE = 0.25
"""Of the groups or classes, so many are kept back."""


def kept_back(tasks: TaskSource) -> tuple[TaskSource, TaskSource]:
    """Tasks to train on, and tasks that nothing is trained on.

    Of images a quarter of the groups (alphabets), or of the classes, is kept back, and shown upright and as
    it is; a curriculum then chooses among the others. Families that are drawn from nothing but numbers have
    no end of tasks: new ones are as good as others.

    Raises:
        SettingError: If there are too few classes for both.
    """
    found = chosen_from(tasks)
    if not isinstance(found, ImageTasks):
        return tasks, found
    part = ClassPart(found.dataset, share=SHARE)
    rest = replace(found, dataset=part)
    back = replace(found, dataset=part.other, jitter=None, rotations=False)
    try:
        rest.check()
        back.check()
    except SettingError as error:
        raise SettingError(
            f"tasks has too few classes to keep some back ({error}); expected validation=…, "
            "tasks of other classes"
        ) from None
    return rest if found is tasks else replace(tasks, tasks=rest), back  # type: ignore[type-var]
