"""The known mistakes of ridge and logistic regression; the symbols are in `mltk.oracle.catalogue.heads`."""

from __future__ import annotations

import math

from mltk.oracle.catalogue.head_ways import LOGISTIC, RIDGE, SOLVED, always, fitted, turned
from mltk.oracle.catalogue.mistake import Mistake
from mltk.oracle.definitions.tensor import Tensor

REGULARISED = ("ridge", "logistic", "ridge-regression")

MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "regulariser-times-examples",
        "The regulariser is scaled by the number of examples.",
        r"X^\top X + N \lambda I, \text{ or } X^\top X + \tfrac{\lambda}{N} I",
        "The squared error is averaged, and λ is meant for its sum, or the other way round.",
        REGULARISED,
        (
            turned("multiplied by it", penalty=lambda s, n, d: s * n),
            turned("divided by it", penalty=lambda s, n, d: s / n),
        ),
    ),
    Mistake(
        "regulariser-times-features",
        "The regulariser is scaled by the number of features.",
        r"X^\top X + d \lambda I, \text{ or } X^\top X + \tfrac{\lambda}{d} I",
        "The squared weights are averaged instead of added up.",
        REGULARISED,
        (
            turned("multiplied by it", penalty=lambda s, n, d: s * d),
            turned("divided by it", penalty=lambda s, n, d: s / d),
        ),
    ),
    Mistake(
        "regulariser-halved-or-doubled",
        "The regulariser is half or twice as strong.",
        r"X^\top X + 2 \lambda I, \text{ or } X^\top X + \tfrac{\lambda}{2} I",
        "A half in front of the squared error or of the squared weights, but not of both.",
        REGULARISED,
        (
            turned("doubled", penalty=lambda s, n, d: 2 * s),
            turned("halved", penalty=lambda s, n, d: s / 2),
        ),
    ),
    Mistake(
        "regulariser-power",
        "Another power of the regulariser.",
        r"X^\top X + \lambda^2 I, \quad X^\top X + \sqrt\lambda I, \quad X^\top X + \tfrac1\lambda I",
        "Rows of λ instead of √λ under the embeddings; or the inverse strength C of other libraries.",
        REGULARISED,
        (
            turned("its square", penalty=lambda s, n, d: s * s),
            turned("its root", penalty=lambda s, n, d: s.sqrt()),
            turned("its inverse", penalty=lambda s, n, d: 1 / s),
        ),
    ),
    Mistake(
        "logarithm-of-regulariser",
        "The logarithm that is learned is taken for the regulariser, or the regulariser for its logarithm.",
        r"X^\top X + (\log \lambda) I, \quad X^\top X + e^\lambda I, \quad \log_{10}",
        "`exp` is missing, comes once too often, or another base is meant.",
        SOLVED,
        (
            turned("the logarithm", penalty=lambda s, n, d: s.log()),
            turned("the exponential", penalty=lambda s, n, d: s.exp()),
            turned("base ten", penalty=lambda s, n, d: (s.log() * math.log(10)).exp()),
        ),
    ),
    Mistake(
        "regulariser-left-out",
        "Another regulariser than the one that is asked for.",
        r"X^\top X + c I",
        "A default that no setting changes.",
        REGULARISED,
        (
            turned("it is one", penalty=always(1.0)),
            turned("it is zero", penalty=always(0.0)),
            fitted(
                "regulariser",
                (0.01, 0.1, 0.5, 2.0, 5.0, 10.0, 50.0),
                lambda c: {"penalty": always(c)},
            ),
        ),
    ),
    Mistake(
        "regulariser-jitter",
        "Something is added to the regulariser.",
        r"X^\top X + (\lambda + \varepsilon) I",
        "A jitter for the Cholesky factor.",
        REGULARISED,
        (
            fitted(
                "jitter",
                (1e-6, 1e-8, 1e-5, 1e-4, 1e-3, 1e-2),
                lambda e: {"penalty": lambda s, n, d: s + e},
            ),
        ),
    ),
    Mistake(
        "lambda-on-wrong-matrix",
        "λ stands in the wrong place of the system.",
        r"X^\top (\lambda X X^\top + I)^{-1} Y, \quad X^\top (\tfrac1\lambda X X^\top + I)^{-1} Y, \quad "
        r"X^\top X + \lambda \mathbf 1 \mathbf 1^\top",
        "Woodbury's identity from memory, or `gram + lam` without the identity.",
        RIDGE,
        (
            turned("on the kernel instead of the identity", system="kernel"),
            turned("without the factor 1/λ of Woodbury's identity", system="times"),
            turned("with a factor 1/λ too many", system="divided"),
            turned("added to every entry of the d × d matrix", system="every entry of d x d"),
            turned("added to every entry of the N × N matrix", system="every entry of N x N"),
        ),
    ),
    Mistake(
        "bias-penalised",
        "The intercept is a weight like others, and penalised.",
        r"[X, \mathbf 1]^\top [X, \mathbf 1] + \lambda I",
        "A column of ones is put beside the embeddings.",
        RIDGE,
        (turned(intercept="penalised"),),
    ),
    Mistake(
        "intercept-missing",
        "There is no intercept where one is asked for, or one where none is.",
        r"b = 0, \text{ or } b = \bar y - W \bar x",
        "The setting is ignored.",
        RIDGE,
        (turned("none", intercept="missing"), turned("one that is not asked for", intercept="there")),
    ),
    Mistake(
        "intercept-wrong",
        "The intercept or the centring is incomplete.",
        r"b = \bar y, \text{ or } W \text{ from } X, Y \text{ that are not centred}",
        "Only a part of the data is centred, or the shift of the embeddings is not taken back.",
        RIDGE,
        (
            turned("it is the mean of the targets", intercept="mean of the targets"),
            turned("nothing is centred for the weights", intercept="not centred"),
            turned("embeddings are not centred for the weights", intercept="embeddings not centred"),
        ),
    ),
    Mistake(
        "targets-recoded",
        "The targets are not one-hot.",
        r"Y = 2T - 1, \quad T - \tfrac{1}{\text{ways}}, \quad T - \bar T, \quad t_{ik} / n_k",
        "Targets of ±1, or with their mean subtracted, or weighted by class.",
        REGULARISED,
        (
            turned("±1", target=lambda t: 2 * t - 1),
            turned("less one over the number of classes", target=lambda t: t - 1 / t.shape[-1]),
            turned("less their mean over the examples", target=lambda t: t - t.mean(1, keepdims=True)),
            turned("divided by the size of the class", target=lambda t: t / t.sum(1, keepdims=True)),
            fitted(
                "smoothing of the targets",
                (0.1, 0.05, 0.2),
                lambda e: {"target": lambda t: (1 - e) * t + e / t.shape[-1]},
            ),
        ),
    ),
    Mistake(
        "scale-left-out",
        "The scale of the outputs is wrong.",
        r"z = W q + b, \quad z / \alpha, \quad \alpha^2 z",
        "The scale is forgotten, divided by, or applied twice.",
        REGULARISED,
        (
            turned("it is one", scale=always(1.0)),
            turned("divided by it", scale=lambda a: 1 / a),
            turned("applied twice", scale=lambda a: a * a),
            turned("its exponential", scale=Tensor.exp),
        ),
    ),
    Mistake(
        "shift-wrong",
        "The learned shift of the outputs is left out, negated, or multiplied by the scale.",
        r"\alpha z, \quad \alpha z - \beta, \quad \alpha (z + \beta)",
        "Scale and shift in the wrong order.",
        SOLVED,
        (
            turned("left out", shift="missing"),
            turned("negated", shift="negated"),
            turned("multiplied by the scale", shift="scaled"),
        ),
    ),
    Mistake(
        "solution-is-constant",
        "No gradient goes through the solution to the support set and the regulariser.",
        r"\partial W / \partial X = 0",
        "It is solved for under `no_grad`, or by a library without gradients.",
        SOLVED,
        (turned(solver="constant"),),
    ),
    Mistake(
        "newton-steps",
        "Another number of Newton steps, or a gradient through the last of them only.",
        r"w_{K \pm 1}, \quad w_\infty, \quad \partial w_{K-1} / \partial X = 0",
        "A loop that starts or ends one step off, or a solver that runs until it converges.",
        LOGISTIC,
        (
            turned("one too few", more_steps=-1),
            turned("one too many", more_steps=1),
            turned("two too few", more_steps=-2),
            turned("until it converges", more_steps=12),
            turned("the gradient goes through the last alone", solver="last step"),
        ),
    ),
    Mistake(
        "newton-matrix",
        "The steps take another matrix than the Hessian.",
        r"X^\top \operatorname{diag}(s) X \text{ without } \lambda I, \quad \tfrac14 X^\top X + \lambda I",
        "The regulariser is in the gradient alone, or a bound stands for the slopes.",
        LOGISTIC,
        (
            turned("without λ", solver="Hessian without λ"),
            turned("with slopes of a quarter", solver="constant Hessian"),
        ),
    ),
    Mistake(
        "multinomial",
        "One softmax over all classes instead of one class against the rest.",
        r"\min_W \sum_i \operatorname{CE}(W s_i, t_i) + \tfrac\lambda2 \lVert W \rVert^2",
        "The default of other libraries.",
        LOGISTIC,
        (turned(solver="multinomial"),),
    ),
)
