"""Run folders as they lie there, whole, damaged or still being written; they are only read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mltk.errors import MltkError, SettingError
from mltk.files import AnyPath
from mltk.pictures.titles import learner_in_words, loss_in_words, tasks_in_words
from mltk.toolkit.health import Alert
from mltk.toolkit.monitor_file import read_monitor
from mltk.training.config import from_config
from mltk.training.run_claim import LOCK
from mltk.training.run_folder import RunFolder

DEPTH = 3
"""Levels of folders below one that is no run folder, in which runs are looked for."""

MOST_RUNS = 200
"""Runs that are shown at most."""

LOCKS = Path("/proc/locks")
"""Where the system says who holds which lock: to try would keep a training out that starts just then."""

LIVELY = 60.0
"""Seconds since the last line within which a run is taken to be running where nobody says who locks what."""


@dataclass(frozen=True)
class SeenRun:
    """What a run folder shows without its checkpoint.

    Attributes:
        name: What the run is called.
        folder: Where it is.
        config: Its configuration; empty if that cannot be read.
        history: Its logged steps.
        state: ``"finished"``, ``"running"``, ``"interrupted"``, ``"not started"`` or ``"damaged"``.
        learner: What learns, in words.
        loss: What is logged, in words.
        watched: What a monitor has seen, look by look.
        alerts: What it found wrong.
        problems: What is damaged.
    """

    name: str
    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    state: str = "damaged"
    learner: str = "unknown"
    loss: str = "loss"
    watched: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    problems: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """The last step that is logged."""
        return self.history[-1]["step"] if self.history else 0

    @property
    def steps(self) -> int:
        """How many there will be; 0 if nobody knows."""
        steps = self.config.get("steps")
        return steps if isinstance(steps, int) and steps > 0 else 0

    def now(self) -> SeenRun:
        """The same with its present state, which no file says: whether somebody is training it."""
        if self.problems:
            state = "damaged"
        elif is_locked(self):
            state = "running"
        elif not self.history:
            state = "not started"
        else:
            state = "finished" if self.step >= self.steps else "interrupted"
        return replace(self, state=state)


def run_folders(places: Iterable[AnyPath]) -> dict[str, Path]:
    """Run folders by names that differ: those that are given, and those below others.

    Raises:
        SettingError: If a place is no path, or there is no folder.
    """
    found: dict[Path, None] = {}
    for place in places:
        if not isinstance(place, str | os.PathLike) or not os.fspath(place):
            raise SettingError(f"folders has {place!r}; expected paths of run folders")
        path = Path(place)
        if not path.is_dir():
            raise SettingError(f"there is no folder {path}; expected run folders, or a folder of them")
        inside = list(_below(path, DEPTH))[:MOST_RUNS]
        found |= dict.fromkeys(inside or [path])
    last = [path.resolve().name for path in found]
    return {
        name if last.count(name) == 1 else str(path): path for name, path in zip(last, found, strict=True)
    }


def look(name: str, folder: Path) -> SeenRun:
    """What a folder shows; what cannot be read is among its problems."""
    files, problems = RunFolder(folder), []
    config: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    watched: list[dict[str, Any]] = []
    alerts: list[Alert] = []
    try:
        config = files.read_config()
    except MltkError as error:
        problems.append(str(error))
    try:
        history = files.read_metrics()
    except MltkError as error:
        problems.append(str(error))
    try:
        watched, alerts = read_monitor(folder)
    except MltkError as error:
        problems.append(str(error))
    learner, loss = _in_words(config)
    seen = SeenRun(name, folder, config, history, "damaged", learner, loss, watched, alerts, tuple(problems))
    return seen.now()


def _below(path: Path, depth: int) -> Iterable[Path]:
    """The run folders in a folder, in order of their names; one that is a run has none inside."""
    if any((path / name).exists() for name in ("config.toml", "checkpoint.npz", "metrics.jsonl")):
        yield path
    elif depth:
        try:
            inside = sorted(each for each in path.iterdir() if each.is_dir() and not each.is_symlink())
        except OSError:
            return
        for each in inside:
            yield from _below(each, depth - 1)


def is_locked(run: SeenRun) -> bool:
    """Whether a training is in the folder: the system knows, or else it has written lately."""
    try:
        number = (run.folder / LOCK).stat().st_ino
        held = [line.split() for line in LOCKS.read_text().splitlines()]
    except OSError:
        try:
            written = (run.folder / "metrics.jsonl").stat().st_mtime
        except OSError:
            return False
        return run.step < run.steps and time.time() - written < LIVELY
    return any(words[1] == "FLOCK" and words[5].endswith(f":{number}") for words in held if len(words) > 5)


def _in_words(config: dict[str, Any]) -> tuple[str, str]:
    """What learns on what, and by which loss, as the pictures of runs say it."""
    try:
        learner, tasks = from_config(config["algorithm"]), from_config(config["tasks"])
        return f"{learner_in_words(learner)} on {tasks_in_words(tasks)}", loss_in_words(learner, tasks)
    except Exception:  # classes of the user's own, or damage, that is told elsewhere
        named = [config.get(key) for key in ("algorithm", "tasks")]
        kinds = [str(each.get("type", "")).rpartition(".")[2] for each in named if isinstance(each, dict)]
        return " on ".join(filter(None, kinds)) or "unknown", "loss"
