"""How several learners did on the same tasks, as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mltk.checks import check_choice, check_count, did_you_mean
from mltk.episode import IDENTITIES
from mltk.errors import RunError, SettingError
from mltk.evaluation.calibration import Calibration
from mltk.evaluation.paired import Comparison, compare, compare_all
from mltk.evaluation.result import Evaluation
from mltk.files import replace_file
from mltk.installation import needed_for
from mltk.outside import read_bytes, read_json, reading
from mltk.plain import plain
from mltk.summary import Lines, Summary
from mltk.training.fingerprint import digest

LARGEST = 2**30
"""Bytes of a file that is read."""

STRATA = ("easy", "middle", "hard")
"""Thirds of the tasks, by their hardness."""


@dataclass(frozen=True)
class LearnerOutcome:
    """What was found for one learner.

    Attributes:
        evaluation: The accuracy, or the mean squared error, of each task.
        loss: The mean cross-entropy of the softmax of the outputs, or for regression the mean squared error,
            ``(episodes,)``.
        matching_loss: Of learners with an embedding, the loss of a matching network on it
            (`mltk.matching_loss`), ``(episodes,)``: how well the classes lie apart, whatever the head does.
        calibration: How well the softmax of the outputs describes what happens; ``None`` for regression.
        seconds: To adapt and predict, a task: the median over batches, on this machine. Of one or two batches
            it holds what is done once, so that the first learner seems slower.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
        >>> blobs, be = mltk.data.Blobs(ways=3, shots=2, queries=5), mltk.backend("numpy")
        >>> table = mltk.MetaLearningEvaluator({"plain": (learner, {})}, blobs, backend=be).run(episodes=60)
        >>> table.outcomes["plain"].loss.shape
        (60,)
    """

    evaluation: Evaluation
    loss: np.ndarray
    matching_loss: np.ndarray | None
    calibration: Calibration | None
    seconds: float


@dataclass(frozen=True, repr=False)
class Table(Summary):
    """What `mltk.MetaLearningEvaluator` has found.

    ``table["name"]`` is the `mltk.evaluation.Evaluation` of a learner.

    Attributes:
        outcomes: Of each learner, under its name.
        seed: Of the tasks.
        hardness: Of each task (`mltk.hardness_metric`, relative to guessing), NaN where it has none;
            ``None`` for regression.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
        >>> blobs = mltk.data.Blobs(ways=3, shots=2, queries=5)
        >>> be = mltk.backend("numpy")
        >>> table = mltk.MetaLearningEvaluator({"plain": (learner, {})}, blobs, backend=be).run(episodes=60)
        >>> sorted(table.to_dict()["learners"]["plain"]["by_hardness"])
        ['easy', 'hard', 'middle']
    """

    outcomes: Mapping[str, LearnerOutcome]
    seed: int
    hardness: np.ndarray | None

    def __getitem__(self, name: str) -> Evaluation:
        if name not in self.outcomes:
            known = list(self.outcomes)
            raise SettingError(
                f"name is {name!r}; expected one of {', '.join(known)}{did_you_mean(name, known)}"
            )
        return self.outcomes[name].evaluation

    def by_hardness(self, name: str) -> dict[str, float]:
        """The mean metric of a learner on the easy, middle and hard third of the tasks; empty if unknown.

        Tasks without a hardness, as those of one way, are left out.

        Raises:
            SettingError: If there is no learner of this name.
        """
        values = self[name].values
        if self.hardness is None:
            return {}
        known = np.count_nonzero(~np.isnan(self.hardness))
        if known < len(STRATA):
            return {}
        thirds = np.array_split(np.argsort(self.hardness, kind="stable")[:known], len(STRATA))
        return {stratum: float(values[third].mean()) for stratum, third in zip(STRATA, thirds, strict=True)}

    def compare(self, name: str, other: str, *, over: str = "tasks") -> Comparison:
        """The paired difference of two learners: see `mltk.evaluation.compare`.

        Args:
            name: One learner.
            other: The one that is taken away from it.
            over: What the interval is over.

        Raises:
            SettingError: If there is no learner of one of these names, or nothing known to be over.
        """
        return compare(self[name], self[other], over=over, names=(name, other))

    def comparisons(self, to: str | None = None, *, over: str = "tasks") -> list[Comparison]:
        """The learners in pairs, with p-values that are corrected as Holm does.

        Args:
            to: A learner that all others are taken away from, which was chosen before anything was seen:
                p-values are corrected for these pairs. ``"best"``, if no learner is called so, is the one
                with the best mean: it was chosen by the values, so p-values are corrected for all pairs.
                ``None`` for all pairs.
            over: What the intervals are over.

        Raises:
            SettingError: If there is no learner of this name, or nothing known to be over.
        """
        names, pairs = list(self.outcomes), None
        if to == "best" and to not in names:
            sign = 1 if self._metric == "accuracy" else -1
            best = max(names, key=lambda name: sign * self[name].mean)
            names.sort(key=best.__ne__)  # the best first, and so in the first pairs
        elif to is not None:
            pairs = [(to, name) for name in names if self[name] is not self[to]]
        found = compare_all({name: self[name] for name in names}, over=over, pairs=pairs)
        return found if to is None else found[: len(names) - 1]

    def to_dict(self) -> dict[str, Any]:
        """All that was found, as plain numbers, texts and lists, with the values of each task."""
        evaluation = next(iter(self.outcomes.values())).evaluation
        return {
            "metric": self._metric,
            "episodes": self._episodes,
            "seed": self.seed,
            "hardness": _listed(self.hardness),
            "classes": _listed(evaluation.classes),
            "groups": _listed(evaluation.groups),
            "learners": {name: self._numbers(name) for name in self.outcomes},
        }

    def to_json(self, path: str | Path, *, comparisons: Sequence[Comparison] = ()) -> None:
        """Write `to_dict` to a file, which is replaced as a whole; ends of infinite intervals are ``null``.

        Args:
            path: The file.
            comparisons: Of learners of the table, to be written with it.

        Raises:
            RunError: If it cannot be written.
        """
        told = self.to_dict()
        if comparisons:
            told["comparisons"] = [each.to_dict() for each in comparisons]
        told = plain(told)
        told["digest"] = digest(json.dumps(told))
        text = json.dumps(told, indent=1, allow_nan=False) + "\n"
        replace_file(Path(path), lambda file: file.write(text.encode()))

    @classmethod
    def from_json(cls, path: str | Path) -> Table:
        """The table that `to_json` wrote; comparisons can be made anew.

        Raises:
            RunError: If the file is missing, damaged or holds something else.
        """
        with reading(path, RunError, damaged="holds no table of learners"):
            told = read_json(read_bytes(Path(path), most=LARGEST))
            if (
                not isinstance(told, dict)
                or not isinstance(told.get("learners"), dict)
                or not told["learners"]
            ):
                raise ValueError("learners are missing")
            check_count("seed", told["seed"], at_least=0)
            check_choice("metric", told["metric"], ("accuracy", "mse"))
            tasks = told["episodes"]
            of = {name: _array(told[name], (tasks, None), "i") for name in IDENTITIES}
            outcomes = {n: _outcome(each, told["metric"], tasks, of) for n, each in told["learners"].items()}
            if told.pop("digest") != digest(json.dumps(told)):
                raise ValueError("something in it was changed")
            return cls(outcomes, told["seed"], _array(told["hardness"], (tasks,), null=np.nan))

    def to_markdown(self) -> str:
        """The table in Markdown."""
        head, *rows = [[cell.replace("|", r"\|") for cell in row] for row in self._rows()]
        return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with a row for each learner: the single numbers of `to_dict`.

        Raises:
            MissingLibraryError: If pandas is not installed.
        """
        with needed_for("to_pandas"):
            import pandas
        rows = {name: self._single(self._numbers(name)) for name in self.outcomes}
        return pandas.DataFrame.from_dict(rows, orient="index")

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        head, *rows = self._rows()
        cells = [[f"{title} {cell}" for title, cell in zip(head[1:], row[1:], strict=True)] for row in rows]
        return self._title, [(row[0], ", ".join(texts)) for row, texts in zip(rows, cells, strict=True)]

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([self._title, *lines])

    def __repr__(self) -> str:
        return str(self)

    @property
    def _metric(self) -> str:
        return next(iter(self.outcomes.values())).evaluation.metric

    @property
    def _episodes(self) -> int:
        return next(iter(self.outcomes.values())).loss.size

    @property
    def _title(self) -> str:
        count = len(self.outcomes)
        return f"{count} learner{'s' * (count != 1)} on the same {self._episodes} tasks (± is over tasks)"

    def _numbers(self, name: str) -> dict[str, Any]:
        """What `to_dict` says of a learner."""
        outcome = self.outcomes[name]
        found, matching = outcome.evaluation, outcome.matching_loss
        intervals = {over: found.interval(over) for over in found.known}
        return {
            found.metric: found.mean,
            "intervals": {over: [each.low, each.high] for over, each in intervals.items()},
            "loss": float(outcome.loss.mean()),
            "matching_loss": None if matching is None else float(matching.mean()),
            "calibration": None if outcome.calibration is None else outcome.calibration.to_dict(),
            "by_hardness": self.by_hardness(name),
            "transductive": found.transductive,
            "seconds": outcome.seconds,
            "values": found.values.tolist(),
            "losses": outcome.loss.tolist(),
            "matching_losses": _listed(matching),
        }

    def _single(self, numbers: dict[str, Any]) -> dict[str, Any]:
        """Those of the numbers of a learner that fit into a cell each."""
        kept = {name: numbers[name] for name in (self._metric, "loss", "matching_loss")}
        calibration = numbers["calibration"]
        if calibration is not None:
            kept["ece"] = calibration["ece"]["estimate"]
        ends = {
            f"{end}_over_{over}": each
            for over, pair in numbers["intervals"].items()
            for end, each in zip(("low", "high"), pair, strict=True)
        }
        thirds = {f"{self._metric}_{stratum}": value for stratum, value in numbers["by_hardness"].items()}
        return kept | ends | thirds | {name: numbers[name] for name in ("transductive", "seconds")}

    def _rows(self) -> list[list[str]]:
        """The head of the table and a row for each learner, as texts."""
        columns = {name: self._cells(name) for name in self.outcomes}
        head = list(dict.fromkeys(title for cells in columns.values() for title in cells))
        body = [
            [" ".join(name.split()), *(cells.get(title, "–") for title in head)]
            for name, cells in columns.items()
        ]
        return [["learner", *head], *body]

    def _cells(self, name: str) -> dict[str, str]:
        """What the row of a learner says, under the titles of the columns."""
        outcome = self.outcomes[name]
        found = outcome.evaluation
        cells = {found.metric: found.in_words(), "loss": f"{outcome.loss.mean():.3f}"}
        if outcome.matching_loss is not None:
            cells["matching loss"] = f"{outcome.matching_loss.mean():.3f}"
        if outcome.calibration is not None:
            bins = outcome.calibration.bins
            cells["ECE (if calibrated)"] = f"{bins.ece:.3f} ({bins.calibrated_ece:.3f})"
        if thirds := self.by_hardness(name):
            cells[" / ".join(STRATA)] = " / ".join(f"{value:.3f}" for value in thirds.values())
        cells["transductive"] = {True: "yes", False: "no", None: "unknown"}[found.transductive]
        return cells | {"ms a task": f"{1000 * outcome.seconds:.3g}"}


