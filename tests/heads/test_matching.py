"""Matching networks: their heads on every backend against independent derivatives, and the learner."""

import itertools
from dataclasses import dataclass

import array_api_strict
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from head_derivations import BACKENDS64, run_head
from hypothesis import given, settings
from hypothesis import strategies as st

import mltk
from mltk import tree
from mltk.errors import DtypeError, LabelError, MismatchError, SettingError, ShapeError
from mltk.heads import (
    FullContextMatchingHead,
    MatchingHead,
    matching_log_probabilities,
    matching_loss,
)

FEATURES = 3
HEADS = {
    "plain": MatchingHead(),
    "full context": FullContextMatchingHead(FEATURES, processing_steps=2),
    "plain, cold": MatchingHead(temperature=0.1),
    "full context, warm": FullContextMatchingHead(FEATURES, processing_steps=2, temperature=3.0),
}

both = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


@dataclass(frozen=True)
class Problem:
    """Embeddings of an episode, parameters of a head, and a cotangent of its outputs, in NumPy."""

    p: dict
    support: np.ndarray
    labels: np.ndarray
    query: np.ndarray
    gy: np.ndarray

    @property
    def ways(self):
        return self.gy.shape[-1]

    @property
    def target(self):
        return np.eye(self.ways)[self.labels]

    def arguments(self):
        """What a head takes, and the cotangent of its outputs."""
        return self.p, self.support, self.target, self.query, self.gy


@st.composite
def problems(draw, head, manners=("generic", "zeros", "duplicates", "constant"), **fixed):
    """One class or more, one shot or more, as many of each class as it happens; each label at least once."""
    tasks, ways, queries = (draw(st.integers(1, 3)) for _ in range(3))
    ways = fixed.get("ways", ways)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    examples = ways + draw(st.integers(0, 3))
    labels = np.concatenate([np.arange(ways), rng.integers(0, ways, examples - ways)])
    labels = rng.permuted(np.tile(labels, (tasks, 1)), axis=1)
    support = rng.normal(size=(tasks, examples, FEATURES))
    query = rng.normal(size=(tasks, queries, FEATURES))
    manner = draw(st.sampled_from(manners))
    if manner == "zeros":
        support[:, 0] = 0
        query[:, 0] = 0
    elif manner == "duplicates":
        support[:, -1] = support[:, 0]
        query[:, 0] = support[:, 0]
    elif manner == "constant":
        support[...] = query[...] = rng.normal()
    p = head.init(rng)
    if draw(st.booleans()):  # parameters of each task
        p = tree.map(lambda leaf: rng.normal(size=(tasks, *leaf.shape)) / 2, p)
    return Problem(p, support, labels, query, rng.normal(size=(tasks, queries, ways)))


def with_problems(**options):
    """Run a test for both heads and over problems for them."""

    def decorate(test):
        @both
        @settings(max_examples=25)
        @given(data=st.data())
        def run(head, data):
            test(head, data.draw(problems(head, **options)))

        return run

    return decorate


def agree(actual, expected, tolerance=1e-10):
    assert set(actual) == set(expected)
    for name, array in expected.items():
        assert np.isfinite(array).all()
        np.testing.assert_allclose(
            actual[name], array, rtol=0, atol=tolerance * (1 + np.abs(array).max()), err_msg=name
        )


@with_problems()
def test_values_and_gradients_agree_between_backends_and_with_autograd(head, problem):
    expected = run_head(head, BACKENDS64["torch-autograd"], *problem.arguments())
    agree(run_head(head, BACKENDS64["numpy"], *problem.arguments()), expected)
    agree(run_head(head, BACKENDS64["torch-analytic"], *problem.arguments()), expected)


@with_problems()
def test_runs_on_the_array_api_standard_alone(head, problem):
    strict = run_head(head, BACKENDS64["numpy"], *problem.arguments(), convert=array_api_strict.asarray)
    agree(strict, run_head(head, BACKENDS64["numpy"], *problem.arguments()))


