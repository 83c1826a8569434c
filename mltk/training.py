"""Meta-training: a run from its settings, or from its folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mltk.backend import Backend, check_backend
from mltk.backend import backend as choose_backend
from mltk.config import Config, from_config
from mltk.data.source import TaskSource
from mltk.errors import BackendError, RunError, SettingError
from mltk.optim import Adam, Transform
from mltk.outside import reading
from mltk.run_folder import RunFolder, check_shapes, from_arrays
from mltk.settings import check_count, check_has
from mltk.training_loop import Algorithm, Progress, Run, Training, calibrated

LINES_A_RUN = 200
"""How many lines a run logs, about, unless told otherwise."""

LINES_A_CHECKPOINT = 5
"""How many logged lines lie between checkpoints, unless told otherwise."""


@dataclass(frozen=True)
class SavedRun:
    """A run read from its folder.

    Attributes:
        algorithm: The meta-learner.
        tasks: What it was trained on.
        backend: Where the meta-parameters are.
        run: The run up to its latest checkpoint.
    """

    algorithm: Any
    tasks: Any
    backend: Backend
    run: Run


def train(
    algorithm: Algorithm,
    tasks: TaskSource,
    *,
    backend: Backend,
    steps: int,
    meta_batch: int = 4,
    optimizer: Transform | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    log_every: int | None = None,
    checkpoint_every: int | None = None,
    progress: Progress | None = None,
    validate: bool = False,
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
        out: Run folder to write: ``config.toml``, ``metrics.jsonl``, ``checkpoint.npz``, ``curves.svg``.
        resume: Continue the run in ``out``, bit for bit as if it had never stopped; ``steps`` may have grown.
            A finished run is returned as it is; without a run in ``out``, one is started.
        log_every: Steps between two lines of the history; ``None`` for about 200 lines a run.
        checkpoint_every: Steps between two checkpoints; ``None`` for one every five lines.
        progress: Called at the start and at each logged step.
        validate: Check the values of each sampled episode also on a device, which copies them to the host.
            On the host that is always done, and on a device for the first step.

    Raises:
        SettingError: If a setting is not valid.
        LabelError: If a label of the tasks lies outside ``0..ways-1``, or a class has no support example.
        NotFiniteError: If the tasks hold NaN or infinity.
        DivergedError: If the loss or the meta-parameters become NaN or infinite; a checkpoint never
            holds such.
        RunError: If ``out`` holds another run, is in use by another training, or cannot be read or written.
    """
    check_has("algorithm", algorithm, "value_and_grad", "mltk.algorithms.MAML(...)")
    check_has("tasks", tasks, "sample", "mltk.data.Sinusoid(...)")
    if optimizer is not None:
        check_has("optimizer", optimizer, "update", "mltk.optim.Adam()")
    check_backend(backend)
    for name, value in (("steps", steps), ("meta_batch", meta_batch)):
        check_count(name, value)
    check_count("seed", seed, at_least=0)
    for name, every in (("log_every", log_every), ("checkpoint_every", checkpoint_every)):
        if every is not None:
            check_count(name, every)
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
        folder=None if out is None else RunFolder(Path(out)),
        progress=progress,
    )
    folder = training.folder
    if folder is None:
        return training.run(training.start())
    with folder.locked():
        if folder.is_empty():
            folder.write_config(training.config)
            state = training.start()
        elif resume:
            training, state = training.resumed(keep_log_every=log_every is None)
        else:
            raise RunError(f"{folder.path} already holds a run; expected a new folder, or resume=True")
        return training.run(state)


def load_run(folder: str | os.PathLike[str], *, backend: Backend | None = None) -> SavedRun:
    """Read a run, finished or not, with all that is needed to evaluate it.

    Args:
        folder: A folder that `train` wrote.
        backend: Where the meta-parameters go; ``None`` for the backend of the run.

    Raises:
        RunError: If a file is missing, damaged, or names classes that are not mltk's own.
        BackendError: If the run's backend is not installed.
        SettingError: If the run's backend has no such device, dtype or engine any more.
    """
    files = RunFolder(Path(folder))
    config, checkpoint = files.read_config(), files.read_checkpoint()
    with reading(files.config_path, RunError, damaged="is not a configuration of a run"):
        algorithm, tasks = from_config(config["algorithm"]), from_config(config["tasks"])
        seed = config["seed"]
        check_count("seed", seed, at_least=0)
        if backend is None:
            backend = _backend_of(config, files.config_path)
        # Before the parameters are made: a layer of a configuration may be of any size.
        check_shapes(checkpoint.params, algorithm.meta_shapes, files.checkpoint_path)
        template = algorithm.init(backend, 0)
    meta_params = from_arrays(checkpoint.params, template, backend, files.checkpoint_path, any_dtype=True)
    meta_params = calibrated(algorithm, meta_params, tasks, seed)
    history = [line for line in files.read_metrics() if line["step"] <= checkpoint.step]
    return SavedRun(algorithm, tasks, backend, Run(meta_params, history, checkpoint.step, files.path))


def _backend_of(config: Config, path: Path) -> Backend:
    """The backend that a configuration names."""
    settings = dict(config["backend"])
    try:
        return choose_backend(settings.pop("name"), **settings)
    except (BackendError, SettingError) as error:
        raise type(error)(f"{path} names a backend that is not to be had: {error}") from error
