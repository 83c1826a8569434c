"""All measures of the tasks of an episode, each with what it needs to know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mltk.checks import check_has
from mltk.episode import Episode
from mltk.errors import SettingError
from mltk.normalization import modes, support_statistics
from mltk.plain import plain
from mltk.summary import Lines, Summary
from mltk.task_analysis.class_means import class_means, loss_gradient
from mltk.task_analysis.confidence import mean_confidence
from mltk.task_analysis.features import Features, embedded, model_and_params
from mltk.task_analysis.gradient_alignment import gradient_alignment
from mltk.task_analysis.hardness import check_classification, hardness_metric
from mltk.task_analysis.leave_one_out import leave_one_out_nearest, leave_one_out_ridge
from mltk.task_analysis.separation import fisher_ratio, nc1
from mltk.task_analysis.similarity import matching_similarity
from mltk.task_analysis.task2vec import task2vec
from mltk.task_analysis.transferability import h_score, leep, logme, nce, transrate
from mltk.tree import Array, Tree

if TYPE_CHECKING:
    from mltk.contracts import Learner

SUPPORT, INPUTS, LABELS = NEEDS = "support", "query inputs", "query labels"
"""What a measure needs; what comes later includes what comes first."""

OF_FEATURES: dict[str, Callable[..., Array]] = {
    "h_score": h_score,
    "transrate": transrate,
    "logme": logme,
    "fisher_ratio": fisher_ratio,
    "nc1": nc1,
    "leave_one_out_ridge": leave_one_out_ridge,
    "leave_one_out_nearest": leave_one_out_nearest,
    "leep": leep,
    "nce": nce,
}
"""Those that take features and labels."""


@dataclass(frozen=True, repr=False)
class Measures(Summary, Mapping[str, np.ndarray]):
    """What is measured of the tasks of an episode, by name.

    Attributes:
        arrays: Each measure's value for each task, ``(T,)`` in float64.
        needs: What each measure needs: ``"support"``, ``"query inputs"`` or ``"query labels"``.

    Examples:
        >>> import mltk
        >>> tasks = mltk.data.Blobs(ways=5, shots=2, queries=5, separation=4)
        >>> found = mltk.task_analysis.measures(tasks.sample(20, 0, mltk.backend("numpy")))
        >>> found["hardness"].shape, found.needs["hardness"]
        ((20,), 'query labels')
        >>> "hardness" in found.without_query_labels()
        False
    """

    arrays: Mapping[str, np.ndarray]
    needs: Mapping[str, str]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    @staticmethod
    def joined(parts: Sequence[Measures]) -> Measures:
        """The measures of several episodes as those of one: those that all of them have.

        Raises:
            SettingError: If there are none.
        """
        if not isinstance(parts, Sequence) or not parts or not all(isinstance(p, Measures) for p in parts):
            raise SettingError(f"parts is {parts!r}; expected the measures of at least one episode")
        names = [name for name in parts[0] if all(name in part for part in parts)]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in names}
        return Measures(arrays, {name: parts[0].needs[name] for name in names})

    def without_query_labels(self) -> Measures:
        """The measures that are known before the labels of the queries are."""
        return self._needing(SUPPORT, INPUTS)

    def of_support_alone(self) -> Measures:
        """The measures that are known before any query is."""
        return self._needing(SUPPORT)

    def take(self, tasks: np.ndarray | slice) -> Measures:
        """Those of some of the tasks.

        Args:
            tasks: Their numbers, or whether each is one of them.
        """
        return Measures({name: values[tasks] for name, values in self.arrays.items()}, self.needs)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Each measure's ``"needs"`` and ``"values"``, as lists for JSON; what is not finite is ``None``."""
        return {
            name: {"needs": self.needs[name], "values": plain(values)} for name, values in self.arrays.items()
        }

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`: mean and range over the tasks, and what the measure needs."""
        tasks = len(next(iter(self.arrays.values()), ()))
        lines = []
        for name, values in self.arrays.items():
            known = values[np.isfinite(values)]
            text = "not finite"
            if known.size:
                text = f"{known.mean():10.4g}  {known.min():10.4g} to {known.max():10.4g}"
            missing = f", {values.size - known.size} not finite" if 0 < known.size < values.size else ""
            lines.append((name, f"{text:36}  needs the {self.needs[name]}{missing}"))
        return f"Measures of {tasks} task{'s' * (tasks != 1)}: mean, range", lines

    def _needing(self, *needs: str) -> Measures:
        kept = [name for name in self.arrays if self.needs[name] in needs]
        return Measures({name: self.arrays[name] for name in kept}, {name: self.needs[name] for name in kept})


def measures(
    episode: Episode,
    embedding: Features = None,
    *,
    learner: tuple[Learner, Tree] | None = None,
    gradients: bool = True,
) -> Measures:
    """Measure the tasks of an episode.

    Args:
        episode: Tasks of classification.
        embedding: Where features come from: a pair of a model and its parameters, which may be the
            meta-parameters of a learner with this model; a function from inputs ``(T, N, *features)`` to
            vectors ``(T, N, d)``; or ``None`` for the inputs, flattened. Gradients are measured of a pair
            with parameters alone, and Task2Vec where its batch norms do not take the statistics of the
            current set. LEEP and NCE read the features as logits of source classes.
        learner: A learner and its meta-parameters, whose confidence is measured; ``None`` for that of the
            classifier by class means on the features.
        gradients: Whether to measure gradients, too, which takes far longer than all else.

    Returns:
        Values of each task, and what each measure needs. Those of gradients between tasks are means over the
        other tasks of the episode. ``"assumed_hardness"`` is the hardness if each query were what the learner
        takes it for, which is known without its label.

    Raises:
        SettingError: If the episode is regression, or an argument is not of its kind.
        MltkError: If the episode is not valid, or embedding or learner do not fit it.
    """
    check_classification(episode)
    support, query = embedded(episode, embedding)
    backend, ways, labels = episode.backend, episode.ways or 0, episode.support_y
    tasks, examples = episode.support_x.shape[:2]
    constant = np.ones(tasks)

    def again(x: Array) -> Array:  # what is embedded already
        return support if x is episode.support_x else query

    logits = _logits(episode, support, query, learner)
    assumed = backend.xp.argmax(logits[..., :ways], axis=-1)
    found: dict[str, tuple[str, Any]] = {
        "ways": (SUPPORT, ways * constant),
        "shots": (SUPPORT, examples / ways * constant),
        "confidence": (INPUTS, mean_confidence(logits)),
        "matching_similarity": (INPUTS, matching_similarity(support, query)),
        "assumed_hardness": (
            INPUTS,
            hardness_metric(replace(episode, query_y=assumed), ways, features=again),
        ),
        "hardness": (LABELS, hardness_metric(episode, ways, features=again)),
    }
    for name, measure in OF_FEATURES.items():
        found[name] = (SUPPORT, measure(support, labels, ways=ways))
    everything = (backend.xp.concat(pair, axis=1) for pair in ((support, query), (labels, episode.query_y)))
    found["fisher_ratio_with_queries"] = (LABELS, fisher_ratio(*everything, ways=ways))
    if gradients and isinstance(embedding, tuple) and embedding[0].shapes:
        found |= _of_gradients(episode, embedding, support)
    return Measures(
        {
            name: np.asarray(value if isinstance(value, np.ndarray) else backend.to_numpy(value), np.float64)
            for name, (_, value) in found.items()
        },
        {name: needs for name, (needs, _) in found.items()},
    )


def _logits(episode: Episode, support: Array, query: Array, learner: tuple[Learner, Tree] | None) -> Array:
    """The logits of the queries, by the learner or by class means."""
    if learner is None:
        return class_means(support, episode.support_y, episode.ways or 0).predict(query)
    if not isinstance(learner, tuple) or len(learner) != 2:
        raise SettingError(f"learner is {learner!r}; expected a pair (learner, meta_params)")
    algorithm, meta_params = learner
    check_has("the learner of learner", algorithm, "predict", "mltk.algorithms.MAML(...)")
    state = algorithm.adapt(meta_params, episode.support_x, episode.support_y)
    return algorithm.predict(state, episode.query_x)


def _of_gradients(episode: Episode, embedding: Any, support: Array) -> dict[str, tuple[str, Array]]:
    """What gradients of the embedding tell of each task, and what that needs."""
    model, params = model_and_params(episode, embedding)
    own = support_statistics(model, params, episode.support_x)
    classifier = class_means(support, episode.support_y, episode.ways or 0)
    gradients = [
        loss_gradient(episode.backend.engine, model, own, classifier, x, y)
        for x, y in ((episode.support_x, episode.support_y), (episode.query_x, episode.query_y))
    ]
    within, between = gradient_alignment(*gradients)
    xp, tasks = episode.backend.xp, between.shape[0]
    found = {"gradient_alignment": (LABELS, within)}
    if tasks > 1:
        others = xp.sum(between, axis=-1) - xp.linalg.diagonal(between)
        found["gradient_alignment_between"] = (SUPPORT, others / (tasks - 1))
    if "batch" not in modes(model):
        found["task2vec_norm"] = (SUPPORT, xp.sum(task2vec(episode, embedding), axis=-1))
    return found
