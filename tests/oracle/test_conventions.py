"""Where truth is a convention, or the definition itself cancels, no verdict rests on it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from oracle_candidates import plain_reptile

from mltk.oracle import vectors
from mltk.oracle.check import check
from mltk.oracle.computation import NUMPY
from mltk.oracle.computations import computation, computations
from mltk.oracle.random_cases import completed
from mltk.oracle.report_text import to_text
from mltk.oracle.tolerance import disagreement


def by_similarity(similarity):
    """Matching networks over a similarity of Torch."""

    def matching(params, data, settings):
        s, q = data.support_x.clone().requires_grad_(), data.query_x.clone().requires_grad_()
        attention = torch.softmax(similarity(q, s) / settings.temperature, -1)
        logits = torch.log(attention @ F.one_hot(data.support_y, settings.ways).to(s))
        loss = F.nll_loss(logits.transpose(1, 2), data.query_y)
        gradients = dict(zip(("support_x", "query_x"), torch.autograd.grad(loss, (s, q)), strict=True))
        return {"logits": logits, "loss": loss, "gradients": gradients}

    return matching


def pairs(similarity):
    """All pairs of two sets by a similarity of Torch."""

    def function(params, data, settings):
        a, b = data.a.clone().requires_grad_(), data.b.clone().requires_grad_()
        value = similarity(a, b)
        gradients = dict(zip("ab", torch.autograd.grad(value, (a, b), data.gy), strict=True))
        return {"value": value, "gradients": gradients}

    return function


def cosines(a, b):
    return F.cosine_similarity(a.unsqueeze(2), b.unsqueeze(1), dim=-1)


def normalised(a, b):
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT


def divided(a, b):
    """NaN for vectors of zero."""
    return (a / a.norm(dim=-1, keepdim=True)) @ (b / b.norm(dim=-1, keepdim=True)).mT


@pytest.mark.parametrize("similarity", [cosines, normalised, divided])
def test_slopes_of_cosines_at_zero_are_remarks(similarity):
    for candidate, name, conventional in (
        (by_similarity(similarity), "matching", {"cosine-zero-embeddings"}),
        (pairs(similarity), "pairwise-cosine-similarity", {"zeros", "tiny-and-huge"}),
    ):
        report = check(candidate, [name], examples=60)
        (found,) = report.verdicts
        assert (found.verdict, found.failed, found.diagnosis) == ("correct", (), None)
        assert {each.case.name for each in found.remarks} <= conventional
        assert found.remarks
        assert "another convention, no mistake" in to_text(report)
        assert report.to_json()["verdicts"][0]["remarks"][0]["convention"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_reptile_that_subtracts_weights_is_right(dtype):
    report = check(plain_reptile, ["reptile"], dtype=dtype, examples=40)
    (found,) = report.verdicts
    assert (found.verdict, found.failed) == ("correct", ())
    assert [each.case.name for each in found.remarks] == ["zero-rate"]  # 0/0


def test_a_reptile_that_is_wrong_is_still_found():
    def slightly_off(params, data, settings):
        loss, gradients = plain_reptile(params, data, settings)
        return loss, {name: g * (1 + 1e-6) for name, g in gradients.items()}

    (found,) = check(slightly_off, ["reptile"], examples=0).verdicts
    assert found.verdict == "wrong"
    assert len(found.failed) > 10


def test_what_reptile_subtracts_is_in_its_condition():
    for case in vectors.stored("reptile"):
        if case.expected and case.settings["inner_lr"]:
            weights = max(np.abs(p).max() for p in case.inputs["params"].values())
            gradients = max(np.abs(g).max() for g in case.expected["gradients"].values())
            assert case.condition >= 0.95 * weights / case.settings["inner_lr"] / gradients


def test_no_ordinary_case_lies_on_a_kink():
    for name, each in computations().items():
        for case in vectors.stored(name):
            if case.kind == "valid":
                assert not case.convention
                near = {**case.inputs, **_moved(case.inputs, 1e-9)}
                found = each.routes[NUMPY](case.settings, near)
                assert disagreement(found, case.expected) < 1e-4, (name, case.name)


def _moved(inputs, change):
    rng = np.random.default_rng(0)

    def moved(value):
        if isinstance(value, dict):
            return {key: moved(each) for key, each in value.items()}
        return value + change * rng.uniform(-1, 1, value.shape) if value.dtype.kind == "f" else value

    return {key: value if key == "actions" else moved(value) for key, value in inputs.items()}  # labels


def test_drawn_vectors_of_zero_are_thrown_away():
    cosine = computation("pairwise-cosine-similarity")
    case = next(
        case for case in vectors.stored(cosine.name) if case.kind == "edge" and case.name == "one-pair"
    )
    assert completed(cosine, case, "float64") is not None
    zeros = {**case.inputs, "b": np.zeros_like(case.inputs["b"])}
    assert completed(cosine, type(case)(case.name, "edge", "", case.settings, zeros), "float64") is None


def pulled_back(function):
    """The value of an operation and its pullback, by Torch's autograd."""

    def candidate(params, data, settings):
        x = data.x.flatten(0, 1).requires_grad_()
        value = function(x, settings)
        (gx,) = torch.autograd.grad(value, x, data.gy.reshape(value.shape))
        return {"value": value.reshape(data.gy.shape), "vjp": {"x": gx.reshape(data.x.shape)}}

    return candidate


def split_among_equals(x, settings):
    """Max pooling whose slope goes in equal parts to all largest pixels, as that of `amax`."""
    layer = settings.layers[0]
    pairs = {name: each if isinstance(each, list) else [each, each] for name, each in layer.items()}
    size, padding = pairs["kernel_size"], pairs["padding"]
    stride = size if layer["stride"] is None else pairs["stride"]
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]), value=-torch.inf)
    windows = x.unfold(2, size[0], stride[0]).unfold(3, size[1], stride[1])
    return windows.amax((-1, -2))


@pytest.mark.parametrize(
    ("name", "function", "conventional"),
    [
        ("op-relu", lambda x, settings: torch.maximum(x, torch.zeros_like(x)), ["at-zero"]),
        ("op-relu", lambda x, settings: x.clamp(min=0), ["at-zero"]),
        ("op-max-pool", split_among_equals, ["ties", "constant"]),
    ],
)
def test_other_slopes_at_a_kink_are_remarks(name, function, conventional):
    (found,) = check(pulled_back(function), [name], examples=20).verdicts
    assert (found.verdict, found.failed) == ("correct", ()), found.message
    assert [each.case.name for each in found.remarks] == conventional
