"""Settings of learners on embeddings, which are those of their heads, and of heads."""

from dataclasses import fields

import numpy as np
from counting import calls
from experiments import close, shows
from head_problems import problem_of
from routes import NUMPY

import mltk
from mltk import heads
from mltk.algorithms import BayesianRidge, LogisticRegression, Matching, Prototypical, RidgeRegression
from mltk.heads import (
    BayesianRidgeHead,
    FullContextMatchingHead,
    LogisticHead,
    MatchingHead,
    PrototypicalHead,
    RidgeHead,
)
from mltk.ops import Attention
from mltk.ops.kernels import kernels_of

EMBEDDING = mltk.models.mlp([4, 6, 5], activation="tanh")
EPISODE = mltk.data.Blobs(3, 2, 4, features=4).sample(2, 0, NUMPY)
HEAD_OF = {
    Prototypical: PrototypicalHead,
    Matching: MatchingHead,
    RidgeRegression: RidgeHead,
    LogisticRegression: LogisticHead,
    BayesianRidge: BayesianRidgeHead,
}
CLOSED_FORM = (RidgeHead, LogisticHead)
CALIBRATED = (*CLOSED_FORM, BayesianRidgeHead)
VALUES = {
    "distance": "cosine",
    "temperature": 0.3,
    "reg_lambda": 0.37,
    "scale": 2.5,
    "steps": 3,
    "use_woodbury": True,
    "intercept": True,
    "learn_scale": False,
    "learn_bias": False,
    "learn_lambda": False,
}
"""A value of each setting that is not its default."""


def passes_on(kind, name, head, **options):
    """The learner does what that head does with the embeddings, and learns what it learns."""
    learner = kind(EMBEDDING, **options)
    assert learner.head == head
    assert learner.meta_shapes == EMBEDDING.shapes | {f"head.{key}": s for key, s in head.shapes.items()}
    meta = learner.init(NUMPY, 0)
    state = learner.adapt(meta, EPISODE.support_x, EPISODE.support_y)
    support, query = (EMBEDDING.apply(meta, x) for x in (EPISODE.support_x, EPISODE.query_x))
    p = meta.get("head", {})
    fitted = head.fit(p, support, np.eye(3)[EPISODE.support_y])
    close(learner.predict(state, EPISODE.query_x), head.predict(p, fitted, query))


def of_the_head(name):
    def experiment(kind):
        passes_on(kind, name, HEAD_OF[kind](**{name: VALUES[name]}), **{name: VALUES[name]})

    return experiment


for learner, head in HEAD_OF.items():
    for field in fields(head):
        shows(learner, of=field.name)(of_the_head(field.name))


@shows(*HEAD_OF, of="embedding")
def the_parameters_are_the_embedding_s(kind):
    for embedding in (EMBEDDING, mltk.models.mlp([4, 2])):
        shapes = kind(embedding).meta_shapes
        assert {name: shape for name, shape in shapes.items() if name in embedding.shapes} == embedding.shapes


@shows(Matching, of="full_context")
def lstms_stand_in_front(kind):
    passes_on(kind, "full_context", FullContextMatchingHead(5), full_context=True)
    passes_on(kind, "full_context", MatchingHead(), full_context=False)


@shows(Matching, of="processing_steps")
def the_context_is_read_so_often(kind):
    options = {"full_context": True, "processing_steps": 2}
    passes_on(kind, "processing_steps", FullContextMatchingHead(5, 2), **options)


@shows(Matching, of="features")
def the_lstms_are_told_how_long_embeddings_are(kind):
    silent = mltk.models.Sequential([mltk.ops.Convolution(1, 2, 3), mltk.ops.GlobalAveragePool()])
    assert kind(silent, full_context=True, features=2).head == FullContextMatchingHead(2)


# What the heads themselves make of them.


def problem(head, **options):
    return problem_of(head, np.random.default_rng(0), **{"away": True} | options)


def outputs(head, **options):
    return problem(head, **options).by_hand()["outputs"]


def alone(kind, **options):
    """A closed-form head that learns nothing: its outputs are those of its settings."""
    switches = {field.name: False for field in fields(kind) if field.name.startswith("learn_")}
    return kind(**{"scale": 1.0} | switches | options)


@shows(*CLOSED_FORM, of="reg_lambda")
def the_penalty_of_the_weights(kind):
    for strength in (0.1, 2.0):
        options = {"steps": 30} if kind is LogisticHead else {}
        one = problem(alone(kind, reg_lambda=strength, **options))
        weight = one.head.fit({}, one.support, one.target)["weight"]
        z = one.support @ weight.mT
        slope = z - one.target if kind is RidgeHead else 1 / (1 + np.exp(-z)) - one.target
        close(slope.mT @ one.support + strength * weight, np.zeros_like(weight), 1e-9)
        start = kind(strength).init(np.random.default_rng(0))
        close(start["log_lambda"], np.log(strength))


