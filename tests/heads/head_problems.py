"""Heads at random points: their settings, the embeddings of an episode with its flaws, and a cotangent."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from hypothesis import strategies as st

from mltk import tree
from mltk.heads import (
    BayesianRidgeHead,
    FullContextMatchingHead,
    Head,
    LogisticHead,
    MatchingHead,
    PrototypicalHead,
    RidgeHead,
)
from mltk.heads.calibrated import CalibratedHead
from mltk.heads.evidence import largest_evidence
from mltk.heads.linear import LinearHead

FLAWS = ("", "zeros", "duplicates", "zeros duplicates", "constant")


@dataclass(frozen=True)
class Problem:
    """A head at a point, in NumPy.

    Attributes:
        scale: About how large the embeddings are.
        reg_lambda: The regulariser of a closed-form head.
    """

    head: Head
    p: dict
    support: np.ndarray
    target: np.ndarray
    query: np.ndarray
    gy: np.ndarray
    scale: float = 1.0
    reg_lambda: float = 1.0

    @property
    def labels(self):
        return self.target.argmax(-1)

    @property
    def ways(self):
        return self.gy.shape[-1]

    def run(self, backend):
        """The outputs and all cotangents by the engine of a backend, by name, in NumPy."""
        return self.results(backend.engine.head, backend.asarray, backend.to_numpy)

    def by_hand(self, convert=np.asarray, back=np.asarray):
        """The same by ``forward`` and ``vjp``, on the arrays that ``convert`` makes."""

        def forward_and_vjp(head, p, *arrays):
            outputs, residuals = head.forward(p, *arrays)
            return outputs, lambda gy: head.vjp(p, residuals, gy)

        return self.results(forward_and_vjp, convert, back)

    def results(self, run, convert, back):
        arrays = (convert(array) for array in (self.support, self.target, self.query))
        outputs, pullback = run(self.head, tree.map(convert, self.p), *arrays)
        gp, g_support, g_query = pullback(convert(self.gy))
        found = {"outputs": outputs, "support": g_support, "query": g_query, **tree.flatten(gp)}
        return {name: back(array) for name, array in found.items()}

    def one(self, task):
        """The problem of a single task."""
        own = slice(task, task + 1)

        def of(name, leaf):
            return leaf[own] if np.ndim(leaf) > len(self.head.shapes[name]) else leaf

        arrays = {name: getattr(self, name)[own] for name in ("support", "target", "query", "gy")}
        p = tree.unflatten({name: of(name, leaf) for name, leaf in tree.flatten(self.p).items()})
        return replace(self, p=p, **arrays)

    def moved(self, along, step):
        """Its support, query and parameters ``step`` along directions by name."""
        flat = {"support": self.support, "query": self.query, **tree.flatten(self.p)}
        flat = {name: array + step * along[name] for name, array in flat.items()}
        sets = {name: flat.pop(name) for name in ("support", "query")}
        return replace(self, p=tree.unflatten(flat), **sets)

    @property
    def precision(self):
        """1e-10, or rounding error times the condition number of a closed-form head's system."""
        return max(1e-10, 1e-14 * (1 + np.sum(self.support**2, axis=(1, 2)).max() / self.reg_lambda))

    def rounding(self):
        """How large an error of each result two derivations may differ by."""
        if isinstance(self.head, BayesianRidgeHead):
            least = largest_evidence(self.support, self.target)[0].min()
            return _of_closed_form(replace(self, reg_lambda=least))
        return (_of_closed_form if isinstance(self.head, LinearHead) else _of_metric)(self)


def _of_metric(problem):
    """Each cotangent is a difference of terms about so large."""
    size, scale = np.abs(problem.gy).max(), problem.scale
    squared = getattr(problem.head, "distance", None) == "sqeuclidean"
    outputs = scale**2 if squared else 1.0
    cotangent = size * (scale if squared else 1 / scale)
    parameters = dict.fromkeys(problem.head.shapes, size * outputs)
    sizes = {"outputs": outputs, "support": cotangent, "query": cotangent, **parameters}
    return {name: 1e-9 * size for name, size in sizes.items()}


def _of_closed_form(problem):
    """The precision of the system, relative to how large each result may be."""
    lam, scale, size = problem.reg_lambda, problem.head.scale, problem.precision
    x, y, q, gy = (
        max(1, np.linalg.norm(a)) for a in (problem.support, problem.target, problem.query, problem.gy)
    )
    inverse = min(x / lam, 0.5 / np.sqrt(lam))  # the norm of (X'X + λ)⁻¹ X'
    gv = scale * gy * (q + x)
    return {
        "outputs": size * scale * (q + x) * (inverse + 1) * y,
        "query": size * scale * gy * inverse * y,
        "support": size * (y / lam + inverse**2 * y) * gv + size * gy * scale * inverse * y,
        "scale": size * gy * (q + x) * (inverse + 1) * y,
        "bias": size * gy,
        "log_lambda": size * (1 + inverse * y) * gv,
    }


# Each builder picks the settings of one head, for embeddings of some length and a regulariser.


def prototypical(pick, features, reg_lambda, distance):
    return PrototypicalHead(distance, pick(["learned", 0.7, 0.1]))


def matching(pick, features, reg_lambda):
    return MatchingHead(pick([1.0, 0.1]))


def full_context(pick, features, reg_lambda):
    return FullContextMatchingHead(features, pick([2, 1, 3]), pick([1.0, 3.0]))


