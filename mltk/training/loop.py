"""One training: the state that a step changes, the steps, and what a folder keeps of them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from mltk import tree
from mltk.contracts import Backend, Learner
from mltk.data.source import TaskSource
from mltk.episode import Episode
from mltk.errors import DivergedError, LabelError, NotFiniteError, RunError, SettingError
from mltk.optim import Transform, apply_updates
from mltk.progress import Progress, duration, showing
from mltk.summary import Lines, Summary, tree_in_words
from mltk.training.calibration import beside, calibrated, with_calibrated
from mltk.training.config import Config, differences, to_config, versions
from mltk.training.draws import draws, state_at_start
from mltk.training.fingerprint import fingerprint
from mltk.training.interruption import Interruption
from mltk.training.run_folder import Checkpoint, RunFolder, check_shapes, from_arrays, to_arrays
from mltk.training.threads import other_threads, threads
from mltk.training.weights import weighted_value_and_grad
from mltk.tree import Tree
from mltk.watching import StepSeen, Watcher

SETTINGS = ("steps", "meta_batch", "seed", "log_every", "checkpoint_every", "validate")
"""The settings of a run beside its algorithm, tasks, optimiser and backend."""

FREE = ("steps", "checkpoint_every", "validate", "versions", "threads")
"""Settings that may differ on resuming, since the trajectory does not depend on them."""

CONTENTS = "contents"
"""The table of a configuration with the `mltk.training.fingerprint` of learner and tasks."""


@dataclass(frozen=True, repr=False)
class Run(Summary):
    """The outcome of a training.

    Attributes:
        meta_params: The meta-parameters after the last step, calibrated on the tasks of training if the
            algorithm has a model with population statistics: a checkpoint holds them without.
        history: The logged steps: ``step``, ``loss`` (the mean meta-loss since the line before) and
            ``seconds`` (of training so far), and the figures of a `mltk.data.source.Proposer` for that step.
        steps: How many steps were done.
        folder: The run folder, if there is one.
    """

    meta_params: Tree
    history: list[dict[str, Any]]
    steps: int
    folder: Path | None = None

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        lines = [("meta_params", tree_in_words(self.meta_params))]
        if self.history:
            first, last = self.history[0], self.history[-1]
            lines.append(
                ("loss", f"{last['loss']:.4g} at step {last['step']}, {first['loss']:.4g} at {first['step']}")
            )
            lines.append(("time", f"{duration(last['seconds'])} of training"))
        if self.folder is not None:
            lines.append(("folder", str(self.folder)))
        return f"Run: {self.steps} step{'s' * (self.steps != 1)}", lines


def contents(algorithm: Any, tasks: Any) -> Config:
    """What the configuration of a run says of objects that are not mltk's own; nothing if there are none."""
    found = fingerprint("algorithm", algorithm, trained=True) | fingerprint("tasks", tasks)
    return {CONTENTS: found} if found else {}


def differing_contents(old: Config, new: Config) -> list[str]:
    """One line for each fact of `contents` that differs; runs of earlier versions have recorded none."""
    if CONTENTS not in old:
        return []
    lines = differences(old[CONTENTS], new.get(CONTENTS, {}))
    hint = (
        f"(recorded in the table [{CONTENTS}] of its config.toml; an object's fingerprint() says what counts)"
    )
    return [*lines, hint] if lines else []


@dataclass(frozen=True)
class State:
    """Where a training stands.

    ``loss_sum`` is over the steps since the last regular line; ``calibrated``, ``proposer`` and ``rate`` are
    those of `Checkpoint`.
    """

    step: int
    meta_params: Tree
    optimizer: Tree
    rng: np.random.Generator
    loss_sum: Any
    history: list[dict[str, Any]]
    calibrated: dict[str, np.ndarray] = field(default_factory=dict)
    proposer: dict[str, np.ndarray] = field(default_factory=dict)
    rate: float = 1.0


