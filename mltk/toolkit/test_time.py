r"""Answers that are computed longer: the same task is seen several times, and the answers are averaged.

A *pass* is one adaptation and one prediction. Pass 0 is the learner's own. Each further one has the
meta-parameters of another member of an ensemble, a random view of the examples, or a support set drawn anew:
the passes go through all members, then through all of them with the next view. Of the probabilities of the
passes the answer is the mean, or the normalised mean of their logarithms; of values it is their mean.

*Nothing is learned from other queries.* A view is drawn for a pass, and is the same map for all examples of a
set, however many there are: so the answer to a query is what it would be alone.

*When more passes change nothing.* After $n$ of $N$ passes let $\bar d$ and $s$ be the mean and the standard
deviation over passes of the lead of the best label over another one. If the passes are normal and alike, the
lead $\bar d_N$ after all of them has, given those seen, Student's distribution of $n - 1$ degrees of freedom
around $\bar d$ with the scale $s \sqrt{(N - n) / (N n)}$. A label is settled when, for each other one, the
chance of $\bar d_N \le 0$ is at most $(1 - c) / (\text{ways} - 1)$ with the confidence $c$. Then the answer
stays as it is, whatever the other queries do, and a task of which all are settled is done (stochastic
curtailment: Lan, Simon & Halperin 1982). The confidence is of one look, and each pass from the third on is
followed by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np

from mltk.backend import common_backend
from mltk.checks import Checked, CountOrZero, Flag, check_count, check_scale, is_number
from mltk.contracts import Backend, Predicting
from mltk.errors import SettingError, ShapeError
from mltk.evaluation.entry import entry_of
from mltk.toolkit.passes import Mean, Passes, TestTimeAnswer, take_passes
from mltk.toolkit.views import View, alike, check_views, resampled
from mltk.training.weights import weighted_value_and_grad
from mltk.tree import Array, Tree

Compute = int | np.ndarray | Callable[[np.ndarray], np.ndarray]
"""Passes; or those of each task; or what finds them by the outputs of pass 0."""


def check_members(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a tuple of meta-parameters, or of pairs with a learner."""
    if not isinstance(value, tuple | list):
        raise SettingError(f"{name} is {type(value).__name__}; expected a tuple of meta-parameters")
    for member in value:
        if not isinstance(member, dict):
            entry_of(member, f"a member of {name}")


