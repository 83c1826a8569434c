"""Watching a training: what it did, step by step, and what is wrong with it."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mltk.checks import Checked, Count, check_has
from mltk.contracts import Objective
from mltk.episode import Episode
from mltk.errors import MltkError, SettingError
from mltk.modules.functions import observed_by
from mltk.ops.kernels import kernels_of
from mltk.plain import plain
from mltk.progress import say
from mltk.summary import Lines, Told
from mltk.task_analysis.features import Features
from mltk.task_analysis.hardness import hardness_metric
from mltk.toolkit.change_detection import ChangeDetector
from mltk.toolkit.health import Alert, Health
from mltk.toolkit.monitor_file import MonitorFile
from mltk.toolkit.norms import by_layer, detached, dtype_of, fetch, layer_of, named_arrays, square_sum
from mltk.toolkit.surroundings import memory_in_use, same_random_numbers
from mltk.tree import Array
from mltk.watching import StepSeen, TasksSeen

SURPRISING = 10.0
"""Times the largest loss of the last looks: such a loss is looked at, whatever step it is."""

EVENTS = ("loss rose", "worse")
"""Kinds of alerts that happen, and do not last: each is told anew."""


class Writer(Protocol):
    """Where numbers go, beside the history of a monitor."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Keep what was seen after a step, each under its name."""


def print_alert(alert: Alert) -> None:
    """Print an alert on the standard error."""
    say(f"mltk: {alert}", sys.stderr)


