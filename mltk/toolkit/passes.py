"""Several passes over the same tasks, and the answer that is made of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from mltk.errors import SettingError
from mltk.evaluation.probabilities import log_softmax
from mltk.evaluation.student import quantile
from mltk.evaluation.uncertainty import uncertainty
from mltk.summary import Lines, Told

Mean = Literal["probabilities", "log-probabilities"]
"""What is averaged over passes where there are classes."""

LEAST = 3
"""Passes before it is first asked whether a label is settled."""


@dataclass(frozen=True, repr=False)
class TestTimeAnswer(Told):
    """What a learner answers after several passes.

    Attributes:
        outputs: Of one pass what the learner predicted; of several the logarithms of the mean probabilities,
            ``(T, M, ways)``, or for regression mean values ``(T, M, o)``. On the host.
        probabilities: ``(T, M, ways)`` float64; ``None`` for regression.
        spread: How much the passes differ: the mutual information of label and pass, ``(T, M)`` in nats, or
            the standard deviation of values, ``(T, M, o)``; zero after one pass.
        passes: How many each task took, ``(T,)``.
        settled: After how many the answer to each query stayed as it is, ``(T, M)``.
        seconds: All in all.
        stopped: ``"compute"``, or ``"seconds"`` where these ran out before the passes.

    Examples:
        >>> import mltk
        >>> be, tasks = mltk.backend("numpy"), mltk.data.Glyphs(4, 5, 4).tasks(5, 1, 3)
        >>> learner = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]))
        >>> few = tasks.sample(2, 0, be)
        >>> scaler = mltk.toolkit.TestTimeScaler(learner, views=mltk.data.Jitter())
        >>> answer = scaler.predict({}, few.support_x, few.support_y, few.query_x, compute=4)
        >>> answer.probabilities.shape, answer.passes
        ((2, 15, 5), array([4, 4]))
    """

    __test__: ClassVar[bool] = False

    outputs: np.ndarray
    probabilities: np.ndarray | None
    spread: np.ndarray
    passes: np.ndarray
    settled: np.ndarray
    seconds: float
    stopped: str

    @property
    def labels(self) -> np.ndarray:
        """The most probable class of each query, ``(T, M)``.

        Raises:
            SettingError: If there are no classes.
        """
        if self.probabilities is None:
            raise SettingError("the answer is of regression; expected classification, which has labels")
        return np.asarray(np.argmax(self.outputs, axis=2))

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        tasks, queries = self.settled.shape
        kind = "values" if self.probabilities is None else f"labels of {self.outputs.shape[2]} ways"
        lines = [
            ("passes", f"{self.passes.mean():.4g} a task, from {self.passes.min()} to {self.passes.max()}"),
            ("settled", f"after {self.settled.mean():.4g} passes on average"),
            ("spread", f"{self.spread.mean():.3g} on average, at most {self.spread.max():.3g}"),
            ("seconds", f"{self.seconds:.3g}" + (", all there were" if self.stopped == "seconds" else "")),
        ]
        return f"TestTimeAnswer: {kind} for {queries} queries of {tasks} task{'s' * (tasks != 1)}", lines


@dataclass(frozen=True)
class Passes:
    """What each pass gave.

    Attributes:
        first: The outputs of pass 0, as the learner gave them, on the host.
        stack: Log-probabilities or values ``(S, T, M, o)`` float64.
        used: Of how many passes the answer to each query is made, ``(T, M)``.
        taken: How many passes each task took, ``(T,)``.
        elapsed: Seconds until the end of each pass, ``(S,)``.
        classes: Whether outputs are logits.
        stopped: Why there were no more: ``"compute"`` or ``"seconds"``.
    """

    first: np.ndarray
    stack: np.ndarray
    used: np.ndarray
    taken: np.ndarray
    elapsed: np.ndarray
    classes: bool
    stopped: str

    def combined(self, mean: Mean) -> np.ndarray:
        """Log-probabilities or values of all passes that are used, ``(T, M, o)`` float64."""
        counted = (np.arange(len(self.stack))[:, None, None] < self.used)[..., None]
        if self.classes and mean == "probabilities":
            log_sum = np.logaddexp.reduce(np.where(counted, self.stack, -np.inf))
            return np.asarray(log_sum - np.log(self.used)[..., None])
        average = np.where(counted, self.stack, 0).sum(axis=0) / self.used[..., None]
        return log_softmax(average) if self.classes else average

    def outputs(self, mean: Mean) -> np.ndarray:
        """The same, but of a single pass what the learner gave."""
        return self.first if len(self.stack) == 1 else self.combined(mean)

    def until(self, count: int) -> Passes:
        """The first passes alone."""
        used, taken = np.minimum(self.used, count), np.minimum(self.taken, count)
        return replace(self, stack=self.stack[:count], used=used, taken=taken, elapsed=self.elapsed[:count])

    def spread(self) -> np.ndarray:
        """How much the passes differ: see `TestTimeAnswer`."""
        spread = np.zeros(self.used.shape if self.classes else self.stack.shape[1:])
        for count in np.unique(self.used):
            here = self.used == count
            some = self.stack[:count, here]
            spread[here] = uncertainty(np.exp(some)[:, None]).epistemic[0] if self.classes else some.std(0)
        return spread


def take_passes(
    outputs: Callable[[int, np.ndarray], np.ndarray],
    allot: Callable[[np.ndarray], np.ndarray],
    *,
    tasks: int,
    classes: bool,
    mean: Mean = "probabilities",
    confidence: float | None = None,
    ends: float = np.inf,
) -> Passes:
    """Pass after pass, of the tasks that still want one.

    Args:
        outputs: From the number of a pass and those of tasks to predictions for their queries, ``(t, M, o)``
            on the host.
        allot: From the outputs of pass 0 to the most passes of each task, ``(T,)``.
        tasks: How many there are.
        classes: Whether predictions are logits.
        mean: What is averaged where they are.
        confidence: With which a label is settled; ``None`` for all passes.
        ends: When the time is over, by `time.perf_counter`.
    """
    began = time.perf_counter()
    first = outputs(0, np.arange(tasks))
    budgets = allot(first)
    elapsed, slowest = [time.perf_counter() - began], time.perf_counter() - began
    stack = [log_softmax(first) if classes else first.astype(np.float64)]
    wanted, taken = np.ones(first.shape[:2], bool), np.ones(tasks, np.int64)
    used, stopped = wanted.astype(np.int64), "compute"
    while (left := np.flatnonzero((budgets > len(stack)) & wanted.any(axis=1))).size:
        if time.perf_counter() + slowest > ends:
            stopped = "seconds"
            break
        found = outputs(len(stack), left)
        stack.append(np.zeros_like(stack[0]))
        stack[-1][left] = log_softmax(found) if classes else found
        taken[left] += 1
        used += wanted & (taken == len(stack))[:, None]
        if confidence is not None and len(stack) >= LEAST:
            votes = np.stack([each[left] for each in stack])
            votes = np.exp(votes) if mean == "probabilities" else votes
            wanted[left] &= ~settled(votes, budgets[left], confidence)
        elapsed.append(time.perf_counter() - began)
        slowest = max(slowest, elapsed[-1] - elapsed[-2])
    return Passes(first, np.stack(stack), used, taken, np.asarray(elapsed), classes, stopped)


def settled(votes: np.ndarray, totals: np.ndarray, confidence: float) -> np.ndarray:
    """Which labels further passes would not change: see `mltk.toolkit.test_time`.

    Args:
        votes: What is averaged, of the passes up to now, ``(S, T, M, ways)``, two passes at least.
        totals: The passes that there would be, ``(T,)``.
        confidence: From 0.5 on, below 1.

    Returns:
        Booleans ``(T, M)``.
    """
    done, others = len(votes), max(votes.shape[-1] - 1, 1)
    best = votes.mean(axis=0).argmax(axis=-1)[..., None]
    leads = np.take_along_axis(votes, np.broadcast_to(best, (done, *best.shape)), axis=-1) - votes
    remaining = np.sqrt((totals - done) / (totals * done))[:, None, None]
    enough = quantile(done - 1, 1 - 2 * (1 - confidence) / others) * leads.std(axis=0, ddof=1) * remaining
    safe = leads.mean(axis=0) > enough
    np.put_along_axis(safe, best, True, axis=-1)
    return np.asarray(safe.all(axis=-1))