def check_confidence(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a number from 0.5 on, below 1."""
    if not is_number(value) or not 0.5 <= value < 1:
        raise SettingError(f"{name} is {value!r}; expected a number of at least 0.5 and below 1")


@dataclass(frozen=True)
class TestTimeScaler(Checked):
    """Spends more computing on an answer: see `mltk.toolkit.test_time`.

    Any learner will do, and what it learns in training stays as it is. With neither views, members, refits
    nor steps there is nothing to spend more on, and all answers are those of one pass.

    Attributes:
        learner: The learner.
        views: What distorts the examples of a pass: `mltk.data.Jitter`, or a function ``views(x, rng)`` of
            examples ``(1, *features)``, which is called for each of them with the generator in the same
            state; ``None`` for none.
        members: Further members of an ensemble: meta-parameters for the same learner, or pairs of another
            learner and its own.
        refits: ``"resampled"`` draws the support set of a pass anew with replacement, within each class where
            there are classes; ``"again"`` only repeats, for learners that are random by themselves.
        steps: Whether computing goes into one adaptation with so many times the ``inner_steps`` of the
            learner; then there are no further passes.
        mean: What is averaged where there are classes: ``"probabilities"`` or ``"log-probabilities"``.
        confidence: With which a label is settled, so that no further pass is taken for it; ``None`` to take
            all of them.
        seed: Of views and refits.

    Raises:
        SettingError: If a setting is not of its kind, or ``steps`` comes with others or with a learner
            without ``inner_steps``.

    Examples:
        >>> import mltk
        >>> tasks, be = mltk.data.Glyphs(6, 10, 4).tasks(5, 1, 3), mltk.backend("numpy")
        >>> learner = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]))
        >>> few = mltk.data.Jitter(rotation=5, scale=0.05, shear=0.05, translation=1)
        >>> scaler = mltk.toolkit.TestTimeScaler(learner, views=few)
        >>> plain = mltk.evaluate(learner, {}, tasks, episodes=40, backend=be)
        >>> scaled = mltk.evaluate(scaler.at(16), {}, tasks, episodes=40, backend=be)
        >>> bool(scaled.mean > plain.mean), scaled.transductive
        (True, False)
    """

    __test__: ClassVar[bool] = False

    learner: Predicting
    _: KW_ONLY
    views: Annotated[View, check_views] | None = None
    members: Annotated[tuple[Any, ...], check_members] = field(default=(), repr=False)
    refits: Literal["resampled", "again"] | None = None
    steps: Flag = False
    mean: Mean = "probabilities"
    confidence: Annotated[float, check_confidence] | None = None
    seed: CountOrZero = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.steps:
            return
        if self.views or self.members or self.refits or self.confidence:
            raise SettingError("steps is True; expected no views, members, refits and confidence beside it")
        if not hasattr(self.learner, "inner_steps"):
            raise SettingError(
                f"steps is True, and {type(self.learner).__name__} has no inner_steps; expected a learner "
                "with an inner loop, such as mltk.algorithms.MAML(...)"
            )

    def predict(
        self,
        meta_params: Tree,
        support_x: Array,
        support_y: Array,
        query_x: Array,
        *,
        compute: Compute = 16,
        seconds: float | None = None,
    ) -> TestTimeAnswer:
        """Adapt and predict, as long as that changes answers and the budget lasts.

        Args:
            meta_params: As the learner takes them.
            support_x: Inputs ``(T, N, *features)``.
            support_y: Labels ``(T, N)`` or values ``(T, N, d)``.
            query_x: Inputs ``(T, M, *features)``.
            compute: The most passes, or those of each task, integers ``(T,)`` on the host; or what says these
                when it is shown the outputs of pass 0, such as an `AllocationPolicy`.
            seconds: No pass but the first is begun that would not end within them; ``None`` for no limit.

        Raises:
            SettingError: If a budget is not of its kind, or confidence or seconds make no sense here.
            ShapeError: If predictions are not ``(T, M, o)``, or a view changes the shape of an example.
            MltkError: As the learner.
        """
        began = time.perf_counter()
        if seconds is not None:
            check_scale("seconds", seconds)
            if self.steps:
                raise SettingError("seconds is given, and steps is True, which is one pass; expected None")
        ends = np.inf if seconds is None else began + seconds
        found = self.passes(meta_params, support_x, support_y, query_x, compute=compute, ends=ends)
        return TestTimeAnswer(
            outputs=found.outputs(self.mean),
            probabilities=np.exp(found.combined(self.mean)) if found.classes else None,
            spread=found.spread(),
            passes=found.taken * (compute if self.steps else 1),
            settled=found.used,
            seconds=time.perf_counter() - began,
            stopped=found.stopped,
        )

    def passes(
        self,
        meta_params: Tree,
        support_x: Array,
        support_y: Array,
        query_x: Array,
        *,
        compute: Compute,
        ends: float = np.inf,
    ) -> Passes:
        """What each pass gives by itself: the arguments are those of `predict`.

        Args:
            meta_params: As the learner takes them.
            support_x: Inputs.
            support_y: Labels or values.
            query_x: Inputs.
            compute: The budget.
            ends: When the time is over, by `time.perf_counter`.

        Raises:
            MltkError: As `predict`.
        """
        backend, tasks = common_backend(support_x=[support_x]), support_x.shape[0]
        classes = _of_classes(backend, support_y)
        if self.confidence is not None and not classes:
            raise SettingError("confidence is given for regression, which has no labels; expected None")
        if self.steps:
            check_count("compute", compute)
        elif not callable(compute):
            self._budgets(compute, tasks)

        def outputs(number: int, left: np.ndarray) -> np.ndarray:
            x, y, query = support_x, support_y, query_x
            if len(left) < tasks:
                rows = backend.asarray(left)
                x, y, query = (backend.xp.take(each, rows, axis=0) for each in (x, y, query))
            return self._predicted(number, self._adapted(number, meta_params, x, y, compute), query)

        return take_passes(
            outputs,
            lambda first: self._budgets(compute(first) if callable(compute) else compute, tasks),
            tasks=tasks,
            classes=classes,
            mean=self.mean,
            confidence=self.confidence,
            ends=ends,
        )

    def at(self, compute: int) -> ScaledLearner:
        """The learner that always spends so many passes.

        Args:
            compute: How many.
        """
        return ScaledLearner(self, compute)

    def _budgets(self, compute: int | np.ndarray, tasks: int) -> np.ndarray:
        """The passes of each task: no more than differ from each other."""
        if not isinstance(compute, np.ndarray):
            check_count("compute", compute)
            compute = np.full(tasks, compute)
        elif compute.shape != (tasks,) or compute.dtype.kind not in "iu" or compute.min() < 1:
            raise SettingError(f"compute is {compute}; expected integers of at least 1, {(tasks,)}")
        return compute if self.views or self.refits else np.minimum(compute, 1 + len(self.members))

    def _adapted(self, number: int, meta_params: Tree, x: Array, y: Array, compute: Compute) -> Any:
        """What the learner of a pass has learned from the support sets."""
        learner, params = self._member(number, meta_params)
        if self.steps and isinstance(compute, int) and compute > 1:
            learner = replace(learner, inner_steps=compute * learner.inner_steps)
        variation = number // (1 + len(self.members))
        if variation and self.refits == "resampled":
            backend = common_backend(support_x=[x])
            rows = resampled(backend.to_numpy(x), backend.to_numpy(y), self._rng(variation, 2))
            x, y = (backend.asarray(each) for each in rows)
        return learner.adapt(params, self._seen(x, variation, 0), y)

    def _predicted(self, number: int, state: Any, x: Array) -> np.ndarray:
        """What it predicts, ``(T, M, o)`` on the host."""
        learner, _ = self._member(number, {})
        outputs = learner.predict(state, self._seen(x, number // (1 + len(self.members)), 1))
        found = common_backend(query_x=[x]).to_numpy(outputs)
        expected = (*x.shape[:2], "o")
        if found.ndim != 3 or found.shape[:2] != expected[:2]:
            raise ShapeError(
                f"the predictions of pass {number} have shape {found.shape}; expected {expected}"
            )
        return found

    def _member(self, number: int, meta_params: Tree) -> tuple[Any, Tree]:
        """The learner of a pass and its meta-parameters."""
        place = number % (1 + len(self.members))
        member = self.members[place - 1] if place else meta_params
        if isinstance(member, dict) or not place:
            return self.learner, member
        entry = entry_of(member, "a member")
        return entry.learner, entry.meta_params

    def _seen(self, x: Array, variation: int, what: int) -> Array:
        """The examples ``(T, N, *features)`` in the view of a pass."""
        if self.views is None or not variation:
            return x
        backend = common_backend(x=[x])
        rows = backend.to_numpy(x)
        seen = alike(self.views, rows.reshape(-1, *rows.shape[2:]), self._rng(variation, what))
        return backend.asarray(seen.reshape(rows.shape))

    def _rng(self, variation: int, what: int) -> np.random.Generator:
        """The generator of a variation for the view of its support set (0) or queries (1), or a refit (2)."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(variation, what)))


