"""Several learners with all that is around them: trained, compared, chosen from, watched, and reported on."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mltk.backend import check_backend
from mltk.checks import check_choice, check_count, check_has, check_number
from mltk.contracts import Backend
from mltk.data.retrying import Retrying
from mltk.data.source import TaskSource
from mltk.errors import SettingError
from mltk.evaluation.entry import Entry
from mltk.evaluation.evaluator import MetaLearningEvaluator
from mltk.evaluation.table import Table
from mltk.installation import needed_for
from mltk.optim import Transform
from mltk.progress import Progress, StepReport
from mltk.recipes import optimizer_for
from mltk.toolkit.allocation import Allocation, AllocationPolicy
from mltk.toolkit.answering import Answering
from mltk.toolkit.decisions import Decisions
from mltk.toolkit.evidence import Evidence, gather
from mltk.toolkit.kept_back import check_apart, kept_back
from mltk.toolkit.levels import scaling
from mltk.toolkit.monitor import Monitor
from mltk.toolkit.named_learners import made_for, named_learners
from mltk.toolkit.recording import run_of
from mltk.toolkit.records import Records
from mltk.toolkit.recovery import Recovery
from mltk.toolkit.report.page import report
from mltk.toolkit.toolkit_file import WARM, Kept, read_learner, read_toolkit, write_toolkit
from mltk.toolkit.transfer import KnowledgeTransfer
from mltk.toolkit.transferring import transferring, warm_learners
from mltk.training.loop import Run
from mltk.training.runs import train
from mltk.tree import Tree
from mltk.watching import Watcher

USUAL = ("monitor", "recovery", "selection", "failure", "scaling")
FEATURES = (*USUAL, "transfer")
"""What can be switched on and off, and what is on where nobody says."""

KEPT = 200
"""Tasks that decisions are learned from, where nobody says."""

LEAST = 20
"""Of fewer nothing can be learned."""

MEMORY = "memory.npz"
"""In the run folder of a learner: what it remembers."""


class MetaLearningToolkit(Answering, AbstractContextManager["MetaLearningToolkit"]):
    """Several learners, and all that is around them.

    `train` trains each of them, keeps some classes back, and learns from these which learner to take for a
    task and whether it will fail. `predict` then answers for tasks of classes that nobody has seen.

    Args:
        learners: Names as of ``mltk train``, such as ``["prototypical", "ridge", "maml"]``, whose networks
            are made to fit the tasks; or a dict of learners by name, of one's own, too.
        backend: Where everything is computed.
        records: A file, or `mltk.Records`, that keeps what was run on which task; ``None`` for memory.
        folder: Where the run folders of the learners go, under their names; ``None`` for a temporary one,
            which goes with this object. Runs that are there are gone on from.
        features: What is switched on: ``"monitor"``, ``"recovery"``, ``"selection"``, ``"failure"``,
            ``"scaling"``; and, where it is named, ``"transfer"``: then each learner that adapts parameters is
            there twice, as it is and "from memory", with new tasks that may start from similar ones of the
            training, which is judged at the price of some twenty adaptations a task. What is off costs
            nothing.
        threshold: What failing means: an accuracy below it, or an error above; ``None`` for the worst quarter
            of the tasks that are decided by, or fewer where too many are alike.
        seed: Of everything.

    Raises:
        SettingError: If a setting is not of its kind, or there is no learner of a name.
        RunError: If the file is no file of records.

    Examples:
        >>> import mltk
        >>> be = mltk.backend("numpy")
        >>> toolkit = mltk.MetaLearningToolkit(["ridge", "prototypical"], backend=be)
        >>> runs = toolkit.train(mltk.data.Blobs(ways=3, shots=5, queries=5), steps=10, progress=False)
        >>> sorted(runs), toolkit.compare(episodes=40)["ridge"].metric
        (['prototypical', 'ridge'], 'accuracy')
    """

    def __init__(
        self,
        learners: Sequence[str] | Mapping[str, Any],
        *,
        backend: Backend,
        records: Records | str | os.PathLike[str] | None = None,
        folder: str | os.PathLike[str] | None = None,
        features: Collection[str] = USUAL,
        threshold: float | None = None,
        seed: int = 0,
    ) -> None:
        check_backend(backend)
        check_count("seed", seed, at_least=0)
        self.learners = named_learners(learners)
        self._recipes = {name: each for name, each in self.learners.items() if isinstance(each, str)}
        if isinstance(features, str) or not isinstance(features, Collection):
            raise SettingError(f"features is {features!r}; expected several of {', '.join(FEATURES)}")
        for feature in features:
            check_choice("each of features", feature, FEATURES)
        self.backend, self.seed, self.features = backend, seed, frozenset(features)
        if self.features & {"selection", "failure"}:
            with needed_for("choosing learners and foreseeing failures (switched off by features=…)"):
                import sklearn  # noqa: F401 - now, and not after the trainings
        self._open = ExitStack()
        self.records = records if isinstance(records, Records) else self._open.enter_context(Records(records))
        if threshold is not None:
            check_number("threshold", threshold)
        if not isinstance(folder, str | os.PathLike | None):
            raise SettingError(f"folder is {folder!r}; expected the path of a folder, or None")
        if folder is None:
            folder = self._open.enter_context(TemporaryDirectory(prefix="mltk-"))
        self.folder = Path(folder)
        self.threshold = threshold
        self.runs: dict[str, Run] = {}
        self._warm: dict[str, KnowledgeTransfer] = {}
        self.monitors: dict[str, Monitor] = {}
        self._decisions: Decisions | None = None
        self._unseen: TaskSource | None = None

    @property
    def entries(self) -> dict[str, tuple[Any, Tree]]:
        """The learners that are trained, those that start from memory after them, with their meta-parameters.

        Raises:
            SettingError: If `train` was not called.
        """
        warm = {name + WARM: (each, each.meta_params) for name, each in self._warm.items()}
        return self._trained | warm

    @property
    def _trained(self) -> dict[str, tuple[Any, Tree]]:
        if not self.runs:
            raise SettingError(
                "the learners are not trained; expected a call of train(tasks, steps=…) before"
            )
        return {name: (self.learners[name], run.meta_params) for name, run in self.runs.items()}

    def train(
        self,
        tasks: TaskSource,
        *,
        steps: int,
        meta_batch: int = 4,
        optimizer: Transform | None = None,
        validation: TaskSource | None = None,
        episodes: int = KEPT,
        progress: bool | Progress | None = None,
    ) -> dict[str, Run]:
        """Train all learners, and learn to decide by classes that are kept back.

        Args:
            tasks: Where tasks come from.
            steps: Steps of each training.
            meta_batch: Tasks a step.
            optimizer: The outer optimiser of all; ``None`` for that of the recipes.
            validation: Tasks of classes that are not in ``tasks``, to decide by; ``None`` keeps back a
                quarter of the classes or their groups, where there is an end of them.
            episodes: How many of these are looked at.
            progress: As for `mltk.train`.

        Returns:
            The run of each learner.

        Raises:
            SettingError: If a setting is not valid, or there are too few classes to keep some back.
            MltkError: As `mltk.train` and `mltk.evaluate`.
        """
        check_has("tasks", tasks, "sample", "mltk.data.Glyphs().tasks(...)")
        check_count("steps", steps)
        check_count("episodes", episodes, at_least=LEAST)
        rest, back = self._apart(tasks, validation)
        self.learners, shape = made_for(
            self.learners, self._steady(rest), self._steady(back), backend=self.backend, seed=self.seed
        )
        for name, learner in self.learners.items():
            chosen = optimizer
            if optimizer is None and name in self._recipes:
                chosen = optimizer_for(self._recipes[name], shape, steps)
            how: dict[str, Any] = {"backend": self.backend, "steps": steps, "meta_batch": meta_batch}
            how |= {"optimizer": chosen, "seed": self.seed, "out": self.folder / name, "resume": True}
            run = str(self.folder / name)
            watch: list[Watcher] = [self.records.watcher(run=run)]
            if "monitor" in self.features:
                self.monitors[name] = Monitor()
                watch.append(self.monitors[name])
            how |= {"progress": progress, "watch": watch}
            if "recovery" in self.features:
                self.runs[name] = Recovery().train(learner, rest, records=self.records, run=run, **how)
            else:
                self.runs[name] = train(learner, rest, **how)
            self._decisions, self._warm = None, {}  # those of what was trained less
        if "transfer" in self.features:
            seen = self._steady(rest).sample(KEPT, np.random.default_rng([self.seed, 3]), self.backend)
            self._warm = warm_learners(self._trained, seen)
            for name, warm in self._warm.items():
                warm.save(self.folder / name / MEMORY)
        self.decide_by(back, episodes=episodes, progress=progress)
        return dict(self.runs)

    def decide_by(
        self, tasks: TaskSource, *, episodes: int = KEPT, progress: bool | Progress | None = None
    ) -> Evidence:
        """Learn from tasks of unseen classes which learner to take, and when it will fail.

        Args:
            tasks: Where they come from; nothing should have been trained on their classes.
            episodes: How many.
            progress: Called with the number of tasks.

        Returns:
            How all learners did on them, and what was known before.
        """
        check_count("episodes", episodes, at_least=LEAST)
        how: dict[str, Any] = {"seed": self.seed, "backend": self.backend, "progress": progress}
        how["measured"] = not self.features.isdisjoint({"selection", "failure"})
        found = gather(self.entries, self._steady(tasks), episodes=episodes, watch=self._watch, **how)
        self._decide(found, tasks)
        recipes = {name: self._recipes.get(name) for name in self.runs}
        steps = {name: run.steps for name, run in self.runs.items()}
        write_toolkit(self.folder, Kept(recipes, steps, self._settings, found, tasks))
        return found

    @property
    def _watch(self) -> Watcher:
        """What writes down how the learners do; trained further they are another run."""
        return self.records.watcher(run=run_of([Entry(name, *each) for name, each in self.entries.items()]))

    def compare(
        self,
        tasks: TaskSource | None = None,
        *,
        episodes: int = 600,
        progress: bool | Progress | None = None,
    ) -> Table:
        """All learners on the same tasks, which are none of those that were decided by.

        Args:
            tasks: Where they come from; ``None`` for those of the classes that were kept back.
            episodes: How many.
            progress: Called with the number of tasks.
        """
        unseen: Any = self._unseen if tasks is None else tasks
        check_has("tasks", unseen, "sample", "mltk.data.Glyphs().tasks(...)")
        how: dict[str, Any] = {"seed": self.seed + 1, "backend": self.backend}
        evaluator = MetaLearningEvaluator(self.entries, self._steady(unseen), **how)
        return evaluator.run(episodes, progress=progress, watch=self._watch)

    def allocate(
        self,
        *,
        price: float,
        levels: Sequence[int] = (1, 4, 16),
        episodes: int = KEPT,
        progress: bool | Progress | None = None,
    ) -> AllocationPolicy:
        """Learn, by the classes that were kept back, which tasks the best learner should look at how often.

        Args:
            price: What a look costs, in units of accuracy.
            levels: How many looks there may be.
            episodes: Tasks that this is learned from, half of them to judge it by.
            progress: Called with the number of tasks.

        Returns:
            What `predict` takes as ``compute``; it abstains where nothing is known to be gained.

        Raises:
            SettingError: If these are no images, or no more than one look is taken here.
        """
        check_has("the tasks that decisions are by", self._unseen, "sample", "train(tasks, …) before")
        unseen: Any = self._steady(self._unseen)
        images = unseen.sample(1, 0, self.backend).support_x.ndim == 5
        learner, params = self.entries[self.decisions.best]
        scaler = self._scaler(learner, images=images)
        if scaler.views is None:
            raise SettingError("tasks are looked at once; expected images, and features with 'scaling'")
        how: dict[str, Any] = {"episodes": episodes, "levels": levels, "seed": self.seed + 4}
        how |= {"backend": self.backend, "progress": progress}
        return Allocation(price=price, seed=self.seed).fit(scaling(scaler, params, unseen, **how))

    def transfer(
        self, tasks: TaskSource, *, learner: str | None = None, episodes: int = KEPT
    ) -> KnowledgeTransfer:
        """A learner whose new tasks start from what similar ones have learned: see `KnowledgeTransfer`.

        Args:
            tasks: Where the tasks come from that it remembers, such as those of the training.
            learner: The name of one that adapts parameters; ``None`` for the first one that does.
            episodes: How many tasks.

        Raises:
            SettingError: If no learner of the toolkit adapts parameters.
        """
        if learner is not None:
            check_choice("learner", learner, self._trained)
        chosen = self._trained if learner is None else {learner: self._trained[learner]}
        rng = np.random.default_rng([self.seed, 3])
        return transferring(chosen, self._steady(tasks).sample(episodes, rng, self.backend))

    def report(
        self,
        out: str | os.PathLike[str] = "report.html",
        *,
        episodes: int = 300,
        progress: StepReport | None = None,
    ) -> Path:
        """One page about everything: see `mltk.toolkit.report`.

        Args:
            out: The file.
            episodes: Tasks that each learner is evaluated on.
            progress: Called as ``progress(name, task, tasks, loss)``.

        Returns:
            The path of the page.
        """
        told = {"Choosing a learner": self.decisions, "What it is chosen by": self.decisions.evidence}
        how: dict[str, Any] = {"records": self.records, "sections": told, "seed": self.seed + 2}
        return report([self.folder], out, episodes=episodes, progress=progress, **how)

    def close(self) -> None:
        """Close the records that were opened, and remove the temporary folder, if there is one."""
        self._open.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        backend: Backend | None = None,
        records: Records | str | os.PathLike[str] | None = None,
        learners: Mapping[str, Any] | None = None,
    ) -> MetaLearningToolkit:
        """A toolkit that was trained, from its folder.

        Args:
            folder: As given when it was made.
            backend: Where to compute; ``None`` for where it was trained.
            records: As above.
            learners: Those that are not mltk's own, by name.

        Raises:
            RunError: If the folder holds no toolkit, or one that is damaged.
        """
        path, own = Path(folder), dict(learners or {})
        kept = read_toolkit(path)
        saved = {name: read_learner(path, name, own.get(name), backend) for name in kept.learners}
        library = next(iter(saved.values())).backend
        made = {name: each.algorithm for name, each in saved.items()}
        kept.check_steps(path, {name: each.run.steps for name, each in saved.items()})
        toolkit = cls(made, backend=library, records=records, folder=path, **kept.settings)
        toolkit._recipes = {name: recipe for name, recipe in kept.learners.items() if recipe is not None}
        toolkit.runs = {name: each.run for name, each in saved.items()}
        for name in [name for name in made if name + WARM in kept.evidence.learners]:
            toolkit._warm[name] = KnowledgeTransfer(*toolkit._trained[name])
            toolkit._warm[name].load(path / name / MEMORY)
        toolkit._decide(kept.evidence, kept.unseen)
        return toolkit

    def _decide(self, evidence: Evidence, unseen: TaskSource | None) -> None:
        """Learn to decide by evidence, which comes from unseen tasks."""
        self._decisions = Decisions.learned(evidence, **self._settings)
        self._unseen = unseen

    def _apart(self, tasks: TaskSource, unseen: TaskSource | None) -> tuple[TaskSource, TaskSource]:
        """Tasks to train on, and others of other classes."""

        def apart() -> tuple[TaskSource, TaskSource]:
            rest, back = kept_back(tasks) if unseen is None else (tasks, unseen)
            check_apart(rest, back)
            return rest, back

        steady = self._steady(tasks)
        return steady.drawn(apart, (), lambda *_: None) if isinstance(steady, Retrying) else apart()

    def _steady(self, tasks: Any) -> Any:
        """A source that is asked again where it fails, if that is switched on."""
        return Retrying(tasks) if "recovery" in self.features else tasks

    @property
    def _settings(self) -> dict[str, Any]:
        return {"features": sorted(self.features), "threshold": self.threshold, "seed": self.seed}
