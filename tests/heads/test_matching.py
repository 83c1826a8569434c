"""Matching networks: their heads are those of the paper, and the functions on embeddings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from assertions import agree
from head_problems import Problem, problems
from hypothesis import given, settings
from hypothesis import strategies as st

import mltk
from mltk import tree
from mltk.errors import DtypeError, LabelError, MismatchError, SettingError, ShapeError
from mltk.heads import FullContextMatchingHead, MatchingHead, matching_log_probabilities, matching_loss

KINDS = ("matching", "matching, full context")


def published(head, p, support, labels, query, ways):
    """The log-probabilities of one task after the formulas of the paper, in Torch, one query at a time."""
    features = support.shape[-1]
    if isinstance(head, FullContextMatchingHead):
        lstm = torch.nn.LSTM(features, features, bidirectional=True, dtype=torch.float64)
        state = {f"{name}_l0": leaf for name, leaf in p["forward"].items()}
        state |= {f"{name}_l0_reverse": leaf for name, leaf in p["backward"].items()}
        lstm.load_state_dict(state)
        outputs, _ = lstm(support)
        support = outputs[:, :features] + outputs[:, features:] + support
    rows = []
    for q in query:
        f = q
        if isinstance(head, FullContextMatchingHead):
            own, cell = p["attention"], torch.zeros(features, dtype=torch.float64)
            for _ in range(head.processing_steps):
                read = torch.softmax(support @ f, 0) @ support
                z = own["weight_ih"] @ q + own["weight_hh"] @ torch.cat([f, read])
                i, forget, g, o = (z + own["bias_ih"] + own["bias_hh"]).chunk(4)
                cell = forget.sigmoid() * cell + i.sigmoid() * g.tanh()
                f = o.sigmoid() * cell.tanh() + q
        attention = torch.softmax(F.cosine_similarity(support, f[None], dim=1) / head.temperature, 0)
        rows.append(torch.stack([attention[labels == label].sum() for label in range(ways)]).log())
    return torch.stack(rows).detach()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_outputs_are_those_of_the_paper(kind, data):
    problem = data.draw(problems(kind, flaws=data.draw(st.sampled_from(["", "duplicates"]))))
    head, p = problem.head, tree.map(torch.as_tensor, problem.p)
    support, target, query = map(torch.as_tensor, (problem.support, problem.target, problem.query))
    y = head.predict(p, head.fit(p, support, target), query)
    assert torch.allclose(y.exp().sum(-1), torch.ones_like(y[..., 0]), rtol=0, atol=1e-12)
    for task in range(len(y)):
        own = tree.map(torch.as_tensor, problem.one(task).p)
        own = {name: leaf.reshape(head.shapes[name]) for name, leaf in tree.flatten(own).items()}
        labels = torch.as_tensor(problem.labels[task])
        expected = published(head, tree.unflatten(own), support[task], labels, query[task], problem.ways)
        assert torch.allclose(y[task], expected, rtol=0, atol=1e-10)


@settings(max_examples=10)
@given(problem=problems("matching, full context", flaws="", features=3, ways=3))
def test_the_order_of_the_support_set_is_part_of_the_full_context(problem):
    other = replace(problem, support=problem.support[:, ::-1], target=problem.target[:, ::-1])
    assert np.abs(other.by_hand()["outputs"] - problem.by_hand()["outputs"]).max() > 1e-8


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


def test_a_class_without_examples_is_finite_and_as_good_as_impossible(backend64):
    rng = np.random.default_rng(0)
    support, query = rng.normal(size=(1, 2, 3)), rng.normal(size=(1, 2, 3))
    target = np.eye(3)[np.asarray([[0, 2]])]
    problem = Problem(MatchingHead(), {}, support, target, query, rng.normal(size=(1, 2, 3)))
    found = problem.run(backend64)
    agree(found, problem.run(mltk.backend("torch", dtype="float64", engine="autograd")), atol=1e-10)
    assert (found["outputs"][..., 1] < -300).all()
    np.testing.assert_allclose(np.exp(found["outputs"]).sum(-1), 1, rtol=0, atol=1e-12)


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
