r"""Which tasks are worth more computing: a policy over levels of it, learned from what one pass shows.

With the probabilities $\pi_\theta(\ell \mid t) = \operatorname{softmax}(W f_t)_\ell$ of the levels, linear in
label-free measures $f_t$ of a task after one pass, the loss $L_{t\ell}$ at a level and the price $\lambda$ of
a pass, $\theta$ minimises

$$\frac1T \sum_t \sum_\ell \pi_\theta(\ell \mid t) \, (L_{t\ell} + \lambda \ell).$$

Levels are sampled from the policy, and `mltk.surrogate` (by the rules of `mltk.ops.PolicyLoss`) gives the
gradient without bias, with the mean cost of the other samples of the task as baseline.

*It must earn its place.* On tasks that it did not learn from, it is compared with the best mixture of fixed
levels that spends as much on average, paired by task. Unless the interval of the gain lies above zero it
abstains: then all tasks get that mixture.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from mltk.checks import Checked, Count, CountOrZero, NonNegative, Positive, Several
from mltk.errors import SettingError
from mltk.evaluation.interval import Interval
from mltk.evaluation.probabilities import log_softmax
from mltk.evaluation.result import Evaluation
from mltk.ops import PolicyLoss
from mltk.ops.distributions import Categorical
from mltk.optim import Adam
from mltk.plain import plain
from mltk.summary import Lines, Summary
from mltk.toolkit.levels import Scaling, confidences

DIGITS = 4
"""Of measures, which predictions in other batches leave as they are."""


@dataclass(frozen=True)
class Allocation(Checked):
    """Learns a policy that allocates computing: see `mltk.toolkit.allocation`.

    Attributes:
        price: What a pass costs, in units of accuracy (or of the mean squared error).
        steps: Steps of Adam.
        samples: Levels that are sampled for each task in each step.
        learning_rate: Of Adam.
        decay: Weight of half the squared parameters, against learning too much from few tasks.
        seed: Of the samples, and of which half of the tasks is learned from.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> easy = np.arange(200) % 2 == 0
        >>> values = np.stack([np.where(easy, 0.9, 0.5), np.where(easy, 0.9, 0.8)])
        >>> known = {"confidence": easy + np.random.default_rng(0).normal(0, 0.1, 200)}
        >>> scaling = mltk.toolkit.Scaling("accuracy", (1, 16), values, np.ones(2), known)
        >>> policy = mltk.toolkit.Allocation(price=0.01).fit(scaling)
        >>> policy.abstains, policy.gain.estimate > 0.05
        (False, True)
        >>> policy.choose({"confidence": np.asarray([0.0, 1.0])})
        array([16,  1])
    """

    price: NonNegative
    steps: Count = 300
    samples: Several = 8
    learning_rate: Positive = 0.1
    decay: NonNegative = 1e-3
    seed: CountOrZero = 0

    def fit(self, scaling: Scaling) -> AllocationPolicy:
        """Learn from one half of the tasks, and judge by the other.

        Args:
            scaling: How tasks of classes did at each level, and what was known of them after one pass.

        Raises:
            SettingError: If nothing was known, there is one level alone, or there are fewer than four tasks.
        """
        tasks = scaling.values.shape[1]
        if not scaling.known or len(scaling.levels) < 2 or tasks < 4:
            raise SettingError(
                f"scaling is of {tasks} tasks at levels {scaling.levels}, and knows {list(scaling.known)}; "
                "expected at least 4 tasks of classes at 2 levels, with measures after one pass"
            )
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(tasks)
        learned, judged = np.sort(order[: tasks // 2]), np.sort(order[tasks // 2 :])
        columns = np.stack([scaling.known[name] for name in scaling.known], axis=1)
        centre, scale = columns[learned].mean(axis=0), columns[learned].std(axis=0)
        features = _features(columns, centre, scale)
        levels = np.asarray(scaling.levels)
        losses = scaling.values.T if scaling.metric == "mse" else 1 - scaling.values.T
        costs = losses + self.price * levels
        weights = self._descend(features[learned], costs[learned], rng)
        chances = np.exp(log_softmax(features[judged] @ weights))
        spent = float((chances @ levels).mean())
        uniform = best_mixture(losses[learned].mean(axis=0), levels, spent)
        # Improvements are positive, of errors as well.
        gains = ((uniform - chances) * losses[judged]).sum(axis=1)
        found = Evaluation(
            scaling.metric,
            gains,
            classes=None if scaling.classes is None else scaling.classes[judged],
            groups=None if scaling.groups is None else scaling.groups[judged],
        )
        over = "classes" if scaling.classes is not None else "tasks"
        names = tuple(scaling.known)
        return AllocationPolicy(
            scaling.levels, names, centre, scale, weights, uniform, found.interval(over), spent
        )

    def _descend(self, features: np.ndarray, costs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The parameters ``(F + 1, L)`` after all steps."""
        optimizer = Adam(self.learning_rate)
        params = {"w": np.zeros((features.shape[1], costs.shape[1]))}
        state = optimizer.init(params)
        for _ in range(self.steps):
            grads = {"w": gradient(params["w"], features, costs, self.samples, rng)}
            grads["w"] += self.decay * params["w"]
            updates, state = optimizer.update(grads, state, params)
            params = {"w": params["w"] + updates["w"]}
        return params["w"]