@with_problems(manners=["generic"])
def test_pullbacks_are_central_differences(head, problem):
    found = run_head(head, BACKENDS64["numpy"], *problem.arguments())
    rng, step = np.random.default_rng(0), 1e-5
    shapes = {"support": problem.support.shape, "query": problem.query.shape}
    shapes |= {name: leaf.shape for name, leaf in tree.flatten(problem.p).items()}
    along = {name: rng.normal(size=shape) for name, shape in shapes.items()}

    def value(distance):
        moved = {name: leaf + distance * along[name] for name, leaf in tree.flatten(problem.p).items()}
        support = problem.support + distance * along["support"]
        query = problem.query + distance * along["query"]
        p = tree.unflatten(moved)
        return (problem.gy * head.predict(p, head.fit(p, support, problem.target), query)).sum()

    # Cotangents of parameters are per task, also where the tasks share the parameters.
    slope = sum((found[name] * direction).sum() for name, direction in along.items())
    assert slope == pytest.approx((value(step) - value(-step)) / (2 * step), rel=1e-6, abs=1e-7)


def published(head, p, support, labels, query, ways):
    """The log-probabilities of one task after the formulas of the paper, in Torch, one query at a time."""
    if isinstance(head, FullContextMatchingHead):
        lstm = torch.nn.LSTM(FEATURES, FEATURES, bidirectional=True, dtype=torch.float64)
        state = {f"{name}_l0": leaf for name, leaf in p["forward"].items()}
        state |= {f"{name}_l0_reverse": leaf for name, leaf in p["backward"].items()}
        lstm.load_state_dict(state)
        outputs, _ = lstm(support)
        support = outputs[:, :FEATURES] + outputs[:, FEATURES:] + support
    rows = []
    for q in query:
        f = q
        if isinstance(head, FullContextMatchingHead):
            own, cell = p["attention"], torch.zeros(FEATURES, dtype=torch.float64)
            for _ in range(head.processing_steps):
                read = torch.softmax(support @ f, 0) @ support
                z = own["weight_ih"] @ q + own["weight_hh"] @ torch.cat([f, read])
                i, forget, g, o = (z + own["bias_ih"] + own["bias_hh"]).chunk(4)
                cell = forget.sigmoid() * cell + i.sigmoid() * g.tanh()
                f = o.sigmoid() * cell.tanh() + q
        attention = torch.softmax(F.cosine_similarity(support, f[None], dim=1) / head.temperature, 0)
        rows.append(torch.stack([attention[labels == label].sum() for label in range(ways)]).log())
    return torch.stack(rows).detach()


@with_problems(manners=["generic", "duplicates"])
def test_outputs_are_those_of_the_paper(head, problem):
    p, *arrays = problem.arguments()
    p = tree.map(torch.as_tensor, p)
    support, target, query, _ = map(torch.as_tensor, arrays)
    y = head.predict(p, head.fit(p, support, target), query)
    assert torch.allclose(y.exp().sum(-1), torch.ones_like(y[..., 0]), rtol=0, atol=1e-12)
    for task in range(len(y)):
        own = {
            name: leaf[task] if leaf.ndim > len(head.shapes[name]) else leaf
            for name, leaf in tree.flatten(p).items()
        }
        labels = torch.as_tensor(problem.labels[task])
        expected = published(head, tree.unflatten(own), support[task], labels, query[task], problem.ways)
        assert torch.allclose(y[task], expected, rtol=0, atol=1e-10)


@with_problems()
def test_permuting_classes_permutes_outputs(head, problem):
    order = np.random.default_rng(0).permutation(problem.ways)
    p, support, target, query, _ = problem.arguments()
    y, _ = head.forward(p, support, target, query)
    permuted, _ = head.forward(p, support, target[..., order], query)
    np.testing.assert_allclose(permuted, y[..., order], rtol=0, atol=1e-12)


