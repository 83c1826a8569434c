"""The known mistakes of prototypical and matching networks; see `mltk.oracle.mistakes.heads` for symbols."""

from __future__ import annotations

import numpy as np

from mltk.oracle.mistakes.mistake import Mistake
from mltk.oracle.mistakes.turned import (
    COSINES,
    DISTANCES,
    FULL_CONTEXT,
    MATCHING,
    METRIC,
    PROTOTYPICAL,
    fitted,
    turned,
)

TINY = (1e-8, 1e-6, 1e-5, 1e-4, 1e-3)

METRIC_MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "euclidean-distance",
        "The distance itself instead of its square.",
        r"z_{jk} = -\lVert q_j - c_k \rVert / \tau",
        "`torch.cdist` or `norm` without a square.",
        (*PROTOTYPICAL, *DISTANCES),
        (turned(compared="root"),),
    ),
    Mistake(
        "missing-negation",
        "Logits grow with the distance, or fall with the cosine.",
        r"z_{jk} = +\lVert q_j - c_k \rVert^2 / \tau, \text{ or } z_{jk} = -\cos(q_j, c_k) / \tau",
        "Distances, or one minus cosines, are handed to the softmax as they are.",
        METRIC,
        (
            turned(compared="negated"),
            turned("of a distance that is not squared", compared="negated root"),
        ),
    ),
    Mistake(
        "cosine-distance",
        "One minus the cosine in the place of the cosine.",
        r"z_{jk} = \pm (1 - \cos(q_j, c_k)) / \tau",
        "`scipy.spatial.distance.cosine` and its like are distances.",
        (*PROTOTYPICAL, *COSINES),
        (
            turned("as it is", compared="distance"),
            turned("negated, which shifts the logits alone", compared="negated distance"),
        ),
    ),
    Mistake(
        "negated-similarity",
        "Minus the similarities.",
        r"-\cos(a_i, b_j), \text{ or } -\lVert a_i - b_j \rVert^2",
        "Logits are returned where distances are asked for, or distances where similarities are.",
        (*DISTANCES, *COSINES),
        (turned(compared="negated"),),
    ),
    Mistake(
        "angle-instead-of-cosine",
        "The negative angle instead of the cosine.",
        r"z_{jk} = -\arccos \cos(q_j, c_k) / \tau",
        "An angular distance.",
        (*METRIC, *COSINES),
        (turned(compared="angle"),),
    ),
    Mistake(
        "mean-over-dimensions",
        "Squared differences are averaged over the features instead of added up.",
        r"z_{jk} = -\tfrac1d \lVert q_j - c_k \rVert^2 / \tau",
        "`mse_loss` or `.mean(-1)` for a distance, or logits that are divided by the number of features.",
        (*PROTOTYPICAL, *DISTANCES),
        (turned(compared="mean"),),
    ),
    Mistake(
        "distance-expanded-wrongly",
        "The square of the distance is multiplied out with a term missing.",
        r"\lVert q \rVert^2 + \lVert c \rVert^2 - q \cdot c, \quad \lVert c \rVert^2 - 2 q \cdot c, "
        r"\quad \lVert q \rVert^2 - 2 q \cdot c",
        "A distance by matrix products, written from memory.",
        (*PROTOTYPICAL, *DISTANCES),
        (
            turned("the product once instead of twice", compared="one product"),
            turned("without the squares of the queries", compared="no queries"),
            turned("without the squares of the prototypes", compared="no prototypes"),
        ),
    ),
    Mistake(
        "wrong-similarity",
        "Another similarity than the one that is asked for.",
        r"q_j \cdot c_k, \quad \cos(q_j, c_k) \text{ or } -\lVert q_j - c_k \rVert^2 "
        r"\text{ in each other's place}",
        "The setting of the distance is ignored.",
        METRIC,
        (
            turned("the dot product", compared="dot"),
            turned("the cosine", compared="cosine"),
            turned("minus the squared distance", compared="squares"),
        ),
    ),
    Mistake(
        "prototype-by-sum",
        "Prototypes are the sums of the examples of each class, or not divided by their own number.",
        r"c_k = \sum_i t_{ik} s_i, \quad \tfrac{1}{N} \sum_i t_{ik} s_i, \quad "
        r"\tfrac{\text{ways}}{N} \sum_i t_{ik} s_i",
        "`scatter_add` or a product with one-hot labels, without a division by the number of each class.",
        PROTOTYPICAL,
        (
            turned("not divided", prototypes="sum"),
            turned("divided by the number of all examples", prototypes="over all"),
            turned("divided by the average number of a class", prototypes="equal shots"),
        ),
    ),
    Mistake(
        "labels-ignored",
        "Classes are cut out of the support set by their place instead of their labels.",
        r"c_k = \operatorname{mean}(s_{kn}, \dots, s_{kn + n - 1})",
        "`support.view(ways, shots, -1).mean(1)`: right only if examples come in the order of the classes.",
        PROTOTYPICAL,
        (
            turned("class after class", prototypes="blocks"),
            turned("the classes taking turns", prototypes="turns"),
        ),
    ),
    Mistake(
        "queries-in-prototypes",
        "Prototypes are the means of the support and the query examples, with the labels of both.",
        r"c_k = \operatorname{mean}(\{s_i : t_{ik} = 1\} \cup \{q_j : \text{label } k\})",
        "The two sets are put together before prototypes are taken: the answers leak.",
        PROTOTYPICAL,
        (turned(prototypes="with queries"),),
    ),
    Mistake(
        "normalised-first",
        "Embeddings are divided by their length first: before the mean, or where nothing asks for it.",
        r"s_i / \lVert s_i \rVert, \quad q_j / \lVert q_j \rVert",
        "`F.normalize` at the end of the embedding.",
        ("prototypical", "ridge", "logistic", "ridge-regression"),
        (turned(unit_first=True),),
    ),
    Mistake(
        "cosine-without-normalisation",
        "Vectors are not normalised, neither of the two or one of them.",
        r"q_j \cdot c_k, \quad q_j \cdot c_k / \lVert c_k \rVert, \quad q_j \cdot c_k / \lVert q_j \rVert",
        "`query @ support.T` alone; or the length of one side only, as in popular matching networks.",
        (*METRIC, *COSINES),
        (
            turned("neither side is normalised", sides="neither"),
            turned("only the support side is normalised", sides="support"),
            turned("only the query side is normalised", sides="query"),
        ),
    ),
    Mistake(
        "epsilon-in-length",
        "A small number is added to lengths, or to their squares under the root.",
        r"x / (\lVert x \rVert + \varepsilon), \quad x / \sqrt{\lVert x \rVert^2 + \varepsilon}",
        "A guard against zero vectors that changes all others.",
        (*METRIC, *COSINES),
        (
            fitted("epsilon", TINY, lambda e: {"epsilon": e}),
            fitted("epsilon under the root", TINY, lambda e: {"epsilon_inside": e}),
        ),
    ),
    Mistake(
        "temperature-multiplied",
        "Similarities are multiplied by the temperature instead of divided.",
        r"z_{jk} = -\tau \lVert q_j - c_k \rVert^2",
        "The temperature is taken for a scale.",
        METRIC,
        (turned(temperature=lambda t: 1 / t),),
    ),
    Mistake(
        "temperature-left-out",
        "The temperature is not used, or another one.",
        r"z_{jk} = -\lVert q_j - c_k \rVert^2, \text{ or over a constant}",
        "The setting never arrives where logits are computed.",
        METRIC,
        (
            turned("it is one", temperature=np.ones_like),
            fitted(
                "temperature",
                (0.1, 0.5, 2.0, 5.0, 10.0, 64.0),
                lambda t: {"temperature": lambda _: np.asarray(t)},
            ),
        ),
    ),
    Mistake(
        "temperature-power",
        "Another power of the temperature.",
        r"z_{jk} = -\lVert q_j - c_k \rVert^2 / \tau^2, \quad / \sqrt\tau, \quad / 2 \tau^2",
        "It is divided by twice, or taken for the width of a Gaussian.",
        METRIC,
        (
            turned("its square", temperature=lambda t: t * t),
            turned("its root", temperature=np.sqrt),
            turned("twice its square", temperature=lambda t: 2 * t * t),
        ),
    ),
    Mistake(
        "logarithm-of-temperature",
        "The logarithm that is learned is taken for the temperature, or the temperature for its logarithm.",
        r"z_{jk} = -\lVert q_j - c_k \rVert^2 / \log \tau, \quad -e^{-\tau} \lVert q_j - c_k \rVert^2",
        "`exp` is missing, or comes once too often.",
        METRIC,
        (
            turned("the logarithm", temperature=np.log),
            turned("the exponential", temperature=np.exp),
        ),
    ),
    Mistake(
        "attention-not-added-by-class",
        "The attention to the examples of a class is not added up.",
        r"z_{jk} = \log \tfrac{1}{n_k} \sum_i a_{ji} t_{ik}, \quad \log \max_i a_{ji} t_{ik}, "
        r"\quad \sum_i \cos(q_j, s_i) t_{ik} / \tau, \quad \cos(q_j, c_k) / \tau",
        "A mean or maximum over the examples of a class, or a prototype: right with one example a class.",
        MATCHING,
        (
            turned("the mean of it", attended="mean"),
            turned("the largest", attended="largest"),
            turned("the cosines are added up instead, without a softmax", attended="scores"),
            turned("the cosine to the mean of the class", attended="prototypes"),
        ),
    ),
    Mistake(
        "attention-axis",
        "The softmax of attention runs over the queries.",
        r"a_{ji} = \operatorname{softmax}_j(\cos(q_j, s_i) / \tau)",
        "`softmax(dim=...)` along the wrong axis.",
        MATCHING,
        (turned(attended="over queries"),),
    ),
    Mistake(
        "attention-not-normalised",
        "Exponentials are added up by class without a division by their sum: the logits are shifted alone.",
        r"z_{jk} = \log \sum_i \exp(\cos(q_j, s_i) / \tau) t_{ik}",
        "The cross-entropy normalises, so that only the logits are not log-probabilities.",
        MATCHING,
        (turned(attended="not normalised"),),
    ),
    Mistake(
        "epsilon-in-logarithm",
        "A small number is added to probabilities before the logarithm.",
        r"z_{jk} = \log(\sum_i a_{ji} t_{ik} + \varepsilon)",
        "A guard against the logarithm of zero.",
        MATCHING,
        (fitted("epsilon", TINY, lambda e: {"log_epsilon": e}),),
    ),
    Mistake(
        "gate-order",
        "The four blocks of an LSTM's parameters are taken for gates in another order.",
        r"(i, f, o, g) \text{ or } (f, i, g, o) \text{ for } (i, f, g, o)",
        "Parameters of another library, or a cell by hand.",
        FULL_CONTEXT,
        (
            turned("input, forget, output, candidate", context="gates i, f, o, g"),
            turned("forget, input, candidate, output", context="gates f, i, g, o"),
        ),
    ),
    Mistake(
        "one-bias",
        "Only the first of the two biases of an LSTM is added.",
        r"z = W_x x + W_h h + b_x",
        "A cell with one bias, and parameters for two.",
        FULL_CONTEXT,
        (turned(context="one bias"),),
    ),
    Mistake(
        "skip-connection-missing",
        "An embedding is not added to what its LSTM makes of it.",
        r"g_i = \overrightarrow h_i + \overleftarrow h_i, \quad h_k = \hat h_k, \quad f = \hat h_K",
        "The sum with the embedding (appendix A of the paper) is left out.",
        FULL_CONTEXT,
        (
            turned("of the support set", context="no support skip"),
            turned("of the query in each step", context="no query skip in each step"),
            turned("of the query at the end", context="no query skip at the end"),
        ),
    ),
    Mistake(
        "reading-direction",
        "The support set is not read from both ends, or outputs do not stand where their inputs do.",
        r"g_i = \overrightarrow h_i + s_i, \text{ or } \overleftarrow h \text{ in the order of reading}",
        "An LSTM that is not bidirectional, or a reversed one whose outputs are not turned round.",
        FULL_CONTEXT,
        (
            turned("not from the end", context="no backward"),
            turned("outputs from the end in the order of reading", context="backward in reading order"),
            turned("the two directions are exchanged", context="directions exchanged"),
        ),
    ),
    Mistake(
        "readout-wrong",
        "What a query reads of the support set is wrong.",
        r"r_k \ne \sum_i \operatorname{softmax}_i(h_k^\top g_i) g_i",
        "A softmax along the wrong axis, a scale of transformers, or another set of vectors.",
        FULL_CONTEXT,
        (
            turned("the softmax runs over the queries", context="readout over queries"),
            turned("inner products are divided by √d", context="scaled attention"),
            turned("it comes before the hidden state", context="readout first"),
            turned("from embeddings without context", context="attends to embeddings without context"),
        ),
    ),
    Mistake(
        "state-is-forgotten",
        "The cell state does not pass from one processing step to the next.",
        r"c_{k-1} = 0",
        "`LSTMCell(x, h)` is called without the state.",
        FULL_CONTEXT,
        (turned(context="state is forgotten"),),
    ),
    Mistake(
        "processing-steps",
        "One processing step too few or too many.",
        r"f = \hat h_{K \pm 1} + q",
        "A loop that starts or ends one step off.",
        FULL_CONTEXT,
        (turned("too few", more_steps=-1), turned("too many", more_steps=1)),
    ),
)