def learned(pick, *names):
    """Which of its parameters a closed-form head learns: all, more often than not."""
    return {name: pick([True, True, False]) for name in ("learn_scale", "learn_bias", *names)}


def ridge(pick, features, reg_lambda, **options):
    return RidgeHead(reg_lambda, scale=1.7, **options, **learned(pick, "learn_lambda"))


def logistic(pick, features, reg_lambda):
    return LogisticHead(reg_lambda, scale=1.7, steps=pick([4, 1, 2, 3]), **learned(pick, "learn_lambda"))


def bayesian(pick, features, reg_lambda):
    return BayesianRidgeHead(scale=1.7, **learned(pick))


HEADS = {
    "prototypical": partial(prototypical, distance="sqeuclidean"),
    "prototypical, cosine": partial(prototypical, distance="cosine"),
    "matching": matching,
    "matching, full context": full_context,
    "ridge, Woodbury": partial(ridge, use_woodbury=True),
    "ridge, primal": partial(ridge, use_woodbury=False),
    "ridge, Woodbury, intercept": partial(ridge, use_woodbury=True, intercept=True),
    "ridge, primal, intercept": partial(ridge, use_woodbury=False, intercept=True),
    "logistic": logistic,
    "ridge, Bayesian": bayesian,
}
CLOSED_FORM = [kind for kind in HEADS if kind.startswith(("ridge", "logistic"))]
UNORDERED = [kind for kind in HEADS if kind != "matching, full context"]
"""Those to which the order of the support set does not matter."""


def first_of(kind, seed, *, features=4, reg_lambda=1.0, **options):
    """A problem of a kind with the first of its settings, always the same."""
    head = HEADS[kind](lambda choices: choices[0], features, reg_lambda)
    rng = np.random.default_rng(seed)
    return problem_of(head, rng, features=features, reg_lambda=reg_lambda, **options)


def problem_of(head, rng, *, tasks=2, ways=3, shots=2, queries=3, features=4, **options):
    """An episode for a head: each class has an example, the ``shots`` others are of any.

    Options:
        flaws: Some of `FLAWS`: zero vectors, an example twice and as a query, or all examples alike.
        scale: What embeddings are multiplied by.
        reg_lambda: The regulariser, for embeddings about one.
        values: Whether targets are numbers, and not classes.
        per_task: Whether the parameters differ between tasks.
        away: Whether no embedding is near zero, where a cosine bends.
    """
    flaws, scale = options.get("flaws", ""), options.get("scale", 1.0)
    labels = np.stack([rng.permutation([*range(ways), *rng.integers(0, ways, shots)]) for _ in range(tasks)])
    support = rng.normal(size=(*labels.shape, features))
    query = rng.normal(size=(tasks, queries, features))
    if options.get("away"):
        support, query = (x + 2 * np.sign(x + 0.5) for x in (support, query))
    if "constant" in flaws:
        support[...] = query[...] = rng.normal()
    if "duplicates" in flaws:
        support[:, -1] = query[:, -1] = support[:, 0]
    if "zeros" in flaws:
        support[:, labels.shape[1] // 2] = 0
        query[:, 0] = 0
    target = np.eye(ways)[labels]
    if options.get("values"):
        target = rng.normal(size=target.shape)
    lam = options.get("reg_lambda", 1.0)
    p = parameters(head, rng, lam, tasks if options.get("per_task") else None)
    gy = rng.normal(size=(tasks, queries, ways))
    return Problem(head, p, scale * support, target, scale * query, gy, scale, lam)


def parameters(head, rng, reg_lambda, tasks):
    """Parameters of a head, shared or for each task, and not those where learning starts."""
    if isinstance(head, CalibratedHead):
        own = {"scale": 1.2, "bias": -0.4, "log_lambda": np.log(reg_lambda)}
        flat = {name: np.asarray(own[name]) for name in head.shapes}
    else:
        flat = {name: np.asarray(leaf) for name, leaf in tree.flatten(head.init(rng)).items()}
    if tasks is not None:
        flat = {name: leaf + rng.uniform(0, 0.5, (tasks, *leaf.shape)) for name, leaf in flat.items()}
    return tree.unflatten(flat)


@st.composite
def problems(draw, kind, *, exponents=(-6, 6), **fixed):
    """One task or more, one class or more, one example or more of each, in all manners.

    Args:
        kind: One of `HEADS`.
        exponents: Between which powers of ten the regulariser lies.
        fixed: Arguments of `problem_of` that are not drawn.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = {name: draw(st.integers(1, 4)) for name in ("tasks", "ways", "queries")}
    sizes |= {
        "shots": draw(st.integers(0, 5)),
        "features": draw(st.integers(1, 9 if kind in UNORDERED else 3)),
    }
    sizes |= {name: fixed.pop(name) for name in list(fixed) if name in sizes}
    reg_lambda = 10 ** draw(st.floats(*exponents))
    head = HEADS[kind](lambda choices: draw(st.sampled_from(choices)), sizes["features"], reg_lambda)
    options = {
        "flaws": draw(st.sampled_from(FLAWS)),
        "per_task": draw(st.booleans()),
        "reg_lambda": reg_lambda,
    }
    options["values"] = head.regresses and draw(st.booleans())
    if not isinstance(head, LinearHead) and kind in UNORDERED:
        options["scale"] = draw(st.sampled_from([1e-3, 1.0, 1e3]))
    return problem_of(head, rng, **sizes, **options | fixed)
