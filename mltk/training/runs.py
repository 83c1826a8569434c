"""Meta-training: a run from its settings, or from its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from mltk.backend import backend as choose_backend
from mltk.backend import check_backend
from mltk.checks import Count, CountOrZero, check_count, checked, has
from mltk.contracts import Backend, Learner, Trainable
from mltk.data.source import Tasks, TaskSource
from mltk.episode import Episode
from mltk.errors import BackendError, RunError, SettingError, UnknownClassError
from mltk.files import AnyPath
from mltk.optim import Adam, Transform
from mltk.outside import reading
from mltk.progress import Progress
from mltk.summary import Lines, Summary
from mltk.training.calibration import calibrated, with_calibrated
from mltk.training.config import Config, differences, from_config, to_config
from mltk.training.loop import CONTENTS, Run, State, Training, contents, differing_contents
from mltk.training.run_folder import RunFolder, check_shapes, from_arrays
from mltk.training.trained_classes import keep_classes
from mltk.watching import Watch, watchers

LINES_A_RUN = 200
"""How many lines a run logs, about, unless told otherwise."""

LINES_A_CHECKPOINT = 5
"""How many logged lines lie between checkpoints, unless told otherwise."""


@dataclass(frozen=True, repr=False)
class SavedRun(Summary):
    """A run read from its folder.

    Attributes:
        algorithm: The meta-learner.
        backend: Where the meta-parameters are.
        run: The run up to its latest checkpoint.
    """

    algorithm: Any
    backend: Backend
    run: Run
    _recorded: RecordedTasks

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        title, lines = self.run.summary()
        where = f"{self.backend.name} {self.backend.dtype} on {self.backend.device}"
        return f"Saved{title}", [("algorithm", type(self.algorithm).__name__), ("backend", where), *lines]

    @property
    def tasks(self) -> Any:
        """What it was trained on, made when it is first asked for: its data may be elsewhere by now.

        Raises:
            RunError: If it is a source of the user's own that `load_run` was not given, or cannot be made.
        """
        return self._recorded.source


@dataclass(frozen=True)
class RecordedTasks:
    """A task source that is made when it is first needed."""

    make: Callable[[], Any]

    @cached_property
    def source(self) -> Any:
        """The task source."""
        return self.make()

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """See `mltk.data.TaskSource`."""
        episode: Episode = self.source.sample(n_tasks, rng, backend)
        return episode


def train(
    algorithm: Learner,
    tasks: TaskSource,
    *,
    backend: Backend,
    steps: int,
    meta_batch: int = 4,
    optimizer: Transform | None = None,
    seed: int = 0,
    out: AnyPath | RunFolder | None = None,
    resume: bool = False,
    log_every: int | None = None,
    checkpoint_every: int | None = None,
    progress: bool | Progress | None = None,
    validate: bool = False,
    watch: Watch = (),
) -> Run:
    """Meta-train: sample tasks, take the meta-gradient, let the optimiser step, and again.

    The initial meta-parameters are ``algorithm.init(backend, seed)``; the tasks come from a generator of
    their own, ``numpy.random.SeedSequence(seed, spawn_key=(0,))``. A loss on the host is checked at each
    step; one on a device is fetched only where a line is logged or a checkpoint written.

    Args:
        algorithm: The meta-learner.
        tasks: Where tasks come from.
        backend: Where everything is computed, as from `mltk.backend`.
        steps: Steps of the optimiser in all.
        meta_batch: Tasks a step.
        optimizer: The outer optimiser; ``None`` for ``Adam(1e-3)``.
        seed: Seed of the initial meta-parameters and of the tasks.
        out: Run folder to write: ``config.toml``, ``metrics.jsonl``, ``checkpoint.npz``, ``curves.svg``, and
            ``classes.json`` where classes have examples of their own (images). One whose run failed before
            its first checkpoint is used again.
        resume: Continue the run in ``out``, bit for bit as if it had never stopped; ``steps`` may have grown.
            A finished run is returned as it is; without a checkpoint in ``out``, a run is started.
        log_every: Steps between two lines of the history; ``None`` for about 200 lines a run.
        checkpoint_every: Steps between two checkpoints; ``None`` for one every five lines.
        progress: Called as ``progress(step, steps, loss)``, at the start with no loss and at each logged
            step. ``True`` shows a bar (in a notebook a line, elsewhere lines), ``False`` nothing; ``None``
            shows it in notebooks and where the standard error is a terminal.
        validate: Check the values of each sampled episode also on a device, which copies them to the host.
            On the host that is always done, and on a device for the first step.
        watch: Told of each step after it was taken, and after its checkpoint: see `mltk.watching.Watcher`.

    Ctrl-C and SIGTERM (SIGHUP, too) take effect after the present step, once its checkpoint is written in
    ``out``; a second Ctrl-C at once. In other threads than the main one, and where the program handles these
    signals itself, they do as they always did.

    Raises:
        KeyboardInterrupt: After Ctrl-C; it says how to go on.
        TerminatedError: After SIGTERM, which ends the process with status 143.
        SettingError: If a setting is not valid.
        LabelError: If a label of the tasks lies outside ``0..ways-1``, or a class has no support example.
        NotFiniteError: If the tasks hold NaN or infinity.
        DivergedError: If the loss or the meta-parameters become NaN or infinite; a checkpoint never
            holds such.
        RunError: If ``out`` holds another run, or one on other images, is in use by another training, or
            cannot be read or written.
    """
    with prepared(**locals()) as (training, state):  # which are the arguments
        return training.run(state)


@contextmanager
@checked
def prepared(
    algorithm: Trainable,
    tasks: Tasks,
    *,
    backend: Backend,
    steps: Count,
    meta_batch: Count,
    optimizer: Annotated[Transform, has("update", "mltk.optim.Adam()")] | None,
    seed: CountOrZero,
    out: AnyPath | RunFolder | None,
    resume: bool,
    log_every: Count | None,
    checkpoint_every: Count | None,
    progress: bool | Progress | None,
    validate: bool,
    watch: Watch,
) -> Iterator[tuple[Training, State]]:
    """The training that `train` is asked for, all settings checked and its folder locked, and its state."""
    check_backend(backend)
    if resume and out is None:
        raise SettingError("resume is True, but out names no run folder")
    logged = max(1, int(steps) // LINES_A_RUN) if log_every is None else int(log_every)
    training = Training(
        algorithm=algorithm,
        tasks=tasks,
        backend=backend,
        optimizer=Adam(1e-3) if optimizer is None else optimizer,
        steps=int(steps),
        meta_batch=int(meta_batch),
        seed=int(seed),
        log_every=logged,
        checkpoint_every=LINES_A_CHECKPOINT * logged if checkpoint_every is None else int(checkpoint_every),
        validate=validate,
        folder=None if out is None else run_folder("out", out),
        progress=progress,
        watch=watchers(watch),
    )
    folder = training.folder
    if folder is None:
        yield training, training.start()
        return
    with folder.locked():
        if not folder.holds_run():
            folder.begin(training.config)
            keep_classes(folder.path, tasks, resumed=False)
            state = training.start()
        elif resume:
            training, state = training.resumed(keep_log_every=log_every is None)
            keep_classes(folder.path, tasks, resumed=True)
        else:
            what = "a run, or files called like those of one"
            raise RunError(f"{folder.path} already holds {what}; expected a new folder, or resume=True")
        yield training, state


@checked
def load_run(
    folder: AnyPath,
    *,
    algorithm: Trainable | None = None,
    tasks: Tasks | None = None,
    backend: Backend | None = None,
) -> SavedRun:
    """Read a run, finished or not, with all that is needed to use it.

    A finished run needs no data of its training; one that was interrupted does if a batch norm takes its
    statistics from the population.

    Args:
        folder: A folder that `train` wrote.
        algorithm: The meta-learner of the run, where it is the user's own or holds a wrapped module; ``None``
            to make it from the configuration.
        tasks: The task source of the run, where it is the user's own; ``None`` to make it from the
            configuration when it is needed.
        backend: Where the meta-parameters go; ``None`` for the backend of the run.

    Raises:
        RunError: If a file is missing, damaged, or names classes that are not mltk's own, or if what is given
            is not what the run was of, naming what differs.
        BackendError: If the run's backend is not installed.
        SettingError: If an argument is not of its kind, or the run's backend has no such device, dtype or
            engine any more.
    """
    files = run_folder("folder", folder)
    if backend is not None:
        check_backend(backend)
    config, checkpoint = files.read_config(), files.read_checkpoint()
    _check_same(files, config, algorithm=algorithm, tasks=tasks)
    recorded = RecordedTasks(partial(_made, files, config, "tasks", tasks))
    with reading(files.config_path, RunError, damaged="is not a configuration of a run"):
        seed = config["seed"]
        check_count("seed", seed, at_least=0)
        if backend is None:
            backend = _backend_of(config, files.config_path)
    learner: Any = _made(files, config, "algorithm", algorithm)
    with reading(files.config_path, RunError, damaged="is not a configuration of a run"):
        # Before the parameters are made: a layer of a configuration may be of any size.
        if algorithm is None:
            check_shapes(checkpoint.params, learner.meta_shapes, files.checkpoint_path)
        template = learner.init(backend, 0)
    meta_params = from_arrays(checkpoint.params, template, backend, files.checkpoint_path, any_dtype=True)
    if checkpoint.calibrated:
        with reading(files.checkpoint_path, RunError):
            meta_params = with_calibrated(meta_params, checkpoint.calibrated, backend)
    else:
        meta_params = calibrated(learner, meta_params, recorded, seed)
    history = [line for line in files.read_metrics() if line["step"] <= checkpoint.step]
    return SavedRun(learner, backend, Run(meta_params, history, checkpoint.step, files.path), recorded)


def run_folder(name: str, value: Any) -> RunFolder:
    """The run folder with a path, or itself; `SettingError` if it is no path, or an empty one."""
    if isinstance(value, RunFolder):
        return value
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise SettingError(f"{name} is {value!r}; expected the path of a run folder")
    return RunFolder(Path(value))


def _backend_of(config: Config, path: Path) -> Backend:
    """The backend that a configuration names."""
    settings = dict(config["backend"])
    try:
        return choose_backend(settings.pop("name"), **settings)
    except (BackendError, SettingError) as error:
        raise type(error)(f"{path} names a backend that is not to be had: {error}") from error


def _made(files: RunFolder, config: Config, name: str, given: Any) -> Any:
    """The learner or the tasks that are given, or those of the configuration."""
    if given is not None:
        return given
    with reading(files.config_path, RunError, damaged="is not a configuration of a run"):
        try:
            return from_config(config[name])
        except UnknownClassError as error:
            hint = f"give the object itself, as in load_run(..., {name}=...)"
            raise RunError(f"{files.config_path}: {error}; {hint}") from error


def _check_same(files: RunFolder, config: Config, **given: Any) -> None:
    """Check that what is given is what the run was of."""
    found = contents(given["algorithm"], given["tasks"])
    for name, value in given.items():
        if value is None:
            continue
        lines = differences({name: config.get(name)}, {name: to_config(value)})
        lines += differing_contents(*(_of(name, each) for each in (config, found)))
        if lines:
            raise RunError(f"{files.path} holds a run of other {name}:\n  " + "\n  ".join(lines))


def _of(name: str, config: Config) -> Config:
    """A configuration whose recorded contents are those of the learner or of the tasks alone."""
    facts = config.get(CONTENTS)
    if not isinstance(facts, dict):
        return {}
    return {CONTENTS: {key: fact for key, fact in facts.items() if key.partition(".")[0] == name}}
