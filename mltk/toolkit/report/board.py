"""What a dashboard shows just now: runs as they go on, and finished ones once they are evaluated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from threading import Event, Thread
from typing import Any

from mltk.data.images.tasks import ImageDataset
from mltk.files import AnyPath
from mltk.plain import plain
from mltk.progress import StepReport
from mltk.toolkit.monitor_file import NAME as MONITOR
from mltk.toolkit.report.drawn import DRAWING
from mltk.toolkit.report.judging import SameTasks, add, grouped
from mltk.toolkit.report.of_learners import curve, progress_of
from mltk.toolkit.report.page import contestants_of, page, sections_of
from mltk.toolkit.report.seen_runs import SeenRun, look, run_folders

TAIL = 20
"""Logged steps of each run that are told."""

PAUSE = 2.0
"""Seconds between two looks for runs that have finished."""


class Board:
    """Runs in folders, read anew whenever somebody asks; safe from any thread.

    Args:
        places: Run folders, or folders of them, where more may come.
        episodes: Unseen tasks that each finished run is evaluated on; 0 for none.
        seed: Seed of these tasks.
        progress: Told of evaluations.

    Raises:
        SettingError: If there is no such folder.
    """

    def __init__(self, places: Iterable[AnyPath], *, episodes: int, seed: int, progress: StepReport) -> None:
        self._places = [Path(place) for place in places]
        self._episodes, self._seed, self._progress = episodes, seed, progress
        self._known: dict[str, tuple[Any, SeenRun]] = {}
        self._curves: dict[str, tuple[Any, str]] = {}
        self._groups: list[SameTasks] = []
        self._problems: dict[str, str] = {}
        self._images: list[ImageDataset] = []
        self._stopped = Event()
        self._worker = Thread(target=self._evaluate, name="evaluation", daemon=True)
        run_folders(self._places)

    def start(self) -> None:
        """Begin to evaluate what is finished."""
        if self._episodes:
            self._worker.start()

    def stop(self) -> None:
        """Evaluate no more; an evaluation that is going on ends with the process."""
        self._stopped.set()

    def page(self) -> str:
        """The page."""
        with DRAWING:
            runs = self._look()
            told = sections_of(runs, self._groups, self._problems, seed=self._seed)
            return page(told, live=self._present(runs))

    def live(self) -> dict[str, Any]:
        """What changes while the page is open: the state of each run, its last steps and its curve."""
        told = {}
        with DRAWING:
            runs = self._look()
            for number, run in enumerate(runs, start=1):
                told[run.name] = {
                    "state": run.state,
                    "step": progress_of(run),
                    "loss": f"{run.history[-1]['loss']:.4g}" if run.history else "–",
                    "tail": plain(run.history[-TAIL:]),
                    "curve": self._curve(run, f"learner-{number}-curve"),
                }
            present = self._present(runs)
        states = [run.state for run in runs]
        words = [f"{states.count(each)} {each}" for each in dict.fromkeys(states)]
        return {"page": present, "status": f"Runs: {', '.join(words) or 'none yet'}", "runs": told}

    def _look(self) -> list[SeenRun]:
        """All runs; those whose files are as they were are not read again."""
        found = []
        for name, folder in run_folders(self._places).items():
            if not (stamp := _stamp(folder)):
                continue  # nothing is there yet
            if name not in self._known or self._known[name][0] != stamp:
                self._known[name] = stamp, look(name, folder)
            found.append(self._known[name][1].now())
        return found

    def _curve(self, run: SeenRun, key: str) -> str:
        stamp = (key, run.step, len(run.history))
        if self._curves.get(run.name, (None,))[0] != stamp:
            self._curves[run.name] = stamp, curve(run, key)
        return self._curves[run.name][1]

    def _present(self, runs: list[SeenRun]) -> str:
        """What differs when there is more to see than the page itself brings up to date."""
        judged = [sorted(group.outcomes.keys() | group.problems.keys()) for group in self._groups]
        told = [[run.name, run.state, run.problems, len(run.alerts)] for run in runs]
        return hashlib.sha256(json.dumps([told, judged, sorted(self._problems)]).encode()).hexdigest()[:16]

    def _evaluate(self) -> None:
        """Evaluate each run that is finished, and again if it was continued since."""
        done: set[tuple[str, int]] = set()
        while not self._stopped.wait(PAUSE if done else 0):
            with DRAWING:
                finished = [run for run in self._look() if run.state == "finished"]
            for run in finished:
                if (run.name, run.step) in done or self._stopped.is_set():
                    continue
                done.add((run.name, run.step))
                contestants, problems = contestants_of([run], self._images)
                judged = grouped(contestants)
                for group in judged:
                    group.judge(run.name, episodes=self._episodes, seed=self._seed, report=self._progress)
                with DRAWING:
                    self._problems |= problems
                    for group in judged:
                        add(group, self._groups)


def _stamp(folder: Path) -> list[tuple[str, int, int]]:
    """What tells whether the files of a run have changed."""
    found = []
    for name in ("config.toml", "metrics.jsonl", "checkpoint.npz", MONITOR):
        try:
            state = (folder / name).stat()
            found.append((name, state.st_mtime_ns, state.st_size))
        except OSError:
            continue
    return found
