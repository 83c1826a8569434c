"""How well a meta-learner does on unseen tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np

from mltk import tree
from mltk.backend import backend_of, check_backend
from mltk.checks import Count, CountOrZero, check_has, checked
from mltk.contracts import Backend
from mltk.data.source import Tasks, TaskSource
from mltk.episode import IDENTITIES, Episode
from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.evaluation.blocks import BLOCK, batches, blocks, stretches, wanted
from mltk.evaluation.in_processes import in_processes
from mltk.evaluation.result import Evaluation
from mltk.evaluation.transductive import of_first_tasks
from mltk.tree import Tree
from mltk.watching import TasksSeen, Watch, watchers

if TYPE_CHECKING:
    from mltk.contracts import Learner

Part = TypeVar("Part")


@checked
def evaluate(
    algorithm: Learner,
    meta_params: Tree | Sequence[Tree],
    tasks: Tasks,
    *,
    episodes: Count,
    seed: CountOrZero = 0,
    backend: Backend | None = None,
    batch: Count = BLOCK,
    workers: Count | None = None,
    watch: Watch = (),
) -> Evaluation:
    """Adapt to unseen tasks and measure the predictions for their queries.

    Tasks are drawn in blocks of 20, block ``b`` from ``numpy.random.SeedSequence(seed, spawn_key=(1, b))``.
    So ``batch`` does not change the tasks, the first tasks of a longer evaluation are those of a shorter one,
    and two algorithms that are evaluated with one seed meet the same tasks. Blocks may differ in ways, shots
    and queries: only those that agree are joined.

    Whether predictions are transductive is found out on the first two tasks, one by one, after all others
    have been judged: see `mltk.evaluation.is_transductive`. Where that fails, the evaluation says that it is
    unknown.

    Every task counts alike: `Episode.weights` are for training.

    The values of the tasks are checked before anything is adapted to them: on a device those of labels and
    targets alone, which are small, since predictions are fetched all the same.

    Args:
        algorithm: A meta-learner; only ``adapt`` and ``predict`` are used.
        meta_params: Its meta-parameters; or those of several runs, which differ in their seed, as a list: all
            of them meet the same tasks, and the values are means over the runs.
        tasks: Where tasks come from.
        episodes: How many tasks.
        seed: Seed of the tasks; none of them is drawn by `mltk.train`, whatever its seed.
        backend: Where to compute; ``None`` for the backend of the meta-parameters.
        batch: Tasks that are adapted to at once: fewer take less memory, more are often faster.
        workers: How many processes share the tasks, with one thread each; ``None`` for this process alone.
            The result does not depend on how many: see `mltk.evaluation.in_processes`, also for what it asks
            of learners and tasks of one's own. Their start takes seconds.
        watch: Told of each batch of tasks: see `mltk.watching.Watcher`; the values are means over the runs.

    Returns:
        The accuracy for classification, the mean squared error for regression.

    Raises:
        SettingError: If a setting is not valid.
        ShapeError: If the predictions know fewer classes than the tasks have, or the source draws another
            number of tasks than it is asked for.
        NotFiniteError: If the tasks, or the predictions for one of them, hold NaN or infinity.
        LabelError: If a label lies outside ``0..ways-1``, or a class has no support example.
        RunError: If a worker process ends.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.MAML(mltk.models.mlp([1, 20, 1]), "mse")
        >>> params = learner.init(mltk.backend("numpy"), seed=0)
        >>> evaluation = mltk.evaluate(learner, params, mltk.data.Sinusoid(shots=5, queries=5), episodes=50)
        >>> evaluation.metric, evaluation.values.shape, evaluation.transductive
        ('mse', (50,), False)
    """
    if hasattr(algorithm, "returns"):
        raise SettingError(
            f"algorithm is {type(algorithm).__name__}, which learns policies; expected a learner of examples "
            "(mltk.evaluation.returns judges policies)"
        )
    check_has("algorithm", algorithm, "predict", "mltk.algorithms.MAML(...)")
    told = watchers(watch)
    runs, backend = of_runs(meta_params, backend)
    drawn = wanted(blocks(tasks, episodes, seed, backend), episodes)
    first = next(drawn)
    how: Any = {"algorithm": algorithm, "meta_params": runs, "batch": batch, "regression": first.ways is None}
    of: Any = {"tasks": tasks, "episodes": episodes, "seed": seed, "backend": backend}
    parts: list[Judged] = []
    name, done = ("mse" if first.ways is None else "accuracy"), 0
    for part in in_parts(judged, chain([first], drawn), workers, **of, **how):
        parts.append(part)
        values = part.by_run.mean(axis=0)
        for watcher in told:
            who = (type(algorithm).__name__, algorithm, tasks, seed, "tasks")
            what: Any = {"seconds": part.seconds, **identities([part], tasks)}
            watcher.on_tasks(TasksSeen(*who, done, name, values, **what))
        done += len(values)
    transductive = of_first_tasks(algorithm, runs[0], first, backend=backend)
    by_run = np.concatenate([part.by_run for part in parts], axis=1)
    several = by_run if len(runs) > 1 else None
    of = identities(parts, tasks)
    return Evaluation(name, by_run.mean(axis=0), transductive, by_run=several, **of)


def of_runs(meta_params: Tree | Sequence[Tree], backend: Backend | None) -> tuple[list[Tree], Backend]:
    """The meta-parameters of each run, and where to compute.

    Args:
        meta_params: Those of one run, or a list of those of several.
        backend: ``None`` for that of the first.

    Raises:
        SettingError: If there are none, or nothing tells the backend.
    """
    runs = list(meta_params) if isinstance(meta_params, list | tuple) else [cast("Tree", meta_params)]
    if not runs:
        raise SettingError("meta_params is an empty list; expected the meta-parameters of at least one run")
    if backend is None:
        if isinstance(runs[0], dict) and not tree.leaves(runs[0]):
            raise SettingError("backend is None, and meta_params holds no array to tell; expected a backend")
        backend = backend_of(runs[0])
    check_backend(backend)
    return runs, backend


class Judged(NamedTuple):
    """What is kept of a batch of tasks.

    Attributes:
        by_run: The metric of each task for each run, ``(R, T)``.
        classes: Those of the tasks, ``(T, ways)``, or ``None``.
        groups: Likewise.
        seconds: A task and run, to adapt and predict, where somebody has taken the time.
    """

    by_run: np.ndarray
    classes: np.ndarray | None
    groups: np.ndarray | None
    seconds: float | None = None


def judged(
    drawn: Iterator[Episode],
    *,
    algorithm: Learner,
    meta_params: Sequence[Tree],
    batch: int,
    regression: bool,
    done: int = 0,
) -> Iterator[Judged]:
    """Batch by batch, the metric of each task for each run.

    Args:
        drawn: Blocks of tasks.
        algorithm: A meta-learner.
        meta_params: Those of each run.
        batch: Tasks that are adapted to at once.
        regression: Whether all tasks must be of regression, or of classification.
        done: How many tasks came before these.

    Raises:
        MltkError: As `evaluate`.
    """
    for episode in batches(drawn, batch):
        episode.check_values(fetch_targets=True)
        if (episode.ways is None) != regression:
            raise SettingError("tasks draws both classification and regression; expected one of them")
        names = [f"task {done + task}" for task in range(episode.support_x.shape[0])]
        start = time.perf_counter()
        outputs = [predictions(algorithm, run, episode, names) for run in meta_params]
        seconds = (time.perf_counter() - start) / (len(names) * len(outputs))
        by_run = np.stack([metric(episode, each) for each in outputs])
        yield Judged(by_run, episode.classes, episode.groups, seconds)
        done += len(names)


def in_parts(
    judge: Callable[..., Iterator[Part]],
    drawn: Iterator[Episode],
    workers: int | None,
    *,
    tasks: TaskSource,
    episodes: int,
    seed: int,
    backend: Backend,
    **how: Any,
) -> Iterator[Part]:
    """What is kept of all batches of tasks, in order.

    Args:
        judge: A function of a module, such as `judged`: gives something for each batch.
        drawn: The blocks of tasks, which the processes draw anew.
        workers: How many processes share the tasks; ``None`` for this one alone.
        tasks: Where they come from.
        episodes: How many.
        seed: Of the tasks.
        backend: Where to compute.
        **how: What else ``judge`` is called with, among it ``batch``.
    """
    if workers is None:
        return judge(drawn, **how)
    how |= {"judge": judge, "tasks": tasks, "seed": seed, "backend": backend}
    return chain.from_iterable(in_processes(_stretch, stretches(episodes, how["batch"]), workers, **how))


def _stretch(
    stretch: tuple[int, int],
    *,
    judge: Callable[..., Iterator[Part]],
    tasks: TaskSource,
    seed: int,
    backend: Backend,
    **how: Any,
) -> list[Part]:
    """What is kept of the tasks from ``start`` to ``stop``, in a process of its own."""
    start, stop = stretch
    drawn = blocks(tasks, stop, seed, backend, first=start // BLOCK)
    return list(judge(wanted(drawn, stop - start), **how, done=start))


def metric(episode: Episode, outputs: np.ndarray) -> np.ndarray:
    """The accuracy of each task ``(T,)``, or for regression its mean squared error.

    Args:
        episode: The tasks.
        outputs: What was predicted for their queries, as by `predictions`.

    Raises:
        ShapeError: If the predictions do not fit the targets.
    """
    found = by_query(episode, outputs)
    return np.asarray(np.mean(found, axis=tuple(range(1, found.ndim))))


def by_query(episode: Episode, outputs: np.ndarray) -> np.ndarray:
    """What `metric` is the mean of: whether each label was predicted, or squared errors, like ``query_y``.

    Args:
        episode: As for `metric`.
        outputs: Likewise.

    Raises:
        ShapeError: If the predictions do not fit the targets.
    """
    targets = episode.backend.to_numpy(episode.query_y)
    if episode.ways is None:
        if outputs.shape != targets.shape:
            raise ShapeError(
                f"the predictions have shape {outputs.shape}; expected {targets.shape} as query_y"
            )
        return np.asarray((outputs - targets) ** 2)
    if outputs.shape[:2] + outputs.shape[3:] != targets.shape:
        expected = (*targets.shape[:2], "ways", *targets.shape[2:])
        raise ShapeError(f"the predictions have shape {outputs.shape}; expected {expected}")
    return np.asarray(np.argmax(outputs, axis=2) == targets)


def identities(parts: Sequence[Any], tasks: TaskSource) -> dict[str, np.ndarray | None]:
    """The classes and groups of all tasks, -1 where one has fewer ways; ``None`` if some are unknown.

    An image that was turned is of the class that it was: easy characters are easy turned, too.
    """
    found = {name: _numbers([getattr(part, name) for part in parts]) for name in IDENTITIES}
    distinct = getattr(tasks, "distinct_classes", None)
    if found["classes"] is not None and distinct is not None:
        found["classes"] = np.where(found["classes"] < 0, -1, found["classes"] % distinct)
    return found


def _numbers(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    ways = max(part.shape[1] for part in known)
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, ways - part.shape[1])), constant_values=-1) for part in known]
    )


def predictions(algorithm: Learner, meta_params: Tree, episode: Episode, names: Iterable[str]) -> np.ndarray:
    """What a learner that has adapted to the support set of each task predicts for its queries, in float64.

    Args:
        algorithm: A meta-learner.
        meta_params: Its meta-parameters.
        episode: The tasks.
        names: What errors call the tasks, in order.

    Raises:
        ShapeError: If a class of a task has no output.
        NotFiniteError: If the predictions for a task hold NaN or infinity.
    """
    called = list(islice(names, episode.support_x.shape[0]))  # there may be no end of names
    return next(predictions_for(algorithm, meta_params, episode, called, ("query_x",)))


def predictions_for(
    algorithm: Learner, meta_params: Tree, episode: Episode, names: Sequence[str], inputs: Iterable[str]
) -> Iterator[np.ndarray]:
    """`predictions` for several sets, one by one, after adapting once.

    Args:
        algorithm: As for `predictions`, as are the others.
        meta_params: Its meta-parameters.
        episode: The tasks.
        names: What errors call them.
        inputs: ``"query_x"`` or ``"support_x"``.

    Raises:
        MltkError: As `predictions`.
    """
    own = type(algorithm).__module__.partition(".")[0] == "mltk"

    def arrays(*which: str) -> list[Any]:
        """Of others they are copies: a learner may write to them, and another one meets them, too."""
        found = [getattr(episode, name) for name in which]
        return found if own else [episode.backend.xp.asarray(array, copy=True) for array in found]

    state = algorithm.adapt(meta_params, *arrays("support_x", "support_y"))
    ways = episode.ways
    for each in inputs:
        outputs = episode.backend.to_numpy(algorithm.predict(state, *arrays(each))).astype(np.float64)
        if ways is not None and (outputs.ndim < 3 or outputs.shape[2] < ways):
            found = outputs.shape[2] if outputs.ndim > 2 else "no"
            raise ShapeError(
                f"the predictions have {found} outputs; expected at least {ways}, for as many ways"
            )
        finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
        if not finite.all():
            diverged = names[int(np.argmin(finite))]
            raise NotFiniteError(f"the predictions for {diverged} hold NaN or infinity: adapting diverged")
        yield outputs
