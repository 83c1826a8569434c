r"""Knowledge transfer: what was learned of earlier tasks is where a similar one starts.

For each remembered task $j$ the memory holds a key $k_j$ and the parameters $\phi_j$ that the learner adapted
to. A new task with the key $k$ may start from

$$\bar\phi = \sum_j w_j \phi_j, \qquad w_j \propto \exp \frac{s(k, k_j)}{\tau} \ \text{on the most similar},$$

instead of the meta-parameters $\theta$: see `mltk.toolkit.task_keys` for $k$ and $s$. Whether it does is
asked of its support set, of which each example is left out in turn: with the losses $l_i(\theta)$ and
$l_i(\bar\phi)$ on it after adaptation to the others, the task starts from $\bar\phi$ if the mean of
$d_i = l_i(\theta) - l_i(\bar\phi)$ exceeds so many of its standard errors $\hat\sigma(d) / \sqrt N$. What is
left out has no part in the choice of the neighbours, either.

Few examples foresee little of what lies beyond them. So a task must also be familiar: as like the most
similar of the remembered tasks as those are to each other, but for a small share of them. A task of their own
kind is refused with a probability of about that share.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np

from mltk import tree
from mltk.arguments import check_params
from mltk.backend import backend_of, check_same
from mltk.checks import Checked, Count, NonNegative, Part, Positive, Several, check_choice, check_count, has
from mltk.contracts import Backend, Layered, Learner
from mltk.episode import Episode, check_support
from mltk.errors import RunError, SettingError, ShapeError, TreeError, UnsupportedError
from mltk.files import AnyPath
from mltk.ops.kernels import kernels_of
from mltk.optim.transforms.granularity import along_tasks
from mltk.summary import Lines, Summary, tree_in_words
from mltk.toolkit.recalled import Recalled
from mltk.toolkit.support_folds import held_out_losses, support_folds
from mltk.toolkit.task_keys import KEYS, agreement, attention, displacement, mean_embedding, root_fisher
from mltk.toolkit.task_memory import Memory, read_memory
from mltk.tree import Array, Tree

Key: TypeAlias = str | Callable[[Array, Array], Array]
"""What tasks are recognised by: a name of `mltk.toolkit.task_keys.KEYS`, or a function from support sets to
vectors ``(T, d)``."""


@dataclass(eq=False, repr=False)
class KnowledgeTransfer(Checked, Summary):
    r"""A memory of adapted tasks that new ones start from; a learner itself: see `mltk.toolkit.transfer`.

    It takes any learner whose ``adapt`` returns a tree with leaves named like those of ``meta_params`` and a
    task axis, and takes such leaves in place of those without one: all of mltk's that adapt parameters by
    gradients (MAML, Meta-SGD, ANIL, BOIL, Reptile, implicit MAML, learned optimisers) do. What a learner
    adapts to support sets by heads alone starts from no parameters, and cannot be transferred.

    Labels mean other classes in another task. So the last layer of a classifier stays as the meta-parameters
    have it, unless ``keep`` says otherwise. A task with one example a class leaves nothing to judge a warm
    start by, and does without, unless ``caution`` is ``None``.

    Only `remember` and `load` change what is remembered.

    Attributes:
        learner: The learner.
        meta_params: Its meta-parameters.
        key: What tasks are recognised by: ``"adaptation"``, ``"fisher"``, ``"embedding"``, or a function from
            support sets to vectors ``(T, d)``.
        neighbours: How many remembered tasks a warm start is made of, at most.
        temperature: $\tau$: the smaller, the more the most similar count.
        caution: By how many standard errors the examples that are left out must be better off; ``None`` for a
            warm start in any case.
        novelty: A task is new, and does without a warm start, whose familiarity is at most this share.
        folds: Into how many parts a support set is divided to judge, at most; with as many as examples each
            is left out by itself.
        keep: Names of leaves, or prefixes of them, that are never transferred; ``None`` for the last layer
            of a classifier.
        capacity: How many tasks are remembered; the oldest are forgotten first.
        memory: What is remembered; ``None`` at first.

    Raises:
        SettingError: If a setting is not valid.

    Examples:
        >>> import mltk
        >>> tasks, be = mltk.data.Sinusoid(shots=10, queries=20), mltk.backend("numpy")
        >>> maml = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse")
        >>> run = mltk.train(maml, tasks, backend=be, steps=300)
        >>> transfer = mltk.toolkit.KnowledgeTransfer(maml, run.meta_params)
        >>> seen = tasks.sample(100, 0, be)
        >>> transfer.remember(seen.support_x, seen.support_y)
        100
        >>> cold = mltk.evaluate(maml, run.meta_params, tasks, episodes=100)
        >>> warm = mltk.evaluate(transfer, run.meta_params, tasks, episodes=100)
        >>> mltk.evaluation.compare(warm, cold).difference.high < 0
        True
    """

    learner: Annotated[Learner, has("adapt", "mltk.algorithms.MAML(...)")]
    meta_params: Tree
    _: KW_ONLY
    key: Key = "adaptation"
    neighbours: Count = 10
    temperature: Positive = 0.1
    caution: NonNegative | None = 1.0
    novelty: Part = 0.05
    folds: Several = 10
    keep: Collection[str] | None = None
    capacity: Count = 500
    memory: Memory | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not callable(self.key):
            check_choice("key", self.key, KEYS)
        if isinstance(self.keep, str) or not isinstance(self.keep, Collection | None):
            raise SettingError(f"keep is {self.keep!r}; expected a collection of names of leaves, or None")
        if not isinstance(self.meta_params, dict) or not tree.leaves(self.meta_params):
            raise TreeError("meta_params holds no array; expected those that the learner was trained to")
        self._backend = backend_of(self.meta_params)
        super().__post_init__()

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        key = self.key if isinstance(self.key, str) else getattr(self.key, "__name__", "a function")
        lines = [("learner", type(self.learner).__name__), ("key", key)]
        if self.memory is not None:
            lines.append(("a task", tree_in_words(tree.map(lambda leaf: leaf[0], self.memory.params))))
        guard = "none" if self.caution is None else f"{self.caution:g} standard errors"
        return f"KnowledgeTransfer: {self.size} of {self.capacity} tasks", [*lines, ("caution", guard)]

    def to_dict(self) -> dict[str, Any]:
        """The settings, and how many tasks are remembered."""
        names = ("neighbours", "temperature", "caution", "novelty", "folds", "capacity", "size")
        return {
            "learner": type(self.learner).__name__,
            "key": self._key_name,
            **{n: getattr(self, n) for n in names},
        }

    @property
    def size(self) -> int:
        """How many tasks are remembered."""
        return 0 if self.memory is None else int(self.memory.keys.shape[0])

    def remember(self, support_x: Array, support_y: Array, *, rounds: int = 10) -> int:
        """Adapt to tasks, and remember where that has led to.

        Args:
            support_x: Inputs ``(T, N, *features)``; more of them than new tasks will have do no harm.
            support_y: Labels ``(T, N)`` or values ``(T, N, d)``.
            rounds: How often the learner adapts, each time from where it has got to: of what is remembered
                there is more time to think than there is for a new task.

        Returns:
            How many tasks are remembered now; those whose adaptation has diverged are not.

        Raises:
            UnsupportedError: If the learner's adaptation gives no parameters, or cannot start from those of
                each task.
            MltkError: If the arguments do not fit each other or the learner.
        """
        check_count("rounds", rounds)
        self._check(support_x, support_y)
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges is not kept
            keys, params = self._keyed(self.meta_params, support_x, support_y)
            for _ in range(rounds - (params is not None)):
                start = self.meta_params if params is None else tree.merge(self.meta_params, params)
                params = self._moved(self._adapt(start, support_x, support_y), support_x, support_y)
        assert params is not None
        if self.memory is not None:
            self._check_keys(keys)
        self.memory = Memory(keys, params).finite(self._backend).behind(self.memory, self.capacity)
        return self.size

    def warm_start(self, support_x: Array, support_y: Array) -> Tree:
        """What tasks may start from: see `recall`, whose ``params`` these are."""
        return self.recall(support_x, support_y).params

    def recall(self, support_x: Array, support_y: Array) -> Recalled:
        """What is known of tasks from those that are remembered.

        Args:
            support_x: Inputs ``(T, N, *features)``.
            support_y: Labels ``(T, N)`` or values ``(T, N, d)``.

        Raises:
            MltkError: If the arguments do not fit each other or the learner.
        """
        self._check(support_x, support_y)
        return self._recall(self.meta_params, support_x, support_y)

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """The meta-parameters, on a backend; nothing is drawn."""
        own = self._backend
        return tree.map(lambda leaf: backend.asarray(own.to_numpy(leaf)), self.meta_params)

    def adapt(self, meta_params: Tree, support_x: Array, support_y: Array) -> Any:
        """What the learner adapts to from the warm start of each task.

        Args:
            meta_params: What tasks start from that use no warm start: those of the memory.
            support_x: Inputs ``(T, N, *features)``.
            support_y: Their targets.
        """
        self._check(support_x, support_y)
        start = self._recall(meta_params, support_x, support_y).params
        return self._adapt(start, support_x, support_y)

    def predict(self, state: Any, query_x: Array) -> Array:
        """What the learner predicts."""
        return self.learner.predict(state, query_x)

    def value_and_grad(self, meta_params: Tree, episode: Episode) -> tuple[Array, Tree]:
        """The learner's own: the memory takes no part in training."""
        return self.learner.value_and_grad(meta_params, episode)

    def save(self, path: AnyPath) -> None:
        """Write what is remembered to a file of arrays (npz, without pickle), in one go.

        Raises:
            RunError: If nothing is remembered, or the file cannot be written; a previous one is then intact.
        """
        if self.memory is None:
            raise RunError(f"{os.fspath(path)} is not written: nothing is remembered")
        self.memory.write(Path(path), self._key_name, self._backend)

    def load(self, path: AnyPath) -> int:
        """Remember what a file says, in place of what was remembered, and return how many tasks these are.

        Raises:
            RunError: If the file is missing, damaged, too large for ``capacity``, or of another learner or
                key.
        """
        known = self._key_name, self.capacity, self.meta_params, self._backend
        self.memory = read_memory(Path(path), *known)
        return self.size

    @property
    def _key_name(self) -> str:
        return self.key if isinstance(self.key, str) else "a function"

    def _check(self, support_x: Array, support_y: Array) -> None:
        check_same(self._backend, support_x=[support_x], support_y=[support_y])
        check_support(self._backend, support_x, support_y, None, wait=False)

    def _recall(self, base: Tree, x: Array, y: Array) -> Recalled:
        xp, tasks = kernels_of(x).xp, x.shape[0]
        nothing = xp.full((tasks,), math.nan, dtype=x.dtype, device=x.device)
        never = nothing > 0
        if self.memory is None:
            none = xp.zeros((tasks, 0), dtype=x.dtype, device=x.device)
            return Recalled(base, none, none, nothing, nothing, never)
        similarity, weights, warm = self._warm(base, x, y)
        alike = xp.max(similarity, axis=1)[:, None] >= self.memory.likeness
        familiarity = xp.mean(xp.astype(alike, similarity.dtype), axis=1)
        gain, used = nothing, ~never
        if self.caution is not None:
            folds = support_folds(y, self.folds)
            with np.errstate(over="ignore", invalid="ignore"):  # what diverges is not used
                gain, used = (nothing, never) if folds is None else self._judged(base, x, y, folds)
            used = used & (familiarity > self.novelty)
        chosen = tree.map(lambda leaf, own: xp.where(along_tasks(used, leaf), leaf, own), warm, base)
        return Recalled(tree.merge(base, chosen), similarity, weights, familiarity, gain, used)

    def _warm(self, base: Tree, x: Array, y: Array) -> tuple[Array, Array, Tree]:
        """The similarities and weights of what is remembered, and the leaves of a warm start."""
        assert self.memory is not None
        xp, tasks = kernels_of(x).xp, x.shape[0]
        keys, _ = self._keyed(base, x, y)
        self._check_keys(keys)
        similarity = agreement(keys, self.memory.keys)
        weights = attention(similarity, self.neighbours, self.temperature)

        def mixed(leaf: Array) -> Array:
            rows = weights @ xp.reshape(leaf, (leaf.shape[0], -1))
            return xp.reshape(rows, (tasks, *leaf.shape[1:]))

        return similarity, weights, tree.map(mixed, self.memory.params)

    def _judged(self, base: Tree, x: Array, y: Array, folds: np.ndarray) -> tuple[Array, Array]:
        """The gain on examples that are left out, and for which tasks it is large enough.

        What is left out is not asked which of the remembered tasks are similar, either.
        """
        xp = kernels_of(x).xp

        def cold_start(x: Array, y: Array) -> Any:
            return self.learner.adapt(base, x, y)

        def warm_start(x: Array, y: Array) -> Any:
            return self._adapt(tree.merge(base, self._warm(base, x, y)[2]), x, y)

        cold, hot = (held_out_losses(self.learner, way, x, y, folds) for way in (cold_start, warm_start))
        finite = xp.isfinite(cold) & xp.isfinite(hot)
        difference = xp.where(finite, cold, 0.0) - xp.where(finite, hot, 0.0)
        gain = xp.mean(difference, axis=1)
        error = xp.std(difference, axis=1, correction=1) / math.sqrt(difference.shape[1])
        better = (gain > (self.caution or 0.0) * error) & xp.all(xp.isfinite(hot), axis=1)
        saved = xp.all(xp.isfinite(hot), axis=1) & ~xp.all(xp.isfinite(cold), axis=1)
        return gain, better | saved

    def _keyed(self, base: Tree, x: Array, y: Array) -> tuple[Array, Tree | None]:
        """The keys of tasks, and what was adapted to them if that was needed."""
        if callable(self.key):
            keys = self.key(x, y)
            check_same(self._backend, key=[keys])
            if keys.ndim != 2 or keys.shape[0] != x.shape[0]:
                raise ShapeError(f"key gives shape {tuple(keys.shape)}; expected ({x.shape[0]}, d)")
            return keys, None
        if self.key == "embedding":
            return mean_embedding(self.learner, base, x, y), None
        state = self.learner.adapt(base, x, y)
        moved = self._moved(state, x, y)
        if self.key == "adaptation":
            return displacement(moved, base), moved
        return root_fisher(self.learner, state, x, y, tree.flatten(moved)), moved

    def _check_keys(self, keys: Array) -> None:
        assert self.memory is not None
        if keys.shape[1] != self.memory.keys.shape[1]:
            expected = self.memory.keys.shape[1]
            raise ShapeError(f"key gives {keys.shape[1]} numbers a task; expected {expected} as remembered")

    def _adapt(self, start: Tree, x: Array, y: Array) -> Any:
        """The learner's adaptation from parameters of each task, or an error that says what it needs."""
        try:
            state = self.learner.adapt(start, x, y)
        except Exception as error:
            raise UnsupportedError(
                f"{type(self.learner).__name__}.adapt failed from parameters of each task: {error!r}; "
                "expected that it takes meta_params whose leaves have a task axis (T, ...) in front"
            ) from error
        self._moved(state, x, y)
        return state

    def _moved(self, state: Any, x: Array, y: Array) -> Tree:
        """The part of an adapted state that is transferred, with a task axis."""
        name = type(self.learner).__name__
        flat = tree.flatten(state) if isinstance(state, dict) else {}
        known = {n: tuple(leaf.shape) for n, leaf in tree.flatten(self.meta_params).items()}
        held = {n: leaf for n, leaf in flat.items() if n in known and tuple(leaf.shape) != known[n]}
        if not held:
            raise UnsupportedError(
                f"{name}.adapt moves none of the meta-parameters; expected a tree with leaves named like "
                "theirs that have a task axis (T, ...) in front"
            )
        kept = self._kept(y)
        moved = {n: leaf for n, leaf in held.items() if not any(f"{n}.".startswith(f"{k}.") for k in kept)}
        if not moved:
            raise UnsupportedError(
                f"{name}.adapt moves {', '.join(held)} alone, which keep leaves out; expected more"
            )
        shapes = {n: (x.shape[0], *known[n]) for n in moved}
        check_params(f"what {name}.adapt returns", tree.unflatten(moved), shapes, self._backend)
        return tree.unflatten(moved)

    def _kept(self, y: Array) -> Collection[str]:
        """The leaves that are not transferred."""
        if self.keep is not None:
            return self.keep
        model = getattr(self.learner, "model", None)
        labels = kernels_of(y).xp.isdtype(y.dtype, "integral")
        return model.last_layer() if labels and isinstance(model, Layered) else ()