@dataclass(frozen=True, repr=False)
class AllocationPolicy(Summary):
    """Which tasks get how much computing; what `TestTimeScaler.predict` takes as ``compute``.

    Attributes:
        levels: How many passes there may be.
        names: The measures that it needs, of `mltk.toolkit.levels.confidences`.
        centre: What is taken away from them.
        scale: What they are then divided by.
        weights: ``(measures + 1, levels)``; the last row is that of a constant.
        uniform: The best mixture of fixed levels that spends as much, ``(levels,)``.
        gain: What the policy adds to that in accuracy (or takes from the error), on tasks that it did not
            learn from.
        spent: Passes a task, on average.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> values, known = np.full((2, 40), 0.5), {"confidence": np.linspace(0, 1, 40)}
        >>> flat = mltk.toolkit.Scaling("accuracy", (1, 8), values, np.ones(2), known)
        >>> mltk.toolkit.Allocation(price=0.01).fit(flat).abstains
        True
    """

    levels: tuple[int, ...]
    names: tuple[str, ...]
    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    uniform: np.ndarray
    gain: Interval
    spent: float

    @property
    def abstains(self) -> bool:
        """Whether nothing is known to be gained, so that all tasks are treated alike."""
        return not self.gain.low > 0

    def _columns(self, known: dict[str, np.ndarray]) -> np.ndarray:
        """The measures that it needs, ``(T, measures)``; `SettingError` if one is missing."""
        if missing := [name for name in self.names if name not in known]:
            raise SettingError(f"known has no {missing[0]!r}; expected {', '.join(self.names)}")
        return np.stack([known[name] for name in self.names], axis=1)

    def probabilities(self, known: dict[str, np.ndarray]) -> np.ndarray:
        """The probability of each level for each task, ``(T, L)``.

        Args:
            known: The measures of the tasks after one pass, ``(T,)`` each.

        Raises:
            SettingError: If one is missing.
        """
        columns = self._columns(known)
        if self.abstains:
            return np.tile(self.uniform, (len(columns), 1))
        logits = _features(columns, self.centre, self.scale) @ self.weights
        return np.asarray(np.exp(log_softmax(logits)))

    def choose(self, known: dict[str, np.ndarray], *, seed: int = 0) -> np.ndarray:
        """A level for each task, drawn from `probabilities`, ``(T,)``.

        A draw hangs on the measures of its task, to some digits: it is the same alone and in company.
        """
        below = np.cumsum(self.probabilities(known), axis=1)
        rows = np.round(self._columns(known), DIGITS) + 0.0
        # A stream of its own: tasks may have been drawn by a generator with the same seed.
        entropies = [[seed, len(self.levels), *row.view(np.uint32).tolist()] for row in rows]
        drawn = np.asarray([[np.random.default_rng(each).random()] for each in entropies]) * below[:, -1:]
        places = np.minimum((below <= drawn).sum(axis=1), len(self.levels) - 1)
        return np.asarray(np.asarray(self.levels)[places])

    def __call__(self, outputs: np.ndarray) -> np.ndarray:
        """A level for each task, by the logits ``(T, M, ways)`` of its first pass."""
        return self.choose(confidences(outputs))

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        mixture = ", ".join(
            f"{100 * share:.0f} % {level}"
            for level, share in zip(self.levels, self.uniform, strict=True)
            if share > 0.005
        )
        lines = [
            ("spends", f"{self.spent:.3g} passes a task"),
            ("uniformly", f"{mixture} passes"),
            ("gain", str(self.gain)),
            ("decides", "no: nothing is known to be gained" if self.abstains else "yes"),
        ]
        return f"AllocationPolicy over {', '.join(map(str, self.levels))} passes", lines

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers and texts."""
        return {**plain(self), "abstains": self.abstains}


def gradient(
    weights: np.ndarray, features: np.ndarray, costs: np.ndarray, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """An unbiased estimate of the gradient of the mean cost by the weights, from sampled levels.

    Args:
        weights: ``(F, L)``.
        features: Of each task, ``(T, F)``.
        costs: Of each task at each level, ``(T, L)``, of which only the sampled ones are read.
        samples: How many levels are sampled for each task, at least 2.
        rng: Draws them.
    """
    loss = PolicyLoss(Categorical(), horizon=1)
    logits = np.repeat((features @ weights)[:, None], samples, axis=1)
    noise = loss.distribution.noise(rng, (*logits.shape[:2], 1))
    levels = loss.distribution.sample(logits, noise)
    paid = np.take_along_axis(costs, levels[..., 0].astype(np.int64), axis=1)
    others = (paid.sum(axis=1, keepdims=True) - paid) / (samples - 1)
    target = {"target": np.concatenate([levels, paid[..., None], others[..., None]], axis=2)}
    _, residuals = loss.forward(target, logits)
    _, cotangent = loss.vjp(target, residuals, 1.0)
    assert cotangent is not None
    return np.asarray(features.T @ cotangent.sum(axis=1) / len(features))


def best_mixture(losses: np.ndarray, levels: np.ndarray, spent: float) -> np.ndarray:
    """The shares of fixed levels with the least loss among those that cost so much, ``(L,)``.

    Args:
        losses: The mean loss at each level, ``(L,)``.
        levels: What each costs, ascending, ``(L,)``.
        spent: From the lowest cost to the highest.
    """
    best, least = np.zeros(len(levels)), np.inf
    for low, high in product(range(len(levels)), repeat=2):
        if levels[low] <= spent <= levels[high]:
            gap = levels[high] - levels[low]
            share = (spent - levels[low]) / gap if gap else 0.0
            shares = np.zeros(len(levels))
            shares[low] += 1 - share
            shares[high] += share
            if shares @ losses < least:
                best, least = shares, float(shares @ losses)
    return best


def _features(columns: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Measures of one size ``(T, F)``, and a constant."""
    return np.column_stack([(columns - centre) / np.where(scale > 0, scale, 1.0), np.ones(len(columns))])
