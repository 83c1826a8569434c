r"""The known mistakes of implicit MAML: of the descent to the optimum, and of the linear system there.

In the formulas $\phi^*$ is the proximal optimum, $H$ the Hessian of the support loss there, and
$\lambda$ the proximal strength; the truth is $(I + \tfrac1\lambda H)^{-1} \nabla L_q(\phi^*)$.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mltk import ops, tree
from mltk.algorithms.implicit_maml import conjugate_gradients
from mltk.contracts import Objective
from mltk.engines.analytic import AnalyticEngine
from mltk.models import Sequential
from mltk.normalization import with_support_rows
from mltk.oracle.case import Values
from mltk.oracle.catalogue.mistake import Family, Mistake, Variant
from mltk.oracle.layers import model

IMPLICIT = ("implicit-maml",)


@dataclass(frozen=True)
class Implicit:
    """Implicit MAML with the mistakes of an implementation; the defaults make none.

    Attributes:
        proximal: What the strength is multiplied by in the descent.
        matrix: From the strength to the weights of the identity and of the Hessian in the system.
        damping: What is added to the weight of the identity.
        cg_steps: Steps of conjugate gradients; ``None`` for those that are asked for, 0 for no system at all.
    """

    proximal: float = 1.0
    matrix: Callable[[float], tuple[float, float]] = lambda strength: (1.0, 1 / strength)
    damping: float = 0.0
    cg_steps: int | None = None

    def outputs(self, settings: Mapping[str, Any], inputs: Values) -> Values:
        """Loss and gradients, each the mean over tasks."""
        network, loss = model(settings["layers"]), ops.loss(settings["loss"])
        objective, engine = Objective(network, loss), AnalyticEngine()
        x, y = inputs["support_x"], inputs["support_y"]
        with np.errstate(all="ignore"):
            end = _descended(_Problem(settings, inputs, self.proximal))
            rows = x.shape[1]
            behind = with_support_rows(network, rows)
            query_x = inputs["query_x"]
            if behind is not network:
                assert isinstance(behind, Sequential)
                behind = Sequential([*behind.layers, ops.DropRows(rows)])
                query_x = np.concatenate([x, query_x], axis=1)
            query = engine.linearize(
                Objective(behind, loss), end, query_x, inputs["query_y"], curvature=False
            )
            support = engine.linearize(objective, end, x, y)
            one, curved = self.matrix(settings["reg_lambda"])

            def matrix(v: tree.Tree) -> tree.Tree:
                product = support.hvp(v)
                return tree.map(lambda a, h: (one + self.damping) * a + curved * h, v, product)

            steps = settings["cg_steps"] if self.cg_steps is None else self.cg_steps
            solution = conjugate_gradients(matrix, query.grad, steps) if steps else query.grad
        gradients = {name: leaf.mean(0) for name, leaf in tree.flatten(solution).items()}
        return {
            "loss": np.asarray(query.value.mean()),
            "gradients": {name: gradients[name] for name in inputs["params"]},
        }


class _Problem:
    """A descent; two are equal if they are of the same numbers, so that it is done once for many mistakes."""

    def __init__(self, settings: Mapping[str, Any], inputs: Values, proximal: float) -> None:
        self.settings, self.inputs, self.strength = settings, inputs, settings["reg_lambda"] * proximal
        arrays = [inputs["support_x"], inputs["support_y"], *inputs["params"].values()]
        self.key = (repr(settings), proximal, *(array.tobytes() for array in arrays))

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Problem) and self.key == other.key


@lru_cache(maxsize=64)
def _descended(problem: _Problem) -> tree.Tree:
    """Where the descent ends."""
    settings, inputs, engine = problem.settings, problem.inputs, AnalyticEngine()
    objective = Objective(model(settings["layers"]), ops.loss(settings["loss"]))
    x, y, rate = inputs["support_x"], inputs["support_y"], settings["inner_lr"]
    start = {name: np.broadcast_to(p, (len(x), *p.shape)) for name, p in inputs["params"].items()}
    params = start
    for _ in range(settings["inner_steps"]):
        g = tree.flatten(engine.linearize(objective, tree.unflatten(params), x, y, curvature=False).grad)
        params = {n: p - rate * (g[n] + problem.strength * (p - start[n])) for n, p in params.items()}
    return tree.unflatten(params)


def _way(detail: str = "", **knobs: Any) -> Variant:
    return Variant(Implicit(**knobs).outputs, detail)


def _damped(settings: Mapping[str, Any], inputs: Values, value: float) -> Values:
    return Implicit(damping=value).outputs(settings, inputs)


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "proximal-term-missing",
        "The descent has no proximal term.",
        r"\phi^* = \operatorname{arg\,min} L_s(\phi)",
        "An inner loop of MAML in front of the linear system.",
        IMPLICIT,
        (_way(proximal=0.0),),
    ),
    Mistake(
        "proximal-strength",
        "The proximal term of the descent is half or twice as strong.",
        r"\phi^* = \operatorname{arg\,min} L_s(\phi) + c \tfrac\lambda2 \lVert \phi - \theta \rVert^2",
        "The half is forgotten, or comes twice.",
        IMPLICIT,
        (_way("twice", proximal=2.0), _way("half", proximal=0.5)),
    ),
    Mistake(
        "linear-system-missing",
        "The query gradient at the optimum is taken as it is.",
        r"\nabla L_q(\phi^*)",
        "Conjugate gradients are never called, or run for no step.",
        IMPLICIT,
        (_way(cg_steps=0),),
    ),
    Mistake(
        "linear-system-wrong",
        "The strength stands in the wrong place of the linear system.",
        r"(\lambda I + H)^{-1}, \quad (I + H)^{-1}, \quad (I + \lambda H)^{-1}",
        "The system is written from memory.",
        IMPLICIT,
        (
            _way("on the identity", matrix=lambda strength: (strength, 1.0)),
            _way("nowhere", matrix=lambda strength: (1.0, 1.0)),
            _way("multiplied instead of divided by", matrix=lambda strength: (1.0, strength)),
            _way("the Hessian is subtracted", matrix=lambda strength: (1.0, -1 / strength)),
        ),
    ),
    Mistake(
        "system-damped",
        "Something is added to the identity of the linear system.",
        r"((1 + \varepsilon) I + \tfrac1\lambda H)^{-1}",
        "The damping of other uses of conjugate gradients is left on.",
        IMPLICIT,
        (Family(_damped, "damping", (1.0, 0.1, 1e-2, 1e-3, 1e-5)),),
    ),
    Mistake(
        "conjugate-gradients-stop-early",
        "Conjugate gradients stop before they have converged.",
        r"(I + \tfrac1\lambda H)^{-1} \text{ after a few steps}",
        "The number of steps is a constant, or a tolerance is too large.",
        IMPLICIT,
        tuple(_way(f"after {steps}", cg_steps=steps) for steps in (1, 2, 3, 4, 5, 10)),
    ),
)