def permuted_support(head, problem):
    """How far the outputs move when the support set comes in another order."""
    p, support, target, query, _ = problem.arguments()
    y, _ = head.forward(p, support, target, query)
    return np.abs(head.forward(p, support[:, ::-1], target[:, ::-1], query)[0] - y).max()


@settings(max_examples=25)
@given(problem=problems(HEADS["plain"]))
def test_the_order_of_the_support_set_does_not_matter(problem):
    assert permuted_support(HEADS["plain"], problem) <= 1e-12


@settings(max_examples=10)
@given(problem=problems(HEADS["full context"], manners=["generic"], ways=3))
def test_the_order_of_the_support_set_is_part_of_the_full_context(problem):
    assert permuted_support(HEADS["full context"], problem) > 1e-8


@with_problems()
def test_other_queries_do_not_matter(head, problem):
    p, support, target, query, _ = problem.arguments()
    y, _ = head.forward(p, support, target, query)
    alone, _ = head.forward(p, support, target, query[:, :1])
    np.testing.assert_allclose(alone, y[:, :1], rtol=0, atol=1e-12)


@settings(max_examples=25)
@given(problem=problems(HEADS["plain"]), scales=st.tuples(*[st.sampled_from([1e-30, 1e-3, 1e3, 1e30])] * 2))
def test_cosine_is_free_of_scale(problem, scales):
    _, support, target, query, _ = problem.arguments()
    y, _ = HEADS["plain"].forward({}, support, target, query)
    scaled, _ = HEADS["plain"].forward({}, support * scales[0], target, query * scales[1])
    np.testing.assert_allclose(scaled, y, rtol=0, atol=1e-12)


@with_problems(manners=["generic", "duplicates"])
def test_single_precision_stays_close_to_double(head, problem):
    for name, norm in itertools.product(("numpy", "torch"), (1e-3, 1.0, 1e3)):
        scaled = Problem(problem.p, norm * problem.support, problem.labels, norm * problem.query, problem.gy)
        double = run_head(head, mltk.backend(name, dtype="float64"), *scaled.arguments())
        single = run_head(head, mltk.backend(name, dtype="float32"), *scaled.arguments())
        assert single["outputs"].dtype == np.float32
        for array in ("outputs", "support", "query"):
            size = np.abs(double[array]).max() + (1 if array == "outputs" else 1 / norm)
            np.testing.assert_allclose(single[array], double[array], rtol=0, atol=1e-3 * size, err_msg=array)