def _outcome(told: Any, metric: str, tasks: int, identities: dict[str, Any]) -> LearnerOutcome:
    """What `to_dict` says of a learner, read again."""
    values, loss, matching = (_array(told[n], (tasks,)) for n in ("values", "losses", "matching_losses"))
    transductive, calibration = told["transductive"], told["calibration"]
    if values is None or loss is None or not np.isfinite(values).all():
        raise ValueError("a value is missing")
    if transductive not in (True, False, None):
        raise ValueError(f"transductive is {transductive!r}")
    return LearnerOutcome(
        Evaluation(metric, values, transductive, **identities),
        loss,
        matching,
        None if calibration is None else Calibration.from_dict(calibration),
        float(told["seconds"]),
    )


def _listed(array: np.ndarray | None) -> list[Any] | None:
    return None if array is None else array.tolist()


def _array(
    told: Any, shape: tuple[int | None, ...], kind: str = "f", *, null: float = np.inf
) -> np.ndarray | None:
    """Numbers from a file, in which ``null`` stands for infinity, or for what is told."""
    if told is None:
        return None
    array = np.asarray(told, dtype=np.float64 if kind == "f" else None)
    if array.ndim != len(shape) or array.dtype.kind != kind or array.shape[0] != shape[0]:
        raise ValueError(f"an array has shape {array.shape} and dtype {array.dtype}; expected {shape}")
    return np.asarray(np.where(np.isnan(array), null, array)) if kind == "f" else array