@dataclass(frozen=True)
class Training:
    """The settings of `train`, and what whoever recovers trainings puts in.

    ``drawn_from`` stands in front of the tasks where they are drawn, and ``keep`` is told of each state whose
    numbers are finite, before its checkpoint is written.
    """

    algorithm: Learner
    tasks: TaskSource
    backend: Backend
    optimizer: Transform
    steps: int
    meta_batch: int
    seed: int
    log_every: int
    checkpoint_every: int
    validate: bool
    folder: RunFolder | None
    progress: bool | Progress | None
    watch: tuple[Watcher, ...] = ()
    drawn_from: TaskSource | None = None
    keep: Callable[[State], None] | None = None

    @property
    def source(self) -> TaskSource:
        """What tasks are drawn from."""
        return self.tasks if self.drawn_from is None else self.drawn_from

    @property
    def config(self) -> Config:
        """All that is needed to repeat the training, and the versions it ran with, for the record."""
        engine = self.backend.engine.name
        return {
            **{name: getattr(self, name) for name in SETTINGS},
            "backend": {
                **{name: getattr(self.backend, name) for name in ("name", "device", "dtype")},
                **({} if engine == "default" else {"engine": engine}),
            },
            "algorithm": to_config(self.algorithm),
            "tasks": to_config(self.tasks),
            "optimizer": to_config(self.optimizer),
            "versions": versions(self.backend.name),
            "threads": threads(self.backend),
            **contents(self.algorithm, self.tasks),
        }

    def start(self) -> State:
        """The state before the first step."""
        meta_params = self.algorithm.init(self.backend, self.seed)
        if not tree.leaves(meta_params):
            raise SettingError(
                f"algorithm is {self.algorithm!r}, which has no meta-parameters; expected one that can be "
                "trained (mltk.evaluate needs no training)"
            )
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(0,)))
        memory, known = self.optimizer.init(meta_params), state_at_start(self.source)
        return State(0, meta_params, memory, rng, 0.0, [], proposer=known)

    def resumed(self, *, keep_log_every: bool) -> tuple[Training, State]:
        """The training that continues the run in the folder, and where it stands."""
        assert self.folder is not None
        old = self.folder.read_config()
        old_steps, old_log_every = old.get("steps"), old.get("log_every")
        if not (isinstance(old_steps, int) and isinstance(old_log_every, int) and old_log_every > 0):
            raise RunError(
                f"{self.folder.config_path} is not a configuration of a run: no steps or log_every"
            )
        training = replace(self, log_every=old_log_every) if keep_log_every else self
        new = training.config
        fixed_old, fixed_new = (
            {name: value for name, value in config.items() if name not in (*FREE, CONTENTS)}
            for config in (old, new)
        )
        lines = differences(fixed_old, fixed_new) + differing_contents(old, new)
        if self.steps < old_steps:
            lines.append(f"steps: {old_steps} before, {self.steps} now (steps can only grow)")
        if lines:
            raise RunError(f"{self.folder.path} holds a run with other settings:\n  " + "\n  ".join(lines))
        state = training.start()
        if self.folder.checkpoint_path.exists():
            state = training.restored(state, self.folder.read_checkpoint())
        if (other := other_threads(old, new)) and state.step < self.steps:
            warnings.warn(f"{self.folder.path} goes on with {other}", stacklevel=5)
        # In this order a kill between the two leaves a folder that can still be resumed.
        if old_steps < self.steps:
            self.folder.write_config(old | {"steps": self.steps})
        if state.step < self.steps:
            self.folder.write_metrics(state.history)
        return training, state

    def run(self, state: State) -> Run:
        """Train from a state to the last step."""
        unfinished = state.step < self.steps
        if unfinished:
            # A loss that diverges is an error of its own, which names the step.
            name = type(self.algorithm).__name__
            with np.errstate(over="ignore", invalid="ignore"), showing(self.progress, name) as progress:
                state = self._loop(state, progress)
        meta_params = self._calibrated(state)
        if self.folder is None:
            return Run(meta_params, state.history, state.step)
        if unfinished or not self.folder.curves_path.exists():
            from mltk.pictures.curves import curve_of_run

            curve_of_run(self.algorithm, self.tasks, state.history, self.folder.curves_path)
        return Run(meta_params, state.history, state.step, self.folder.path)

    def _calibrated(self, state: State) -> Tree:
        """Meta-parameters that are ready for prediction; what that takes is added to the last checkpoint."""
        if state.calibrated:
            return with_calibrated(state.meta_params, state.calibrated, self.backend)
        meta_params = calibrated(self.algorithm, state.meta_params, self.source, self.seed)
        found = beside(state.meta_params, meta_params, self.backend)
        if found and self.folder is not None:
            self.save(replace(state, calibrated=found))
        return meta_params

    def _loop(self, state: State, progress: Progress) -> State:
        on_host = self.backend.device == "cpu"
        meta_params, memory, rng, loss_sum = state.meta_params, state.optimizer, state.rng, state.loss_sum
        history, known, rate = list(state.history), state.proposer, state.rate
        seconds = history[-1]["seconds"] if history else 0.0
        start = time.perf_counter()
        progress(state.step, self.steps, None)
        steps = range(state.step + 1, self.steps + 1)
        # Without a folder there is nothing to be written before the end.
        interruption = Interruption() if self.folder is not None else None
        kept = self.folder is not None or self.keep is not None
        sampling = draws(self.algorithm, self.source, self.meta_batch, rng, self.backend, count=len(steps))
        with sampling as draw, interruption or nullcontext():
            for step in steps:
                episode, known, figures = draw(meta_params, known)
                self._check(episode, step, first=step == steps[0])
                try:
                    loss, grads = weighted_value_and_grad(self.algorithm, meta_params, episode)
                except NotFiniteError as error:  # of a learner that looks at its own numbers
                    raise self._diverged(f"{error}, at step {step}") from error
                if on_host:
                    loss = self._finite(float(loss), step)
                loss_sum = loss_sum + loss
                before = meta_params
                updates, memory = self.optimizer.update(grads, memory, meta_params)
                if rate != 1:  # the same as a smaller rate of the optimiser, whatever its schedule
                    updates = tree.map(lambda update: rate * update, updates)
                meta_params = apply_updates(meta_params, updates)
                regular, last = step % self.log_every == 0, step == self.steps
                state = State(step, meta_params, memory, rng, loss_sum, history, proposer=known, rate=rate)
                if regular or last:
                    count = self.log_every if regular else step % self.log_every
                    mean = self._finite(float(loss_sum), step) / count
                    elapsed = round(seconds + time.perf_counter() - start, 3)
                    self._log({"step": step, "loss": mean, "seconds": elapsed, **figures}, history, progress)
                if regular:
                    loss_sum = 0.0
                asked = interruption is not None and interruption.signal is not None
                if last or asked or (kept and step % self.checkpoint_every == 0):
                    state = replace(state, loss_sum=loss_sum)
                    self.save(state)
                self._tell(step, loss, grads, before, episode, figures)
                if interruption is not None and asked:
                    raise interruption.stop(self._how_to_go_on(step))
        return state

    def _tell(
        self, step: int, loss: Any, grads: Tree, before: Tree, episode: Episode, figures: dict[str, float]
    ) -> None:
        for watcher in self.watch:
            known = (self.algorithm, self.tasks, self.seed, None if self.folder is None else self.folder.path)
            watcher.on_step(StepSeen(step, self.steps, loss, grads, before, episode, *known, figures))

    def _how_to_go_on(self, step: int) -> str:
        assert self.folder is not None
        return (
            f"after step {step} of {self.steps}, which {self.folder.checkpoint_path} holds: "
            "the same call with resume=True goes on from there"
        )

    def _check(self, episode: Episode, step: int, *, first: bool) -> None:
        """Check the values of an episode: of the first one, on the host, or if told to, those of all."""
        is_episode = isinstance(episode, Episode)  # and not the environments of policies
        try:
            if self.validate or (first and is_episode):
                episode.validate()
            elif is_episode:
                episode.check_values()
        except (LabelError, NotFiniteError) as error:
            error.add_note(f"in the tasks of step {step} of the training")
            raise

    def _log(self, line: dict[str, Any], history: list[dict[str, Any]], progress: Progress) -> None:
        history.append(line)
        if self.folder is not None:
            self.folder.append_metrics(line)
        progress(line["step"], self.steps, line["loss"])

    def save(self, state: State) -> None:
        """Check that everything is finite and, with a folder, write a checkpoint."""
        params = to_arrays(state.meta_params, self.backend)
        memory = to_arrays(state.optimizer, self.backend)
        loss_sum = to_arrays({"loss_sum": state.loss_sum}, self.backend)
        for name, leaf in (params | memory | loss_sum | state.proposer).items():
            if not np.isfinite(leaf).all():
                raise self._diverged(f"{name} is not finite at step {state.step}")
        if self.keep is not None:
            self.keep(state)
        if self.folder is not None:
            random = dict(state.rng.bit_generator.state)
            rest: Any = {name: getattr(state, name) for name in ("calibrated", "proposer", "rate")}
            kept = Checkpoint(state.step, params, memory, random, loss_sum["loss_sum"], **rest)
            self.folder.write_checkpoint(kept)

    def restored(self, start: State, checkpoint: Checkpoint) -> State:
        """The state that a checkpoint holds, given one of the same structure."""
        assert self.folder is not None
        path = self.folder.checkpoint_path
        try:
            start.rng.bit_generator.state = checkpoint.rng
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise RunError(f"{path} is damaged: random state: {error!r}") from error
        check_shapes(checkpoint.proposer, {name: leaf.shape for name, leaf in start.proposer.items()}, path)
        on_host = self.backend.device == "cpu"
        return State(
            checkpoint.step,
            from_arrays(checkpoint.params, start.meta_params, self.backend, path),
            from_arrays(checkpoint.optimizer, start.optimizer, self.backend, path),
            start.rng,
            float(checkpoint.loss_sum) if on_host else self.backend.asarray(checkpoint.loss_sum),
            self._history(checkpoint.step),
            checkpoint.calibrated,
            checkpoint.proposer,
            checkpoint.rate,
        )

    def _history(self, step: int) -> list[dict[str, Any]]:
        """The lines up to a step, without the irregular last line of a run that now goes on."""
        assert self.folder is not None
        kept = [
            line
            for line in self.folder.read_metrics()
            if line["step"] <= step and (line["step"] % self.log_every == 0 or line["step"] == self.steps)
        ]
        expected: Iterable[int] = range(self.log_every, step + 1, self.log_every)
        if step == self.steps and step % self.log_every:
            expected = chain(expected, [step])
        # Compared pair by pair: the step of a damaged checkpoint is too many to list.
        if any(found != wanted for found, wanted in zip_longest((line["step"] for line in kept), expected)):
            raise RunError(f"{self.folder.metrics_path} is damaged: it lacks steps that were logged")
        return kept

    def _finite(self, loss: float, step: int) -> float:
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss} at step {step}")
        return loss

    def _diverged(self, what: str) -> DivergedError:
        good = "no checkpoint was written"
        if self.folder is not None and self.folder.checkpoint_path.exists():
            good = (
                f"the last good checkpoint is step {self.folder.read_checkpoint().step} "
                f"in {self.folder.checkpoint_path}"
            )
        return DivergedError(f"training diverged: {what}; {good}")
