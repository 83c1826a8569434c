"""Trainings that go on by themselves: after divergence, failing data, kills, full disks and damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from inspect import signature
from itertools import count
from math import inf
from typing import Annotated, Any

from mltk import tree
from mltk.checks import Checked, CountOrZero, NonNegative, check_between
from mltk.contracts import Learner
from mltk.data.retrying import FINAL, Retrying, generators
from mltk.data.source import TaskSource
from mltk.errors import DivergedError, RunError
from mltk.files import stand_also_at
from mltk.plain import plain
from mltk.summary import Lines
from mltk.toolkit.recording import new_run, source_of
from mltk.toolkit.records import Records
from mltk.toolkit.recovery_log import Event, Log
from mltk.toolkit.row import Row
from mltk.training.loop import Run, State, Training
from mltk.training.run_folder import RunFolder
from mltk.training.runs import prepared, run_folder, train

DIRECTIONS = ("mean", "velocity", "direction")
"""How the optimisers of mltk call what they remember of the direction of gradients."""


@dataclass(frozen=True, repr=False)
class RecoveredRun(Run):
    """The outcome of a training, and what went wrong on its way.

    Attributes:
        events: What went wrong, in the order of time, in earlier calls on the same folder as well.
        rate: What the optimiser's updates were multiplied by in the end: 1 if the training never diverged.
    """

    events: tuple[Event, ...] = ()
    rate: float = 1.0

    @property
    def recovered(self) -> str:
        """How often what went wrong, in words."""
        kinds = [event.kind for event in self.events]
        told = [f"{kind} {kinds.count(kind)} times" for kind in dict.fromkeys(kinds)]
        if "diverged" in kinds:
            told.append(f"rate {self.rate:.3g} of what it was")
        return ", ".join(told) or "nothing went wrong"

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        title, lines = super().summary()
        return title, [*lines, ("recovered", self.recovered)]

    def to_dict(self) -> dict[str, Any]:
        """All but the meta-parameters, as JSON takes it."""
        told = {"steps": self.steps, "history": self.history, "events": self.events, "rate": self.rate}
        found: dict[str, Any] = plain(told | {"folder": None if self.folder is None else str(self.folder)})
        return found


@dataclass(frozen=True)
class Recovery(Checked):
    """Trains as `mltk.train` does, and goes on where that would end.

    *Divergence.* After a `mltk.errors.DivergedError` it goes back to the last good checkpoint (without a
    folder, to the state in memory that a checkpoint would hold) and goes on with smaller outer steps: from
    then on the optimiser's updates are multiplied by ``rate_factor``, once more for each divergence. All
    optimisers of mltk are linear in their learning rate, so that is a smaller rate, under any schedule and
    in any chain. Of their memory the running means of gradients are forgotten, which point to where it
    diverged; the place in the schedule is kept, and so are Adam's mean squares, without which its first
    steps would be long again. A retry that comes to no new checkpoint goes back one further: the last one may
    have been good and lost already.

    *Sources that raise.* A draw is tried again as by `mltk.data.Retrying`, so that a retry that succeeds
    changes nothing; after the last attempt the tasks are left out, and others are drawn for the same step.

    *Kills, full disks, damage.* With ``out``, the same call goes on with the run that the folder holds, bit
    for bit. The folder keeps the checkpoint before the latest as well, and where the latest cannot be read it
    goes on from that one.

    Whatever happens is an `mltk.toolkit.recovery_log.Event`: in the result, in ``recovery.jsonl`` in the
    folder, and, but for errors that passed, a `mltk.toolkit.recovery_log.RecoveryWarning`. Where nothing
    happens, the run is that of `mltk.train`, bit for bit; where something does, the same call gives the same
    run. What went on with a smaller rate also resumes by `mltk.train`, which finds the rate in the
    checkpoint, and is read by `mltk.load_run`. Watchers are told of steps that are taken again.

    Attributes:
        retries: How often in a run it goes back after a divergence.
        rate_factor: What the rate is multiplied by then, between 0 and 1.
        source_retries: How often a draw is tried again.
        skips: How many draws of a run may be given up for other tasks.
        wait: Seconds before the first further attempt to draw; twice as many before each that follows.

    Examples:
        With this rate the parameters grow without bound, with a quarter of it they do not:

        >>> import mltk, warnings
        >>> learner = mltk.algorithms.MAML(mltk.models.mlp([4, 1]), "mse", inner_steps=0)
        >>> tasks, backend = mltk.data.LinearRegression(shots=5, queries=20), mltk.backend("numpy")
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     run = mltk.toolkit.Recovery(rate_factor=0.25).train(
        ...         learner, tasks, backend=backend, steps=300, optimizer=mltk.optim.SGD(2.0)
        ...     )
        >>> run.rate, [event.kind for event in run.events]
        (0.25, ['diverged'])
    """

    retries: CountOrZero = 3
    rate_factor: Annotated[float, check_between] = 0.5
    source_retries: CountOrZero = 3
    skips: CountOrZero = 10
    wait: NonNegative = 0.1

    def train(
        self,
        algorithm: Learner,
        tasks: TaskSource,
        *,
        records: Records | None = None,
        run: str | None = None,
        **settings: Any,
    ) -> RecoveredRun:
        """Meta-train; see `mltk.train`.

        Args:
            algorithm: The meta-learner.
            tasks: Where tasks come from.
            records: Where the events go as well, a row each in ``RUN/recovery``; the outcome is the rate.
            run: What the rows are part of; ``None`` for the path of ``out``, or a new name.
            settings: All that `mltk.train` takes. A run in ``out`` is always resumed.

        Raises:
            DivergedError: If it diverges after the last retry, too.
            RunError: As from `mltk.train`; if both checkpoints are damaged; if something cannot be written.
                The last checkpoint is then whole, and the same call goes on from there.
            Exception: Of the source, if it raises after so many retries and skips.
        """
        given = signature(train).bind(algorithm, tasks, **settings)
        given.apply_defaults()
        arguments = given.arguments
        with ExitStack() as stack:
            folder = None
            if arguments["out"] is not None:
                folder = stack.enter_context(run_folder("out", arguments["out"]).locked())
                arguments |= {"out": folder, "resume": True}
            log = Log(folder)
            if folder is not None:
                _mend(folder, log)
            training, state = stack.enter_context(prepared(**arguments))
            if records is not None:
                name = run or (new_run() if folder is None else str(folder.path))
                stack.callback(lambda: records.add(_rows(name, training, log)))
            done = self._recovered(training, _GoodStates(training, state), log)
        known = done.meta_params, done.history, done.steps, done.folder
        return RecoveredRun(*known, events=tuple(log.events), rate=log.rate)

    def _recovered(self, training: Training, good: _GoodStates, log: Log) -> Run:
        """Train from the last good state on, as often as it takes."""
        if log.rate < good.last.rate:  # killed after the event was written, or gone back to before it
            good.go_back(log.of("diverged")[-1].step + 1, log.rate)
        while True:
            patience, steps = (self.source_retries, self.wait), count(good.last.step + 1)
            source = _Replacing(training.tasks, *patience, log=log, skips=self.skips, steps=steps)
            try:
                return replace(training, drawn_from=source, keep=good.keep).run(_copy(good.last))
            except DivergedError as error:
                before = log.of("diverged")
                if len(before) >= self.retries:
                    tried = f"after {len(before)} retries, the last with {log.rate:.3g} of the rate"
                    raise DivergedError(f"{error}; {tried}") from error
                lost = bool(before) and good.last.step <= before[-1].step
                limit, rate = good.last.step if lost else inf, log.rate * self.rate_factor
                what = str(error).partition("; ")[0]  # the rest says where the last checkpoint is
                log.add(Event("diverged", good.before(limit).step, what, len(before) + 1, rate))
                good.go_back(limit, rate)


class _GoodStates:
    """The last two states that checkpoints hold, or would hold."""

    def __init__(self, training: Training, state: State) -> None:
        self._training, self._folder = training, training.folder
        self._states = [_copy(state)]
        if self._folder is not None and state.step:
            with suppress(RunError):  # there is none, or it is damaged
                found = training.restored(training.start(), self._folder.read_checkpoint(before=True))
                self._states = [each for each in (found, *self._states) if each.step < state.step] + [
                    self.last
                ]

    @property
    def last(self) -> State:
        """The latest of them."""
        return self._states[-1]

    def keep(self, state: State) -> None:
        """See `mltk.training.loop.Training.keep`."""
        if state.step > self.last.step:  # what calibration adds is written for the same step again
            if self._folder is not None and self._folder.checkpoint_path.exists():
                self._folder.keep_checkpoint()
            self._states = self._states[-1:]
        else:
            self._states = self._states[:-1]
        self._states.append(_copy(state))

    def before(self, step: float) -> State:
        """The latest state before a step, or that at the start."""
        found = [state for state in self._states if state.step < step]
        return found[-1] if found else self._training.start()

    def go_back(self, step: float, rate: float) -> None:
        """Forget all after `before`, and go on from there at another rate."""
        state = self.before(step)
        memory = {name: _forgotten(name, leaf) for name, leaf in tree.flatten(state.optimizer).items()}
        state = replace(state, rate=rate, calibrated={}, optimizer=tree.unflatten(memory))
        self._states = [each for each in self._states if each.step < state.step] + [state]
        if self._folder is not None:  # in this order: logged steps after the checkpoint are left out
            self._training.save(state)
            self._folder.write_metrics(state.history)


@dataclass(frozen=True)
class _Replacing(Retrying):
    """A source whose draws are tried again, and in the end replaced by others.

    Attributes:
        log: What is told of failures.
        skips: How many draws of a run may be replaced.
        steps: The step of each draw.
    """

    log: Log = field(kw_only=True)
    skips: int = field(kw_only=True)
    steps: Iterator[int] = field(kw_only=True)

    def _drawn(self, draw: Callable[..., Any], *given: Any, **named: Any) -> Any:
        step, rngs = next(self.steps), generators(given, named)

        def failed(error: Exception, attempt: int) -> None:
            self.log.add(Event("raised", step, _in_words(error), attempt))

        for number in count(1):
            try:
                return self.drawn(lambda: draw(*given, **named), rngs, failed)
            except FINAL:
                raise
            except Exception as error:
                # A step that is taken again after a kill or a divergence is no further one.
                gone = {(event.step, event.number) for event in self.log.of("skipped")}
                if not rngs or len(gone | {(step, number)}) > self.skips:
                    error.add_note(
                        f"at step {step} of the training, of which {len(gone)} draws were left out"
                    )
                    raise
                self.log.add(Event("skipped", step, _in_words(error), number))
                for rng in rngs:  # a stretch of random numbers that shares none with the one before
                    rng.bit_generator.state = type(rng.bit_generator)(int(rng.integers(1 << 62))).state
        raise AssertionError("a loop without an end")


def _mend(folder: RunFolder, log: Log) -> None:
    """Put the checkpoint before the latest in place of one that is damaged.

    Raises:
        RunError: If both are.
    """
    if not folder.checkpoint_path.exists() and not folder.checkpoint_before_path.exists():
        return
    try:
        folder.read_checkpoint()
    except RunError as error:
        if not folder.checkpoint_before_path.exists():
            raise
        try:
            step = folder.read_checkpoint(before=True).step
        except RunError as worse:
            raise RunError(f"{error}; and {worse}") from error
        log.add(Event("damaged", step, str(error)))
        stand_also_at(folder.checkpoint_before_path, folder.checkpoint_path)


def _rows(run: str, training: Training, log: Log) -> list[Row]:
    """The events as rows, numbered from 0."""
    source, rate, rows = source_of(training.tasks), 1.0, []
    for number, event in enumerate(log.events):
        rate = event.rate or rate
        key = f"{run}/recovery", source, training.seed, number, type(training.algorithm).__name__
        rows.append(Row(*key, "rate", rate, trace=plain(event)))
    return rows


def _forgotten(name: str, leaf: Any) -> Any:
    """A leaf of an optimiser's memory after going back."""
    return 0 * leaf if name.rpartition(".")[2] in DIRECTIONS else leaf


def _copy(state: State) -> State:
    """A state whose generator and history nobody changes."""
    return replace(state, rng=deepcopy(state.rng), history=list(state.history))


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
