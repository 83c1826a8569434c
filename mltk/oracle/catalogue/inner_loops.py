r"""The known mistakes of inner loops: which derivatives, which steps, which examples, which state.

In the formulas $\theta_0 = \theta$ is the initialisation, $g_k = \nabla L_s(\theta_k)$ the support gradient
and $H_k$ its Hessian in inner step $k < K$, $\theta_{k+1} = \theta_k - \alpha g_k$, $L_q$ the query loss,
$\lambda_K = \nabla L_q(\theta_K)$ and $\lambda_k = (I - \alpha H_k) \lambda_{k+1}$; the truth is $\lambda_0$,
the mean over $T$ tasks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mltk.oracle.catalogue.loop_ways import EXACT, MOVING, UNROLLED, fitted, varied
from mltk.oracle.catalogue.mistake import Mistake


def of_one_task(index: int) -> Callable[[int], np.ndarray]:
    """All the weight on one task."""
    return lambda count: np.eye(count)[index]


def never(k: int, steps: int) -> float:
    """No Hessians."""
    return 0.0


def last(kept: int) -> Callable[[int, int], float]:
    """The Hessians of the last steps."""
    return lambda k, steps: float(k >= steps - kept)


def first(kept: int) -> Callable[[int, int], float]:
    """The Hessians of the first steps."""
    return lambda k, steps: float(k < kept)


TRUNCATED = tuple(
    varied(f"through the {name} {kept} of the inner steps alone", hessian=steps(kept))
    for kept in (1, 2, 3, 4)
    for name, steps in (("last", last), ("first", first))
)


def mean_over_steps(steps: int) -> np.ndarray:
    """The query losses after each step alike."""
    return np.append(0, np.full(steps, 1 / steps)) if steps else np.ones(1)


def sum_over_steps(steps: int) -> np.ndarray:
    """The query losses after each step, added up."""
    return np.append(0, np.ones(steps)) if steps else np.ones(1)


def mean_with_start(steps: int) -> np.ndarray:
    """The query losses before the first step and after each, alike."""
    return np.full(steps + 1, 1 / (steps + 1))


def sum_with_start(steps: int) -> np.ndarray:
    """The query losses before the first step and after each, added up."""
    return np.ones(steps + 1)


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "first-order",
        "The inner gradients are constants: the Hessians are left out.",
        r"\lambda_K",
        "`create_graph=True` is missing, or the inner gradients or the adapted parameters are detached.",
        EXACT,
        (varied(hessian=never),),
    ),
    Mistake(
        "second-order-kept",
        "The Hessians are kept where the first-order approximation is asked for.",
        r"\lambda_0 \text{ for } \lambda_K",
        "The inner gradients are not detached: `create_graph=True` regardless of `first_order`.",
        ("fomaml",),
        (varied(hessian=lambda k, steps: 1.0),),
    ),
    Mistake(
        "truncated",
        "The gradient goes back through some of the inner steps only.",
        r"\lambda_k \text{ for a } k > 0",
        "The adapted parameters are detached every few steps, to save memory.",
        EXACT,
        TRUNCATED,
    ),
    Mistake(
        "second-order-factor",
        "The Hessian terms have a wrong factor or sign.",
        r"\lambda_k = (I - c \alpha H_k) \lambda_{k+1}",
        "A Hessian product by hand with the sign or the step size of another convention.",
        EXACT,
        (fitted("factor c", (-1.0, 2.0, 0.5), lambda c: {"hessian": lambda k, steps: c}),),
    ),
    Mistake(
        "inner-step-missing",
        "One inner step too few, the last or the first.",
        r"\lambda_0 \text{ with } K - 1 \text{ steps}",
        "`range(steps - 1)`, a first step that only records, or a query loss before the last update.",
        MOVING,
        (varied(more_steps=-1),),
    ),
    Mistake(
        "extra-step",
        "One inner step too many.",
        r"\lambda_0 \text{ with } K + 1 \text{ steps}",
        "A first step outside of the loop, and all steps inside of it.",
        MOVING,
        (varied(more_steps=1),),
    ),
    Mistake(
        "query-loss-at-initial-parameters",
        "The query loss is taken before adaptation.",
        r"\nabla L_q(\theta_0)",
        "The model is called with its own parameters instead of the adapted ones.",
        UNROLLED,
        (varied(more_steps=-(10**6)),),
    ),
    Mistake(
        "support-query-swapped",
        "The inner loop takes the query set and the outer loss the support set.",
        r"\lambda_K = \nabla L_s(\theta_K), \quad g_k = \nabla L_q(\theta_k)",
        "The two are unpacked in the wrong order.",
        MOVING,
        (varied(inner=("query",), outer=("support",)),),
    ),
    Mistake(
        "wrong-set",
        "The support set stands in for the query set, the query set for the support set, or both for one.",
        r"\lambda_K = \nabla L_s(\theta_K), \text{ or } g_k = \nabla L_q(\theta_k)",
        "One batch is used twice, or queries leak into adaptation.",
        MOVING,
        (
            varied("the outer loss takes the support set", outer=("support",)),
            varied("the inner loop takes the query set", inner=("query",)),
            varied("the outer loss takes both sets", outer=("support", "query")),
            varied("the inner loop takes both sets", inner=("support", "query")),
        ),
    ),
    Mistake(
        "state-leaks-between-tasks",
        "The weights are not restored: a task starts where the one before it ended.",
        r"\theta_0^{(t)} = \theta_K^{(t-1)}",
        "The inner loop writes into the model, and nothing copies the initial weights back.",
        MOVING,
        (
            varied("gradient at each task's own start", leaks="own start"),
            varied("first-order gradient", leaks="own start", hessian=never),
            varied("gradient back through all tasks before", leaks="all before"),
        ),
    ),
    Mistake(
        "one-task-only",
        "Only one task counts.",
        r"\lambda_0^{(T)}",
        "The loss or the gradient of each task overwrites that of the one before.",
        MOVING,
        (
            varied("the last", counts=of_one_task(-1)),
            varied("the first", counts=of_one_task(0)),
        ),
    ),
    Mistake(
        "outer-gradient-accumulates",
        "The inner gradients are added to the meta-gradient.",
        r"\lambda_0 + \textstyle\sum_k g_k",
        "`backward()` in the inner loop writes into the `.grad` that the outer optimiser reads.",
        UNROLLED,
        (
            varied("through the steps before, mean over tasks", pollutes="through"),
            varied("through the steps before, sum over tasks", pollutes="through", pollution_sum=True),
            varied("as they are, mean over tasks", pollutes="direct"),
            varied("as they are, sum over tasks", pollutes="direct", pollution_sum=True),
            varied("the last one alone, mean over tasks", pollutes="last"),
            varied("the last one alone, sum over tasks", pollutes="last", pollution_sum=True),
            *(
                varied(
                    f"{detail} of all parameters, {average}",
                    pollutes=kind,
                    pollutes_all=True,
                    pollution_sum=sum_,
                )
                for kind, detail in (("through", "through the steps before,"), ("direct", "as they are,"))
                for average, sum_ in (("mean over tasks", False), ("sum over tasks", True))
            ),
            varied("on top of the first-order gradient", pollutes="direct", hessian=never),
            varied(
                "on top of the first-order gradient, sum over tasks",
                pollutes="direct",
                pollution_sum=True,
                hessian=never,
            ),
        ),
    ),
    Mistake(
        "inner-gradients-accumulate",
        "Each inner step moves along the sum of all gradients so far.",
        r"\theta_{k+1} = \theta_k - \alpha \textstyle\sum_{j \le k} g_j",
        "`zero_grad()` is missing in the inner loop.",
        MOVING,
        (
            varied(carry=1.0),
            varied("first-order", carry=1.0, hessian=never),
        ),
    ),
    Mistake(
        "momentum-in-inner-loop",
        "The inner steps have momentum.",
        r"m_k = \mu m_{k-1} + g_k, \quad \theta_{k+1} = \theta_k - \alpha m_k",
        "The inner optimiser is the outer one's, or keeps its state.",
        MOVING,
        (fitted("momentum", (0.9, 0.5), lambda c: {"carry": c}),),
    ),
    Mistake(
        "multi-step-loss",
        "The query losses after all inner steps count, and not the last alone.",
        r"\textstyle\sum_k w_k \nabla L_q(\theta_k)",
        "The multi-step loss of MAML++ is left on, or losses are collected inside of the inner loop.",
        UNROLLED,
        (
            varied("mean over the steps", every=mean_over_steps),
            varied("sum over the steps", every=sum_over_steps),
            varied("mean over the start and the steps", every=mean_with_start),
            varied("sum over the start and the steps", every=sum_with_start),
        ),
    ),
    Mistake(
        "stale-weights",
        "The way back through the query loss meets other weights than the way forth.",
        r"\partial L_q / \partial \theta_K \text{ with the weights } \theta_0 \text{ in its chain rule}",
        "`p.data` is put back, or moved on for the next task, before `backward()`; autograd does not notice.",
        ("maml", "fomaml", "anil", "boil"),
        (
            varied("the initial ones", stale="start", hessian=never),
            varied("those of the last task", stale="last task", hessian=never),
        ),
    ),
)