class States(NamedTuple):
    """What the passes of a learner have learned from the support sets.

    Attributes:
        of: What each pass has.
        classes: Whether they are of classes.
    """

    of: tuple[Any, ...]
    classes: bool


@dataclass(frozen=True)
class ScaledLearner(Checked):
    """A learner that spends a number of passes on each answer, and trains as the one in its scaler does.

    It takes all passes, whatever the scaler's confidence.

    Attributes:
        scaler: What it spends them on.
        compute: How many passes.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse", inner_steps=2)
        >>> deeper = mltk.toolkit.TestTimeScaler(learner, steps=True).at(4)
        >>> tasks, params = mltk.data.Sinusoid(5, 5), learner.init(mltk.backend("numpy"), seed=0)
        >>> more = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse", inner_steps=8)
        >>> same = [mltk.evaluate(each, params, tasks, episodes=20).mean for each in (deeper, more)]
        >>> same[0] == same[1]
        True
    """

    scaler: TestTimeScaler
    compute: Annotated[int, check_count]

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """The learner's own."""
        return self.scaler.learner.init(backend, seed)

    def adapt(self, meta_params: Tree, support_x: Array, support_y: Array) -> States:
        """What each pass learns from the support set."""
        passes = self.scaler._budgets(self.compute, 1)[0]
        states = (
            self.scaler._adapted(number, meta_params, support_x, support_y, self.compute)
            for number in range(passes)
        )
        return States(tuple(states), _of_classes(common_backend(support_x=[support_x]), support_y))

    def predict(self, state: States, query_x: Array) -> Array:
        """What the learner predicts; of several passes log-probabilities or mean values, ``(T, M, o)``."""
        scaler = self.scaler
        if len(state.of) == 1:
            return scaler.learner.predict(state.of[0], query_x)
        found = take_passes(
            lambda number, _: scaler._predicted(number, state.of[number], query_x),
            lambda first: np.full(len(first), len(state.of)),
            tasks=query_x.shape[0],
            classes=state.classes,
        )
        return common_backend(query_x=[query_x]).asarray(found.outputs(scaler.mean))

    def value_and_grad(self, meta_params: Tree, episode: Any) -> tuple[Array, Tree]:
        """The learner's own, of one pass."""
        return weighted_value_and_grad(self.scaler.learner, meta_params, episode)


def _of_classes(backend: Backend, targets: Array) -> bool:
    return not backend.xp.isdtype(targets.dtype, "real floating")
