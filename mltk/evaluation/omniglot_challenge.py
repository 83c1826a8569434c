"""The Omniglot challenge: one-shot classification within an alphabet, as it was put to people."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mltk.backend import backend_of, check_backend
from mltk.checks import Count, CountOrZero, Several, check_count, checked
from mltk.contracts import Backend, Predicting
from mltk.data.files.archives import read_members
from mltk.data.images.omniglot import decode_drawing, prepare
from mltk.data.images.tasks import ImageDataset
from mltk.episode import Episode
from mltk.errors import DataError, SettingError
from mltk.evaluation.student import half_width
from mltk.evaluation.unseen_tasks import predictions
from mltk.tree import Tree

if TYPE_CHECKING:
    pass

LABELS = "class_labels.txt"
"""The file of each run that pairs its test and training images."""

LONGEST_LINE = 1000
"""Characters that a line of it may have."""


class Runs(NamedTuple):
    """Runs of the challenge: in each, one drawing of every class to learn from, and others to recognise.

    Attributes:
        names: Of the runs, such as ``"run01"``.
        support_x: ``(runs, ways, 1, s, s)`` float32, ink is 1; example ``k`` of a run is its class ``k``.
        query_x: ``(runs, tests, 1, s, s)`` float32.
        query_y: ``(runs, tests)`` int64, the classes of the queries.
    """

    names: tuple[str, ...]
    support_x: np.ndarray
    query_x: np.ndarray
    query_y: np.ndarray

    def episode(self, backend: Backend) -> Episode:
        """The runs as the tasks of an episode."""
        runs, ways = self.support_x.shape[:2]
        labels = np.tile(np.arange(ways, dtype=np.int64), (runs, 1))
        arrays = (self.support_x, labels, self.query_x, self.query_y)
        return Episode(*(backend.asarray(array) for array in arrays), ways=ways, backend=backend)


@dataclass(frozen=True)
class ChallengeResult:
    """Errors in the runs of the Omniglot challenge.

    Attributes:
        error: The mean over the runs of the fraction of queries that were taken for another class.
        interval: Half the width of the 95 % confidence interval of that mean over runs, by Student's t;
            infinite for a single run.
        errors: The error of each run, ``(runs,)`` in float64.
        names: The names of the runs.
        ways: Classes a run.
    """

    error: float
    interval: float
    errors: np.ndarray
    names: tuple[str, ...]
    ways: int

    def __str__(self) -> str:
        return (
            f"error {100 * self.error:.1f} % ± {100 * self.interval:.1f} % (95 % interval over "
            f"{len(self.names)} runs of {self.ways} ways); from {100 * self.errors.min():.1f} % "
            f"to {100 * self.errors.max():.1f} % a run"
        )


@checked
def omniglot_challenge(
    algorithm: Predicting,
    meta_params: Tree,
    runs: Runs | str | Path,
    *,
    backend: Backend | None = None,
    image_size: int = 28,
) -> ChallengeResult:
    """Within-alphabet one-shot classification of Omniglot (Lake, Salakhutdinov & Tenenbaum 2015 and 2019).

    Each of the 20 official runs shows one drawing of each of 20 characters of one alphabet, all by the same
    person, and asks which of them each of 20 drawings by another person is. The learner adapts to
    the former as a support set with one shot; all runs are one meta-batch.

    Args:
        algorithm: A meta-learner; only ``adapt`` and ``predict`` are used.
        meta_params: Its meta-parameters.
        runs: The archive ``all_runs.zip``, or runs as from `read_runs` and `within_alphabet_runs`.
        backend: Where to compute; ``None`` for the backend of the meta-parameters.
        image_size: Side of the images, for runs from an archive.

    Raises:
        SettingError: If a setting is not valid.
        DataError: If the archive is missing, damaged or not of the official form.
        ShapeError: If the predictions know fewer classes than the runs have.
        NotFiniteError: If the predictions for a run hold NaN or infinity.
    """
    if backend is None:
        backend = backend_of(meta_params)
    check_backend(backend)
    if not isinstance(runs, Runs):
        runs = read_runs(runs, image_size=image_size)
    episode = runs.episode(backend)
    outputs = predictions(algorithm, meta_params, episode, runs.names)
    errors = np.asarray(np.mean(np.argmax(outputs, axis=-1) != runs.query_y, axis=1))
    return ChallengeResult(
        float(errors.mean()), half_width(errors), errors, runs.names, runs.support_x.shape[1]
    )


def read_runs(path: str | Path, *, image_size: int = 28) -> Runs:
    """Read runs in the form of the official ``all_runs.zip``.

    Each run has a folder with ``class_labels.txt``, whose lines pair a test and a training image:
    ``run01/test/item01.png run01/training/class08.png``. The classes are all images in the run's folder
    ``training``, in the order of their names; the queries are those of the lines, in their order.

    Args:
        path: The zip archive. All runs must have equally many classes and queries, 20 in the official ones.
        image_size: Side $s$ of the images ``(…, 1, s, s)``, prepared like those of `mltk.data.Omniglot`.

    Raises:
        SettingError: If ``image_size`` is not a positive integer.
        DataError: If the archive is missing, damaged or refused, or a run not of this form; it names the run
            and the file.
    """
    check_count("image_size", image_size)
    path = Path(path)
    files = dict(read_members(path))
    folders = sorted(str(PurePosixPath(name).parent) for name in files if PurePosixPath(name).name == LABELS)
    if not folders:
        raise DataError(f"{path} has no runs; expected files like run01/{LABELS}")
    support, query, labels = [], [], []
    for folder in folders:
        pairs, training = _run(path, folder, files)
        drawings = dict.fromkeys((*chain(*pairs), *training))
        ink = {name: decode_drawing(files[name], f"{path}: {name!r}") for name in drawings}
        support.append([ink[name] for name in training])
        query.append([ink[test] for test, _ in pairs])
        labels.append([training.index(match) for _, match in pairs])
        if (len(support[-1]), len(query[-1])) != (len(support[0]), len(query[0])):
            raise DataError(
                f"{path}: {folder} has {len(support[-1])} classes and {len(query[-1])} queries; "
                f"expected {len(support[0])} and {len(query[0])} as in {folders[0]}"
            )
    return Runs(
        names=tuple(PurePosixPath(folder).name for folder in folders),
        support_x=prepare(np.asarray(support), image_size),
        query_x=prepare(np.asarray(query), image_size),
        query_y=np.asarray(labels, dtype=np.int64),
    )


@checked
def within_alphabet_runs(
    dataset: ImageDataset, *, runs: Count = 20, ways: Several = 20, seed: CountOrZero = 0
) -> Runs:
    """Make runs in the way of the official ones.

    Each run has characters of one alphabet; one person drew all training images, and another all test images,
    one of each class, in random order. Alphabets come equally often, up to one.

    Args:
        dataset: Characters with their alphabets as groups, drawing ``i`` of each by the same person, such as
            `mltk.data.Omniglot`.
        runs: How many.
        ways: Characters a run; alphabets with fewer are not used.
        seed: Of all choices.

    Raises:
        SettingError: If a setting is not valid, or no alphabet has enough characters drawn twice.
    """
    _, counts, _, groups = dataset.pictures
    if groups is None:
        raise SettingError("dataset has no groups; expected alphabets, as in mltk.data.Omniglot")
    drawn = counts >= 2
    alphabets = [name for name in np.unique(groups) if np.sum(drawn & (groups == name)) >= ways]
    if not alphabets:
        raise SettingError(f"ways is {ways}; expected an alphabet of the dataset to have as many characters")
    rng = np.random.default_rng(seed)
    chosen = np.resize(rng.permutation(len(alphabets)), runs)
    starts = np.cumsum(counts) - counts
    support, query, labels = [], [], []
    for alphabet in chosen:
        characters = rng.choice(np.flatnonzero(drawn & (groups == alphabets[alphabet])), ways, replace=False)
        first, second = rng.choice(counts[characters].min(), 2, replace=False)
        order = rng.permutation(ways)
        support.append(starts[characters] + first)
        query.append(starts[characters[order]] + second)
        labels.append(order)
    return Runs(
        names=tuple(f"run{number + 1:02}" for number in range(runs)),
        support_x=dataset.images[np.asarray(support)],
        query_x=dataset.images[np.asarray(query)],
        query_y=np.asarray(labels, dtype=np.int64),
    )


def _run(path: Path, folder: str, files: dict[str, bytes]) -> tuple[list[tuple[str, str]], list[str]]:
    """The pairs of test and training images of a run, and all its training images in order."""
    above = PurePosixPath(folder).parent
    name = str(PurePosixPath(folder, LABELS))
    try:
        lines = files[name].decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise DataError(f"{path}: {name!r} is no text; expected a test and a training image a line") from None
    inside = PurePosixPath(folder, "training")
    training = sorted(
        file
        for file in files
        if PurePosixPath(file).match("[!.]*.png") and PurePosixPath(file).parent == inside
    )
    pairs = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or len(line) > LONGEST_LINE:
            raise DataError(
                f"{path}: line {number} of {name!r} is {line[:LONGEST_LINE]!r}; "
                "expected a test and a training image"
            )
        test, match = (str(above / word) for word in words)
        if test not in files:
            raise DataError(f"{path}: {test!r}, which line {number} of {name!r} names, is missing")
        if match not in training:
            raise DataError(
                f"{path}: {match!r}, which line {number} of {name!r} names, is missing; "
                f"expected one of the {len(training)} images in {str(inside)!r}"
            )
        pairs.append((test, match))
    if not pairs:
        raise DataError(f"{path}: {name!r} is empty; expected a test and a training image a line")
    return pairs, training