def embeddings(rng, convert=np.asarray):
    """Support, labels with unequal counts, query and its labels, of two tasks."""
    labels = np.asarray([[0, 1, 2, 1, 1], [2, 2, 0, 1, 0]])
    support, query = rng.normal(size=(2, 5, 4)), rng.normal(size=(2, 3, 4))
    return [convert(array) for array in (support, labels, query, np.asarray([[0, 1, 2], [2, 2, 1]]))]


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_functions_on_embeddings_are_the_plain_head(convert):
    support, labels, query, query_labels = embeddings(np.random.default_rng(0), convert)
    y = matching_log_probabilities(support, labels, query)
    target = np.eye(3)[np.asarray(labels)]
    head = MatchingHead()
    expected = head.predict({}, head.fit({}, np.asarray(support), target), np.asarray(query))
    np.testing.assert_allclose(np.asarray(y), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(
        np.asarray(y), np.asarray(matching_log_probabilities(support, labels, query, ways=3))
    )
    likelihood = -np.take_along_axis(expected, np.asarray(query_labels)[..., None], -1)
    loss = matching_loss(support, labels, query, query_labels)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(likelihood.mean(), abs=1e-12)
    cross_entropy, _ = mltk.ops.CrossEntropy().forward({"target": query_labels}, y)
    assert float(loss) == pytest.approx(float(cross_entropy.mean()), abs=1e-12)


def test_functions_are_finite_for_zero_vectors_and_duplicates_with_autograd():
    support, labels, query, query_labels = embeddings(np.random.default_rng(0), torch.as_tensor)
    support[0] = 0
    support[1, 1:] = support[1, 0]
    query[0, 0] = 0
    query[1, 0] = support[1, 0]
    support.requires_grad_()
    query.requires_grad_()
    loss = matching_loss(support, labels, query, query_labels)
    loss.backward()
    assert loss.isfinite()
    assert support.grad.isfinite().all()
    assert query.grad.isfinite().all()
    # All of the first task's support embeddings are alike, so each class counts as often as it occurs.
    y = matching_log_probabilities(support, labels, query)
    shares = torch.tensor([1, 3, 1], dtype=torch.float64) / 5
    assert torch.allclose(y[0], shares.log().expand(3, 3), rtol=0, atol=1e-12)


def test_a_class_without_examples_is_finite_and_as_good_as_impossible():
    rng = np.random.default_rng(0)
    support, query = rng.normal(size=(1, 2, 3)), rng.normal(size=(1, 2, 3))
    problem = Problem({}, support, np.asarray([[0, 2]]), query, rng.normal(size=(1, 2, 3)))
    expected = run_head(MatchingHead(), BACKENDS64["torch-autograd"], *problem.arguments())
    agree(run_head(MatchingHead(), BACKENDS64["numpy"], *problem.arguments()), expected)
    assert (expected["outputs"][..., 1] < -300).all()
    np.testing.assert_allclose(np.exp(expected["outputs"]).sum(-1), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("change", "raised", "message"),
    [
        ({"support": np.zeros((5, 4))}, ShapeError, r"support.*\(5, 4\).*\(T, N, "),
        ({"support": np.zeros((2, 5, 2, 2))}, ShapeError, r"support.*\(2, 5, 2, 2\).*\(T, N, d\)"),
        ({"support": np.zeros((2, 0, 4))}, ShapeError, "support.*empty"),
        ({"query": np.zeros((2, 3, 5))}, ShapeError, r"query.*\(2, 3, 5\).*\(2, M, 4\)"),
        ({"query": np.zeros((1, 3, 4))}, ShapeError, r"query.*\(1, 3, 4\).*\(2, M, 4\)"),
        ({"query": np.zeros((2, 3, 4), int)}, DtypeError, "query.*int64"),
        ({"query": np.zeros((2, 3, 4), np.float32)}, MismatchError, "query.*float32"),
        ({"support_y": np.zeros((2, 5))}, DtypeError, "support_y.*float64.*integer"),
        ({"support_y": np.zeros((2, 4), int)}, ShapeError, r"support_y.*\(2, 4\).*\(2, 5\)"),
        ({"support_y": np.full((2, 5), -1)}, LabelError, "support_y.*-1"),
        ({"support_y": np.full((2, 5), 1)}, LabelError, "support_y of task 0.*class 0.*2 classes"),
        ({"query_y": np.full((2, 3), 3)}, LabelError, "query_y.*3.*0..2"),
        ({"query_y": np.zeros((2, 2), int)}, ShapeError, r"query_y.*\(2, 2\).*\(2, 3\)"),
        ({"query_y": np.zeros((2, 3))}, DtypeError, "query_y.*float64"),
        ({"ways": 2}, LabelError, "support_y.*2.*0..1"),
        ({"ways": 4}, LabelError, "support_y of task 0.*class 3"),
        ({"ways": 0}, SettingError, "ways.*0"),
    ],
)
def test_bad_input_of_the_functions(convert, change, raised, message):
    names = ("support", "support_y", "query", "query_y")
    arguments = dict(zip(names, embeddings(np.random.default_rng(0)), strict=True)) | change
    ways = arguments.pop("ways", None)
    with pytest.raises(raised, match=message):
        matching_loss(**{name: convert(array) for name, array in arguments.items()}, ways=ways)
