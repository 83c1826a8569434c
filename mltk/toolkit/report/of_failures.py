"""What a page says of mistakes: the tasks that went worst, and the classes that are taken for each other."""

from __future__ import annotations

import math
from string import ascii_uppercase
from typing import Any

import numpy as np

from mltk.data.images.tasks import ImageTasks
from mltk.pictures.figure import BLACK, GREY, VERMILLION, blank_figure, legend_below, plain_style
from mltk.toolkit.report.drawn import inline, thumbnail
from mltk.toolkit.report.judging import FailedTask, SameTasks
from mltk.toolkit.report.markup import Html, join, table, tag

IMAGES = 5
"""Support images, and wrong queries, of each class of a task that are shown."""

PAIRS = 8
"""Pairs of classes that are told of those most often confused."""


def failed(failure: FailedTask, group: SameTasks, key: str) -> Html:
    """One of the worst tasks: its support, and the queries that were taken for another class.

    Args:
        failure: The task.
        group: Where it is from.
        key: What names in its picture begin with.
    """
    episode = failure.episode
    support, support_y, query, query_y = (
        episode.backend.to_numpy(getattr(episode, each))[0]
        for each in ("support_x", "support_y", "query_x", "query_y")
    )
    if episode.ways is None or query_y.ndim != 1:
        words = f"Task {failure.task}: mean squared error {failure.value:.4g}"
        if any(array.shape[1:] != (1,) for array in (support, support_y, query_y)):
            return tag("p", words)
        return _curve(words, key, [(query, query_y), (query, failure.outputs), (support, support_y)])
    hard = f", hardness {failure.hardness:.2f}" if math.isfinite(failure.hardness) else ""
    words = f"Task {failure.task}: {100 * failure.value:.0f} % of {len(query_y)} queries right{hard}"
    predicted, images = failure.outputs.argmax(axis=1), support.ndim == 4 and support.shape[1] in (1, 3)
    letters = [ascii_uppercase[each % 26] + str(each // 26 or "") for each in range(failure.outputs.shape[1])]
    names, rows = _names(failure, group, letters), list[list[Any]]()
    for label in range(episode.ways):
        mine = np.flatnonzero(query_y == label)
        wrong = mine[predicted[mine] != label]
        taken = []
        for each in wrong[:IMAGES]:
            took = letters[predicted[each]]
            picture = [thumbnail(query[each], f"query of {names[label]}, taken for {took}")] if images else []
            taken.append(tag("span", *picture, tag("span", f"→ {took}"), class_="taken"))
        right = len(mine) - len(wrong)
        cells = [(f"{right} of {len(mine)}", right), tag("span", *taken, class_="strip")]
        if images:
            drawn = [thumbnail(each, f"support of {names[label]}") for each in support[support_y == label]]
            cells.insert(0, tag("span", *drawn[:IMAGES], class_="strip"))
        rows.append([names[label], *cells])
    head = ["class", *(["support"] if images else []), "recognised", "taken for another"]
    return table(words, head, rows, class_="failure")


def confused(group: SameTasks, name: str) -> Html:
    """The pairs of classes that a learner takes for each other most often, with a drawing of each."""
    confusion, rows = group.confusions[name], []
    places = {each: number for number, each in enumerate(confusion.names)}
    for one, other, rate, queries in confusion.most_confused(PAIRS):
        if rate > 0:
            pair = [
                tag("span", *_example(group, places[each]), each, class_="taken") for each in (one, other)
            ]
            rows.append([tag("span", *pair, class_="strip"), (f"{100 * rate:.0f} %", rate), queries])
    if not rows:
        return tag("p", "No class was taken for another.", class_="note")
    return join(
        (tag("h3", "Taken for each other"), table("Pairs of classes", ["pair", "confused", "queries"], rows))
    )


def _example(group: SameTasks, number: int) -> list[Html]:
    """The first drawing of a class, if classes are images."""
    tasks = group.tasks
    if not isinstance(tasks, ImageTasks):
        return []
    counts = tasks.dataset.pictures.counts
    quarter, own = divmod(number, len(counts))
    first = int(np.cumsum(counts)[own] - counts[own]) + quarter * int(counts.sum())
    return [
        thumbnail(tasks.dataset.take(np.asarray(first), rotations=tasks.rotations), tasks.class_names[number])
    ]


def _names(failure: FailedTask, group: SameTasks, letters: list[str]) -> list[str]:
    """What the classes of a task are called: a letter, and the name where it is known."""
    names, classes = getattr(group.tasks, "class_names", ()), failure.episode.classes
    if classes is None or classes.max() >= len(names):
        return letters
    return [f"{letter}: {names[number]}" for letter, number in zip(letters, classes[0], strict=False)]


def _curve(words: str, key: str, points: list[tuple[np.ndarray, np.ndarray]]) -> Html:
    """A regression task of one input and output: what was to be predicted, what was, and the support."""
    styles = [("o", GREY, "queries"), ("x", VERMILLION, "predicted"), ("D", BLACK, "support")]
    with plain_style():
        figure = blank_figure(5, 4)
        axes = figure.add_subplot()
        for (x, y), (marker, colour, label) in zip(points, styles, strict=True):
            axes.plot(x.ravel(), y.ravel(), marker, color=colour, markersize=5, label=label)
        axes.set_xlabel("input")
        axes.set_ylabel("output")
        axes.set_title(words)
        legend_below(figure)
        return inline(figure, key, words)
