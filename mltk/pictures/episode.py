"""A picture of an episode: what a learner saw of each class, and what it takes other images for."""

from __future__ import annotations

from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mltk.contracts import Backend
from mltk.data.images.class_identity import Identified, TrainedOn, seen
from mltk.data.source import TaskSource
from mltk.episode import Episode
from mltk.errors import SettingError, ShapeError
from mltk.pictures.figure import BLUE, VERMILLION, AnyPath, drawn, save
from mltk.tree import Tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 8
"""At most so many support and so many query images of a class are drawn."""

GAP = 0.12
"""Space between images, in widths of one."""


def episode_picture(
    algorithm: Any,
    meta_params: Tree,
    tasks: TaskSource,
    path: AnyPath,
    *,
    backend: Backend,
    seed: int = 0,
    training: TrainedOn | None = None,
) -> None:
    """Write one task of image classification and the predictions for its queries, as an SVG file.

    Args:
        algorithm: The learner.
        meta_params: Its meta-parameters.
        tasks: Tasks whose inputs are grey or RGB images in [0, 1].
        path: The file; its folder must exist. It is replaced in one go.
        backend: The backend of the meta-parameters.
        seed: Draws the task.
        training: What the learner was trained on, as `mltk.data.images.class_identity.trained_on` says it, if
            the title should tell whether the classes are among it.

    Raises:
        SettingError: If the tasks are not classification.
        ShapeError: If the inputs are not images of one or three channels.
    """
    figure = episode_figure(algorithm, meta_params, tasks, backend=backend, seed=seed, training=training)
    save(figure, path)


def episode_figure(
    algorithm: Any,
    meta_params: Tree,
    tasks: TaskSource,
    *,
    backend: Backend,
    seed: int = 0,
    training: TrainedOn | None = None,
) -> Figure:
    """The picture that `episode_picture` writes: a row a class, support images left, queries right.

    A query in a blue frame is recognised; one in a vermillion frame is taken for the class that stands below.
    """
    episode = tasks.sample(1, seed, backend)
    if episode.ways is None:
        raise SettingError("tasks is regression; expected classification of images")
    if episode.support_x.ndim != 5 or episode.support_x.shape[2] not in (1, 3):
        raise ShapeError(
            f"support_x has shape {tuple(episode.support_x.shape)}; expected images (T, N, 1 or 3, H, W)"
        )
    state = algorithm.adapt(meta_params, episode.support_x, episode.support_y)
    predicted = backend.to_numpy(algorithm.predict(state, episode.query_x))[0].argmax(axis=-1)
    arrays = (episode.support_x, episode.support_y, episode.query_x, episode.query_y)
    support, support_y, query, query_y = (backend.to_numpy(array)[0] for array in arrays)
    names = [_name(label) for label in range(episode.ways)]
    columns = [min(SHOWN, int(np.bincount(labels).max())) for labels in (support_y, query_y)]
    width = (sum(columns) + 1.2) * (1 + GAP)
    height = episode.ways * (1 + 2 * GAP) + 0.5
    with drawn(0.8 * width, 0.8 * height + 0.6) as figure:
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.set_aspect("equal")
        axes.set_xlim(-0.6, width - 0.6)
        axes.set_ylim(height - 0.2, -0.5)
        queries_from = columns[0] * (1 + GAP) + 0.4
        for left, title in ((0, "support"), (queries_from, "queries")):
            axes.text(left, -0.15, title, fontsize=10, ha="left", va="bottom")
        for row, name in enumerate(names):
            top = row * (1 + 2 * GAP)
            axes.text(-0.3, top + 0.5, name, fontsize=11, ha="center", va="center")
            for column, image in enumerate(support[support_y == row][:SHOWN]):
                _draw(axes, image, column * (1 + GAP), top, "none")
            mine = np.flatnonzero(query_y == row)[:SHOWN]
            for column, example in enumerate(mine):
                left = queries_from + column * (1 + GAP)
                right = predicted[example] == row
                _draw(axes, query[example], left, top, BLUE if right else VERMILLION)
                if not right:
                    font: Any = {"color": VERMILLION, "fontsize": 9, "fontweight": "bold"}
                    at = (left + 0.94, top + 0.94)
                    axes.text(*at, names[predicted[example]], ha="right", va="bottom", **font)
        _explain_frames(axes)
        accuracy = f"{100 * np.mean(predicted == query_y):.0f} % of {len(query_y)} queries recognised"
        axes.set_title(f"{_kind_of_task(tasks, episode, training)}:\n{accuracy}", fontsize=11)
    return figure


def _explain_frames(axes: Axes) -> None:
    """A legend below the picture: what the colours of the frames mean."""
    from matplotlib.patches import Patch

    meanings = {BLUE: "recognised", VERMILLION: "taken for the class of that letter"}
    frames = [
        Patch(facecolor="none", edgecolor=colour, linewidth=1.8, label=meaning)
        for colour, meaning in meanings.items()
    ]
    axes.legend(
        handles=frames, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=1, frameon=False, fontsize=9
    )


def _kind_of_task(tasks: TaskSource, episode: Episode, training: TrainedOn | None) -> str:
    """What is known of the classes of the task that is shown."""
    if training is None or episode.classes is None or not hasattr(tasks, "class_digests"):
        return "A task"
    trained = seen(cast("Identified", tasks), training).of(episode.classes).trained
    assert trained is not None
    if not trained.any():
        return "A task of unseen classes"
    if trained.all():
        return "A task of classes that were trained on"
    return f"A task with {trained.sum()} of {trained.size} classes trained on"


def _draw(axes: Axes, image: np.ndarray, left: float, top: float, frame: str) -> None:
    from matplotlib.patches import Rectangle

    grey = image.shape[0] == 1
    # Ink on paper: 1 is black.
    pixels = 1 - image[0] if grey else np.moveaxis(image, 0, -1)
    place = (left, left + 1, top + 1, top)
    axes.imshow(np.clip(pixels, 0, 1), extent=place, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    edge = "#BBBBBB" if frame == "none" else frame
    width = 0.6 if frame == "none" else 1.8
    axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=edge, linewidth=width))


def _name(label: int) -> str:
    """``A`` to ``Z``, then ``A1`` to ``Z1`` and so on."""
    turn, letter = divmod(label, len(ascii_uppercase))
    return ascii_uppercase[letter] + (str(turn) if turn else "")
