r"""Meta-learning from tasks that arrive over time: follow the meta-leader, and what is forgotten on the way.

After stage $t$ of a stream the meta-parameters are moved towards (Finn, Rajeswaran, Kakade & Levine 2019,
*Online meta-learning*, the update of follow the meta-leader)

$$w_{t+1} = \arg\min_w \sum_{k=1}^{t} f_k \big( U_k(w) \big)$$

by some meta-gradients on tasks drawn from all stages so far, where $U_k$ is the learner's adaptation. Let
$R_{i,j}$ be how well it does on unseen tasks of stage $j$ after stage $i$, with $R_{0,j}$ before the first;
of errors the negative. Then, as Lopez-Paz & Ranzato (2017) define the two transfers, and Chaudhry, Dokania,
Ajanthan & Torr (2018) forgetting,

$$\text{backward} = \frac{1}{T-1} \sum_{i<T} R_{T,i} - R_{i,i}, \quad
  \text{forward} = \frac{1}{T-1} \sum_{i>1} R_{i-1,i} - R_{0,i}, \quad
  \text{forgetting} = \frac{1}{T-1} \sum_{j<T} \max_{j \le l < T} R_{l,j} - R_{T,j}.$$

The regret after $t$ stages is $\sum_{i \le t} R^*_i - R_{i-1,i}$ with the best meta-parameters in hindsight,
$R^*$, for which the last ones stand, $R_{T,i}$.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from mltk import tree
from mltk.backend import check_backend
from mltk.checks import Checked, Count, CountOrZero, check_has, has
from mltk.contracts import Backend, Trainable
from mltk.data.source import TaskSource
from mltk.episode import Episode
from mltk.errors import DivergedError, RunError
from mltk.evaluation.unseen_tasks import evaluate
from mltk.files import AnyPath, replace_file
from mltk.npz import open_npz
from mltk.optim import Adam, Transform, apply_updates
from mltk.outside import read_json, reading
from mltk.plain import plain
from mltk.summary import Lines, Summary
from mltk.toolkit.replay import FixedTasks, Replay
from mltk.training.calibration import calibrated
from mltk.training.config import to_config
from mltk.training.run_folder import from_arrays, to_arrays
from mltk.training.weights import weighted_value_and_grad
from mltk.tree import Tree

Stage = TaskSource | Episode
"""What arrives: a source of tasks, or tasks."""


@dataclass(frozen=True, repr=False)
class OnlineState(Summary):
    """Where a learner stands in a stream.

    Attributes:
        meta_params: What it has learned.
        optimizer: The state of the outer optimiser.
        rng: The state of the generator that draws the tasks.
        stages: What has arrived.
        metric: What was measured: ``"accuracy"``, ``"mse"``; nothing yet at first.
        at_start: Of each stage, with the initial meta-parameters.
        on_arrival: Of each stage, before its tasks were learned.
        after: Of all stages so far, after each of them: rows of growing length.
    """

    meta_params: Tree
    optimizer: Tree
    rng: dict[str, Any]
    stages: tuple[TaskSource, ...] = ()
    metric: str = ""
    at_start: tuple[float, ...] = ()
    on_arrival: tuple[float, ...] = ()
    after: tuple[tuple[float, ...], ...] = ()

    @property
    def sign(self) -> float:
        """One if more of the metric is better, else minus one."""
        return 1.0 if self.metric == "accuracy" else -1.0

    @property
    def backward_transfer(self) -> float:
        """How much better earlier stages are in the end than when they had just been learned."""
        return self.sign * _mean([last - self.after[i][i] for i, last in enumerate(self._last[:-1])])

    @property
    def forward_transfer(self) -> float:
        """How much better stages are on arrival than from the initial meta-parameters, after the first."""
        pairs = zip(self.on_arrival[1:], self.at_start[1:], strict=True)
        return self.sign * _mean([arrived - start for arrived, start in pairs])

    @property
    def forgetting(self) -> float:
        """How much better earlier stages were at their best, before the last one came, than in the end."""
        best = [
            max(self.sign * row[j] for row in self.after[j:-1]) - self.sign * last
            for j, last in enumerate(self._last[:-1])
        ]
        return _mean(best)

    @property
    def regret(self) -> tuple[float, ...]:
        """The sums, up to each stage, of what the last meta-parameters would have done better on arrival."""
        gaps = [self.sign * (last - there) for last, there in zip(self._last, self.on_arrival, strict=True)]
        return tuple(np.cumsum(gaps).tolist())

    @property
    def _last(self) -> tuple[float, ...]:
        return self.after[-1] if self.after else ()

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        named = ("backward_transfer", "forward_transfer", "forgetting")
        lines = [(name.replace("_", " "), f"{getattr(self, name):+.4g} in {self.metric}") for name in named]
        if not self.after:
            return "Online: no stage yet", []
        told = [("on arrival", f"{_mean(self.on_arrival):.4g}"), ("in the end", f"{_mean(self._last):.4g}")]
        several = len(self.after) > 1
        return f"Online: {len(self.after)} stages, {self.metric}", told + (lines if several else [])

    def to_dict(self) -> dict[str, Any]:
        """All that was measured, and what follows from it."""
        measured = ("metric", "at_start", "on_arrival", "after", "regret")
        follows = ("backward_transfer", "forward_transfer", "forgetting")
        return {name: plain(getattr(self, name)) for name in (*measured, *follows)}


@dataclass(frozen=True)
class OnlineMetaLearner(Checked):
    """Follow the meta-leader: see `mltk.toolkit.continual`.

    Attributes:
        learner: Any learner.
        backend: Where everything is computed.
        updates: Meta-gradients after each stage.
        meta_batch: Tasks for each.
        optimizer: The outer optimiser; ``None`` for ``Adam(1e-3)``.
        memory: What they are drawn from: ``"replay"``, all stages so far; ``"latest"``, the last alone; or
            ``"scratch"``, the last alone, from the initial meta-parameters: the two baselines.
        episodes: Unseen tasks that each stage is judged on.
        seed: Of the initial meta-parameters and of all tasks.

    Raises:
        SettingError: If a setting is not valid.

    Examples:
        >>> import mltk
        >>> be, ranges = mltk.backend("numpy"), ((0.0, 1.0), (1.0, 2.0), (2.0, 3.0))
        >>> stream = [mltk.data.Sinusoid(shots=5, queries=10, phase=phase) for phase in ranges]
        >>> maml = mltk.algorithms.MAML(mltk.models.mlp([1, 20, 1]), "mse")
        >>> state = mltk.toolkit.OnlineMetaLearner(maml, be, updates=20, episodes=20).run(stream)
        >>> len(state.stages), len(state.on_arrival), [len(row) for row in state.after]
        (3, 3, [1, 2, 3])
    """

    learner: Trainable
    backend: Backend
    _: KW_ONLY
    updates: Count = 100
    meta_batch: Count = 4
    optimizer: Annotated[Transform, has("update", "mltk.optim.Adam()")] | None = None
    memory: Literal["replay", "latest", "scratch"] = "replay"
    episodes: Count = 100
    seed: CountOrZero = 0
    _rule: Transform = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_backend(self.backend)
        object.__setattr__(self, "_rule", Adam(1e-3) if self.optimizer is None else self.optimizer)
        super().__post_init__()

    def start(self) -> OnlineState:
        """The state before the first stage; the same as that of `mltk.train` with this seed."""
        meta_params = self.learner.init(self.backend, self.seed)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(0,)))
        return OnlineState(meta_params, self._rule.init(meta_params), dict(rng.bit_generator.state))

    def meet(self, state: OnlineState, stage: Stage) -> OnlineState:
        """Judge the learner on what arrives, let it learn, and judge it on all that has arrived.

        Args:
            state: Where it stands.
            stage: A source of tasks, or tasks.

        Raises:
            DivergedError: If the loss or the meta-parameters become NaN or infinite.
            MltkError: If the tasks are not valid, or not of the form of those before.
        """
        source = FixedTasks(stage) if isinstance(stage, Episode) else stage
        check_has("stage", source, "sample", "mltk.data.Sinusoid(...)")
        stages, initial = (*state.stages, source), self.start()
        replay = Replay(stages if self.memory == "replay" else stages[-1:])
        arrived = self._judged(state.meta_params, replay, source)
        before = initial if self.memory == "scratch" else state
        meta_params, memory, rng = self._learned(before, state.rng, replay)
        after = tuple(self._judged(meta_params, replay, each)[1] for each in stages)
        at_start = *state.at_start, self._judged(initial.meta_params, replay, source)[1]
        measured = at_start, (*state.on_arrival, arrived[1]), (*state.after, after)
        return OnlineState(meta_params, memory, rng, stages, arrived[0], *measured)

    def run(self, stream: Iterable[Stage], *, path: AnyPath | None = None) -> OnlineState:
        """Meet one stage after the other.

        Args:
            stream: What arrives, in order.
            path: A file that holds the state after each stage (npz, without pickle). If it is there, the run
                goes on behind the stages that it has met, bit for bit.

        Raises:
            RunError: If the file is damaged, of another run, or cannot be written.
        """
        if path is None:
            state = self.start()
            for stage in stream:
                state = self.meet(state, stage)
            return state
        stages = list(stream)
        state = self.load(path, stages) if Path(path).exists() else self.start()
        for stage in stages[len(state.stages) :]:
            state = self.meet(state, stage)
            self.save(state, path)
        return state

    def save(self, state: OnlineState, path: AnyPath) -> None:
        """Write a state, without its stages, to a file, in one go.

        Raises:
            RunError: If it cannot be written; a previous file is then intact.
        """
        told = {"of": self._settings, "rng": state.rng, "metric": state.metric}
        measured = {name: getattr(state, name) for name in ("at_start", "on_arrival", "after")}
        arrays: dict[str, Any] = to_arrays(
            {"params": state.meta_params, "optimizer": state.optimizer}, self.backend
        )
        text = np.asarray(json.dumps(told | measured))
        replace_file(Path(path), lambda file: np.savez(file, told=text, **arrays))

    def load(self, path: AnyPath, stages: Sequence[Stage]) -> OnlineState:
        """The state that a file holds.

        Args:
            path: The file.
            stages: At least those that it has met, which the file does not hold.

        Raises:
            RunError: If the file is missing, damaged, or of another run.
        """
        path, start = Path(path), self.start()
        with reading(path, RunError, damaged="is damaged or not a state of an OnlineMetaLearner"):
            with open_npz(path, most_bytes=math.inf, most_ratio=1.0) as arrays:
                found = {name: arrays[name] for name in arrays.forms}
            told = read_json(str(found.pop("told")))
            if told["of"] != self._settings:
                raise RunError(f"{path} is of a run with {told['of']}; expected {self._settings}")
            after = tuple(tuple(map(float, row)) for row in told["after"])
            if [len(row) for row in after] != list(range(1, len(after) + 1)):
                raise ValueError("it does not say how each stage went")
            if len(stages) < len(after):
                raise RunError(f"{path} has met {len(after)} stages; expected at most {len(stages)}")
            like = {"params": start.meta_params, "optimizer": start.optimizer}
            trees = from_arrays(found, like, self.backend, path)
            np.random.default_rng().bit_generator.state = told["rng"]  # it must be one
            met = [FixedTasks(s) if isinstance(s, Episode) else s for s in stages[: len(after)]]
            one, other = (tuple(map(float, told[name])) for name in ("at_start", "on_arrival"))
            kept = (told["rng"], tuple(met), str(told["metric"]), one, other, after)
        return OnlineState(trees["params"], trees["optimizer"], *kept)

    @property
    def _settings(self) -> str:
        """What a state must have in common with the run that goes on with it."""
        parts = {"learner": to_config(self.learner), "optimizer": to_config(self._rule)}
        named = ("updates", "meta_batch", "memory", "episodes", "seed")
        return json.dumps(parts | {name: getattr(self, name) for name in named})

    def _learned(
        self, before: OnlineState, drawn: dict[str, Any], replay: Replay
    ) -> tuple[Tree, Tree, dict[str, Any]]:
        """Meta-parameters, state of the optimiser and of the generator after all updates."""
        rng = np.random.default_rng()
        rng.bit_generator.state = drawn
        meta_params, memory = before.meta_params, before.optimizer
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges is an error of its own
            for _ in range(self.updates):
                episode = replay.sample(self.meta_batch, rng, self.backend)
                episode.check_values()
                _, grads = weighted_value_and_grad(self.learner, meta_params, episode)
                updates, memory = self._rule.update(grads, memory, meta_params)
                meta_params = apply_updates(meta_params, updates)
        for name, leaf in tree.flatten(meta_params).items():
            if not np.isfinite(self.backend.to_numpy(leaf)).all():
                raise DivergedError(f"{name} is not finite after stage {len(before.stages) + 1}")
        return meta_params, memory, dict(rng.bit_generator.state)

    def _judged(self, meta_params: Tree, replay: Replay, stage: TaskSource) -> tuple[str, float]:
        """The metric, and its mean on unseen tasks of a stage."""
        ready = calibrated(self.learner, meta_params, replay, self.seed)
        found = evaluate(
            self.learner, ready, stage, episodes=self.episodes, seed=self.seed, backend=self.backend
        )
        return found.metric, found.mean


def _mean(values: Sequence[float]) -> float:
    """The mean; NaN if there is nothing, as after a single stage."""
    return float(np.mean(values)) if values else math.nan