@shows(*CALIBRATED, of="scale")
def outputs_are_multiplied(kind):
    close(outputs(alone(kind, scale=3.0)), 3 * outputs(alone(kind)))
    close(kind(scale=3.0).init(np.random.default_rng(0))["scale"], 3.0)


def learned_or_not(switch, name):
    def experiment(kind):
        for learns in (True, False):
            one = problem(kind(**{switch: learns}))
            assert (name in one.head.shapes) == learns
            assert (name in one.by_hand()) == learns

    return experiment


for switch, name in (("learn_scale", "scale"), ("learn_bias", "bias")):
    shows(*CALIBRATED, of=switch)(learned_or_not(switch, name))
shows(*CLOSED_FORM, of="learn_lambda")(learned_or_not("learn_lambda", "log_lambda"))


def systems(head, **options):
    """The sizes of the systems that are solved."""
    with calls(type(kernels_of(np.zeros(1))), "cholesky") as solved:
        outputs(head, **options)
    return [args[0].shape[-1] for args, _ in solved]


@shows(RidgeHead, of="use_woodbury")
def systems_as_large_as_the_support_set_or_an_embedding(kind):
    for features in (3, 9):  # of five examples
        sizes = {"ways": 3, "shots": 2, "features": features}
        found = {form: systems(alone(kind, use_woodbury=form), **sizes) for form in (True, False, None)}
        assert found == {True: [5], False: [features], None: [min(5, features)]}
        close(
            outputs(alone(kind, use_woodbury=True), **sizes),
            outputs(alone(kind, use_woodbury=False), **sizes),
        )


@shows(RidgeHead, of="intercept")
def a_shift_of_the_targets_is_free(kind):
    for intercept in (True, False):
        head = alone(kind, intercept=intercept, reg_lambda=5.0)
        one = problem(head)
        shifted = head.fit({}, one.support, one.target + 7)
        moved = head.predict({}, shifted, one.query) - one.by_hand()["outputs"]
        assert np.allclose(moved, 7) == intercept


@shows(LogisticHead, of="steps")
def a_system_a_newton_step(kind):
    for steps in (1, 4):
        assert len(systems(alone(kind, steps=steps))) == steps


@shows(PrototypicalHead, of="distance")
def squared_distances_or_cosines(kind):
    for distance in ("sqeuclidean", "cosine"):
        one = problem(kind(distance), shots=0)
        a, b = (
            one.query[:, :, None],
            np.stack([one.support[t][one.labels[t].argsort()] for t in range(2)])[:, None],
        )
        if distance == "cosine":
            expected = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        else:
            expected = -((a - b) ** 2).sum(-1)
        close(one.by_hand()["outputs"], expected)


@shows(PrototypicalHead, of="temperature")
def logits_are_divided(kind):
    for distance, start in (("sqeuclidean", 1.0), ("cosine", 0.1)):
        warm, hot = (outputs(kind(distance, temperature)) for temperature in (1.0, 4.0))
        close(hot, warm / 4)
        learned = kind(distance, "learned")
        assert learned.shapes == {"log_temperature": ()}
        close(np.exp(learned.init(np.random.default_rng(0))["log_temperature"]), start)


def log_softmax(x):
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


@shows(MatchingHead, FullContextMatchingHead, of="temperature")
def cosines_are_divided_before_the_softmax(kind):
    for temperature in (1.0, 0.2):
        full = kind is FullContextMatchingHead
        one = problem(kind(4, temperature=temperature) if full else kind(temperature), shots=0)
        p = mltk.tree.map(np.zeros_like, one.p)  # LSTMs that change nothing
        found = one.head.predict(p, one.head.fit(p, one.support, one.target), one.query)
        cosines = heads.pairwise_cosine_similarity(one.query, one.support)
        close(found, log_softmax(cosines / temperature) @ one.target)


@shows(FullContextMatchingHead, of="features")
def the_lstms_are_so_wide(kind):
    for features in (2, 5):
        assert kind(features).shapes["attention.weight_hh"] == (4 * features, 2 * features)
        assert outputs(kind(features), features=features).shape == (2, 3, 3)


@shows(FullContextMatchingHead, of="processing_steps")
def a_query_attends_so_often(kind):
    for steps in (1, 4):
        with calls(Attention, "forward") as reads:
            outputs(kind(4, steps))
        assert len(reads) == steps