@dataclass(repr=False, eq=False)
class Monitor(Checked, Told):
    """Watches one training: `mltk.train`, or a loop of one's own; and evaluations.

    It looks at the first step and at every 25th, at once where a loss on the host surprises, and changes
    nothing: the trajectory is the same to the bit. Of the steps between it adds the losses, without waiting
    for the device. A look keeps

    - ``loss``, the mean since the last look; ``gradient_norm``, and ``gradient_norms/LAYER`` of each layer;
    - ``tasks_per_second``; ``memory`` of the process in bytes, and ``device_memory`` where that is CUDA;
    - at the first look, and at every 20th from there, ``gain``, the loss of the queries before adaptation
      minus that after it, where the learner has an objective whose model predicts without; and ``hardness``,
      the mean `mltk.hardness_metric` of the tasks, of classification;
    - ``update_norms/LAYER``, the norm of the inner updates, in loops of one's own (see `watching`).

    It is alert to: a loss that rose (by `ChangeDetector`: the looks between false alarms are 2,000 on
    average, or more) or stalls; gradients that explode, vanish, or are exactly zero; numbers that will
    overflow, or have; evaluations whose tasks get worse. An alert is kept in ``alerts`` and told when it
    begins, and told again only after all was well in between.

    A run folder gets a line a look and an alert in ``monitor.jsonl``, also where the run is resumed;
    `read_monitor` reads it. A file or a writer that fails is an alert, and is left alone from then on.

    Attributes:
        every: Steps between two looks.
        samples_every: Looks between two that take gain and hardness, which cost a forward pass each.
        alerts_to: Called with each `mltk.toolkit.health.Alert`; what it raises ends the training. ``None``
            for nobody.
        writers: `TensorBoard`, `MLflow` or others of one's own.
        folder: Where the file goes; ``None`` for the folder of the run, if it has one.
        detector: What finds changes, of the loss and of evaluations.
        features: What hardness is measured by, as `mltk.hardness_metric` takes it.
        history: What each look found.
        alerts: All alerts.
        judged: For each learner that was evaluated, how many tasks and the mean of its metric.

    Examples:
        >>> import mltk
        >>> monitor = mltk.toolkit.Monitor(every=10, samples_every=2)
        >>> learner = mltk.algorithms.MAML(mltk.models.mlp([1, 20, 1]), "mse")
        >>> tasks = mltk.data.Sinusoid(shots=5, queries=5)
        >>> run = mltk.train(learner, tasks, backend=mltk.backend("numpy"), steps=40, watch=monitor)
        >>> [line["step"] for line in monitor.history if "gain" in line], len(monitor.alerts)
        ([1, 20, 40], 0)
    """

    tells = ("history", "alerts", "judged")
    every: Count = 25
    samples_every: Count = 20
    alerts_to: Callable[[Alert], None] | None = print_alert
    writers: Sequence[Writer] = ()
    folder: str | Path | None = None
    detector: ChangeDetector = field(default_factory=ChangeDetector)
    features: Features = None
    history: list[dict[str, float]] = field(default_factory=list, init=False)
    alerts: list[Alert] = field(default_factory=list, init=False)
    judged: dict[str, tuple[int, float]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.detector, ChangeDetector):
            raise SettingError(f"detector is {self.detector!r}; expected a mltk.toolkit.ChangeDetector")
        for writer in self.writers:
            check_has("each of writers", writer, "write", "mltk.toolkit.TensorBoard(...)")
        self._judging: dict[str, ChangeDetector] = {}
        self._failed: list[Any] = []
        if self.folder is not None:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
        self._begin(self.folder)

    def _begin(self, folder: str | Path | None) -> None:
        """Forget the last training."""
        self.history.clear()
        self._file = MonitorFile(None if folder is None else Path(folder))
        self._step, self._health = 0, Health(self.detector, self.every)
        self._active: set[tuple[str, str]] = set()
        self._since, self._loss_sum, self._tasks, self._ceiling = 0, 0.0, 0, math.inf
        self._updates: dict[str, list[Array]] = {}
        self._clock = time.perf_counter()

    def on_step(self, seen: StepSeen) -> None:
        """See `mltk.watching.Watcher`."""
        if seen.step <= self._step or self._step == 0:
            self._begin(seen.folder if self.folder is None else self.folder)
            if seen.step == 1:
                self._try(self._file, self._file.begin)
        inputs = getattr(seen.episode, "support_x", ())  # environments of policies have none
        if self._count(seen.step, seen.loss, len(inputs)):
            self._look(seen.grads, lambda: self._sampled(seen))

    def step(self, loss: Any, grads: Any, *, tasks: int | None = None, before: Any = None) -> None:
        """A step of a training loop of one's own.

        Args:
            loss: The meta-loss, a number or a 0-d array.
            grads: The meta-gradient: a tree, a sequence of arrays, or a `torch.nn.Module` with its ``grad``s.
            tasks: How many tasks it is of; ``None`` for as many as modules were cloned: see `watching`.
            before: The loss without adaptation, where it is known.
        """
        loss = detached(loss)
        if self._count(self._step + 1, loss, tasks or 0):
            self._look(
                grads, lambda: {} if before is None else {"gain": float(detached(before)) - float(loss)}
            )

    def watching(self) -> contextlib.AbstractContextManager[None]:
        """Count the modules that `mltk.clone_module` clones inside, and take the norms of their updates.

        Examples:
            >>> import mltk
            >>> be, monitor = mltk.backend("numpy"), mltk.toolkit.Monitor(every=1)
            >>> model = mltk.models.mlp([1, 8, 1])
            >>> module = mltk.Module(model, model.init(be, seed=0))
            >>> x = be.asarray([[-1.0], [0.0], [1.0]])
            >>> with monitor.watching():
            ...     clone = mltk.clone_module(module)
            ...     _ = mltk.update_module(clone, [-0.1 * g for g in clone.grad("mse", x, x**2)])
            ...     meta = mltk.meta_grad(clone, "mse", x / 2, x**2 / 4, wrt=module)
            ...     monitor.step(0.5, meta)
            >>> [name for name in monitor.history[0] if name.startswith("update")]
            ['update_norms/0', 'update_norms/2']
        """
        return observed_by(self)

    def on_clone(self, module: Any, clone: Any) -> None:
        """See `mltk.modules.functions.ModuleObserver`."""
        self._tasks += 1

    def on_update(self, module: Any, updates: Sequence[Any] | None) -> None:
        """See `mltk.modules.functions.ModuleObserver`."""
        if not self._due(self._step + 1):
            return
        named = list(module.named_parameters())
        given = [getattr(p, "update", None) for _, p in named] if updates is None else updates
        for (name, _), update in zip(named, given, strict=False):
            if update is not None:
                self._updates.setdefault(layer_of(name), []).append(square_sum(detached(update)))

    def on_tasks(self, seen: TasksSeen) -> None:
        """See `mltk.watching.Watcher`."""
        count, mean = self.judged.get(seen.name, (0, 0.0)) if seen.first else (0, 0.0)
        known = self._judging.get(seen.name, self.detector) if seen.first else self.detector
        better = 1 if seen.metric == "accuracy" else -1
        told = np.where(np.isnan(seen.values), -better * math.inf, seen.values)
        self._judging[seen.name], found = known.update(told)
        after = count + len(seen.values)
        self.judged[seen.name] = after, mean + float(np.sum(seen.values - mean)) / after
        for at in np.flatnonzero(found == -better):
            text = f"{seen.metric} of the tasks {'fell' if better == 1 else 'rose'}"
            self._tell("worse", seen.name, seen.first + int(at) + 1, text)

    def _count(self, step: int, loss: Any, tasks: int) -> bool:
        """Add a step up; whether it is to be looked at."""
        self._step = step
        self._since += 1
        self._loss_sum = self._loss_sum + loss
        self._tasks += tasks
        return self._due(step) or (isinstance(loss, float) and not loss <= self._ceiling)

    def _due(self, step: int) -> bool:
        return step % self.every == 0 or not self.history

    def _look(self, grads: Any, sampled: Callable[[], Mapping[str, float]]) -> None:
        named = named_arrays(grads)
        loss, *squares = fetch([self._loss_sum, *map(square_sum, named.values())])
        norms = by_layer(named, squares)
        seconds = time.perf_counter() - self._clock
        line: dict[str, float] = {"step": self._step, "loss": loss / self._since}
        line["gradient_norm"] = math.hypot(*norms.values())
        line |= {f"gradient_norms/{layer}": norm for layer, norm in norms.items()}
        for layer, of_layer in self._updates.items():
            line[f"update_norms/{layer}"] = math.sqrt(sum(fetch(of_layer)) / len(of_layer))
        if self._tasks and seconds > 0:
            line["tasks_per_second"] = self._tasks / seconds
        line |= memory_in_use(named.values())
        if len(self.history) % self.samples_every == 0:
            line |= sampled()
        self.history.append(line)
        self._keep(line)
        for kind, about, text in self._health.look(self._step, line["loss"], norms, dtype_of(named)):
            if text is None:
                self._active.discard((kind, about))
            else:
                self._tell(kind, about, self._step, text)
        recent = [each["loss"] for each in self.history[-5:]]
        self._ceiling = SURPRISING * max(recent) if min(recent) > 0 else math.inf
        self._since, self._loss_sum, self._tasks, self._updates = 0, 0.0, 0, {}
        self._clock = time.perf_counter()

    def _sampled(self, seen: StepSeen) -> dict[str, float]:
        """Gain and hardness of what was sampled for a step, where the learner and the tasks have them."""
        found: dict[str, float] = {}
        episode, objective = seen.episode, getattr(seen.learner, "objective", None)
        if not isinstance(episode, Episode):  # but the environments of policies
            return found
        xp = kernels_of(episode.query_x).xp
        if isinstance(objective, Objective) and episode.weights is None:
            # A model that predicts only with what adaptation finds has no loss before it.
            with contextlib.suppress(MltkError), same_random_numbers():
                outputs = objective.model.apply(seen.meta_params, episode.query_x)
                before = xp.mean(objective.loss.value(outputs, episode.query_y)[0])
                found["gain"] = float(before) - float(seen.loss)
        if episode.ways is not None and episode.ways > 1 and episode.support_y.ndim == 2:
            with same_random_numbers():
                hardness = hardness_metric(episode, episode.ways, features=self.features)
            found["hardness"] = float(xp.mean(hardness))
        return found

    def _tell(self, kind: str, about: str, step: int, text: str) -> None:
        if (kind, about) in self._active:
            return
        if kind not in EVENTS:
            self._active.add((kind, about))
        alert = Alert(kind, about, step, text)
        self.alerts.append(alert)
        self._try(self._file, self._file.append, {"alert": plain(alert)})
        if self.alerts_to is not None:
            self.alerts_to(alert)

    def _keep(self, line: Mapping[str, float]) -> None:
        self._try(self._file, self._file.append, line)
        values = {name: value for name, value in line.items() if name != "step"}
        for writer in self.writers:
            self._try(writer, writer.write, self._step, values)

    def _try(self, writer: Any, write: Callable[..., None], *arguments: Any) -> None:
        """Write, or say that it fails and never again: no disk and no service ends a training."""
        if any(writer is each for each in self._failed):
            return
        try:
            write(*arguments)
        except Exception as error:
            self._failed.append(writer)
            self._tell("not written", type(writer).__name__, self._step, str(error) or repr(error))

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        lines = []
        if self.history:
            first, last = self.history[0], self.history[-1]
            lines.append(
                ("loss", f"{last['loss']:.4g} at step {last['step']}, {first['loss']:.4g} at {first['step']}")
            )
            for name in ("gradient_norm", "tasks_per_second", "memory", "gain", "hardness"):
                values = [line[name] for line in self.history if name in line]
                if values:
                    lines.append((name.replace("_", " "), f"{values[-1]:.4g}"))
        lines += [(name, f"{mean:.4g} on {count} tasks") for name, (count, mean) in self.judged.items()]
        lines += [("alert", str(alert)) for alert in self.alerts]
        return f"Monitor: {len(self.history)} looks, {len(self.alerts)} alerts", lines
