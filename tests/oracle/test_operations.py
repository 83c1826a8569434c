"""Operations, losses and estimators of the oracle: independent ways agree, and a wrong one is caught."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mltk
from mltk import ops
from mltk.ops.activation import ACTIVATIONS
from mltk.oracle.case import flat
from mltk.oracle.computation import NUMPY, TORCH
from mltk.oracle.computations import computation, computations, estimators, losses, operations
from mltk.oracle.confirmation import VectorError, complete, rounded
from mltk.oracle.random_cases import completed, search
from mltk.oracle.tolerance import disagreement, tolerance
from mltk.oracle.vectors import stored

COMPUTATIONS = {
    each.name: each for family in (operations, losses, estimators) for each in family.COMPUTATIONS
}
RANDOM = [name for name, each in COMPUTATIONS.items() if each.random is not None]
CASES = [
    pytest.param(name, case.name, id=f"{name}-{case.name}")
    for name, each in COMPUTATIONS.items()
    for case in stored(name)
]


def case_of(name, case):
    return next(each for each in stored(name) if each.name == case)


@cache
def completed_with_errors(name, case):
    """A case with its outputs and condition, and how far each way is from them."""
    return complete(COMPUTATIONS[name], case_of(name, case))


def exact(name, case):
    found = case_of(name, case)
    return rounded(COMPUTATIONS[name].exact(found.settings, found.inputs))


@pytest.mark.parametrize(("name", "case"), CASES)
def test_hand_derived_rules_and_autograd_are_what_50_digits_say(name, case):
    done, found = completed_with_errors(name, case)
    computed, case = COMPUTATIONS[name], case_of(name, case)
    if case.kind == "must-raise":
        assert done.raises
        return
    assert found.keys() == {NUMPY, TORCH}
    assert done.expected.keys() == computed.outputs.keys()
    assert done.expected["value"].shape == case.inputs["gy"].shape
    assert done.expected["jvp"].shape == case.inputs["gy"].shape
    learned = {"x": case.inputs["dx"], **case.inputs.get("dparams", {})}
    for group in ("vjp", "tangent_of_vjp"):
        assert {name: g.shape for name, g in done.expected[group].items()} == {
            name: array.shape for name, array in learned.items()
        }
    assert all(np.isfinite(array).all() for array in flat(done.expected).values())


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_correct_implementations_in_single_precision_are_not_accused(monkeypatch, name):
    computed, single = COMPUTATIONS[name], np.dtype("float32")
    kept = [case.name for case in stored(name) if case.kind != "must-raise"]
    cases = [completed_with_errors(name, case)[0] for case in kept]
    backend = mltk.backend
    monkeypatch.setattr(
        "mltk.oracle.computations.operations.choose_backend",
        lambda name, dtype, engine: backend(name, engine=engine, dtype=single.name),
    )
    for case in cases:
        allowed = tolerance(case, single)
        assert allowed < 0.1 or case.name == "offset"  # else the case says nothing
        for route in computed.routes.values():
            outputs = route(case.settings, case.inputs)
            assert outputs["value"].dtype == single
            assert disagreement(outputs, case.expected) <= allowed


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_tangents_and_cotangents_are_adjoint(name):
    """Which no way enforces: ⟨gy, dy⟩ is ⟨x̄, dx⟩, and likewise for all learned parameters together."""
    for case in stored(name):
        if case.kind != "valid":
            continue
        outputs = COMPUTATIONS[name].reference(case.settings, case.inputs)
        tangents = {"x": case.inputs["dx"], **case.inputs.get("dparams", {})}
        here = (case.inputs["gy"] * outputs["jvp"]).sum()
        there = [(outputs["vjp"][key] * tangent).sum() for key, tangent in tangents.items()]
        np.testing.assert_allclose(here, sum(there), rtol=0, atol=1e-11 * (1 + np.abs(there).max()))


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_each_computation_has_cases_in_which_everything_counts(name):
    cases = stored(name)
    assert computation(name) is COMPUTATIONS[name]
    assert len({case.name for case in cases}) == len(cases)
    assert sum(case.kind == "valid" for case in cases) >= 3
    assert any(case.kind == "edge" for case in cases) or name == "op-drop-rows"
    assert any(case.kind == "must-raise" for case in cases) or name in PERMISSIVE
    assert any(len(case.inputs["x"]) > 2 for case in cases)
    assert all(case.comment for case in cases)


PERMISSIVE = (*(f"op-{name}" for name in ACTIVATIONS), "categorical")
"""What takes every input of its dtype."""


def completed_case(name):
    """The first valid case, with its outputs and condition."""
    first = next(case for case in stored(name) if case.kind == "valid")
    return completed_with_errors(name, first.name)[0]


@pytest.mark.parametrize("output", ["value", "jvp", "vjp", "tangent_of_vjp"])
@pytest.mark.parametrize("name", COMPUTATIONS)
@pytest.mark.parametrize("route", [NUMPY, TORCH])
def test_an_error_in_one_way_is_caught(name, output, route):
    computed, case = COMPUTATIONS[name], completed_case(name)

    def wrong(settings, inputs):
        outputs = computed.routes[route](settings, inputs)
        changed = outputs[output]
        if isinstance(changed, dict):
            last = [*changed][-1]
            changed = {**changed, last: _changed(changed[last])}
        else:
            changed = _changed(changed)
        return {**outputs, output: changed}

    routes = {**computed.routes, route: wrong}
    broken = dataclasses.replace(computed, routes=routes, exact=lambda settings, inputs: case.expected)
    with pytest.raises(VectorError, match=route):
        complete(broken, case)


def _changed(array):
    """One number, the largest, by a part in a million."""
    array = np.array(array)
    array.flat[np.abs(array).argmax()] *= 1 + 1e-6
    array.flat[np.abs(array).argmax()] += 1e-6
    return array


RULES = [
    ("op-linear", ops.Linear, "jvp_of_vjp"),
    ("op-convolution", ops.Convolution, "vjp"),
    ("op-batch-norm", ops.BatchNorm, "jvp_of_vjp"),
    ("op-lstm", ops.LSTM, "jvp"),
    ("op-attention", ops.Attention, "jvp_of_vjp"),
    ("op-max-pool", ops.MaxPool, "vjp"),
    ("mse", ops.MeanSquaredError, "jvp_of_vjp"),
    ("cross-entropy", ops.CrossEntropy, "vjp"),
    ("magic-box", ops.MagicBox, "jvp_of_vjp"),
    ("policy-loss", ops.PolicyLoss, "vjp"),
]


@pytest.mark.parametrize(("name", "kind", "rule"), RULES)
def test_a_wrong_rule_of_an_operation_is_caught(monkeypatch, name, kind, rule):
    right = getattr(kind, rule)

    def wrong(self, *arguments, **options):
        found = right(self, *arguments, **options)
        return (found[0], 2 * found[1]) if isinstance(found, tuple) else 2 * found

    monkeypatch.setattr(kind, rule, wrong)
    computed = COMPUTATIONS[name]
    with pytest.raises(VectorError, match=NUMPY):
        complete(computed, next(case for case in stored(name) if case.kind == "valid"))


@pytest.mark.parametrize("name", RANDOM)
@given(st.data())
@settings(max_examples=20)
def test_random_cases_are_mostly_kept_and_both_ways_agree(name, data):
    computed = COMPUTATIONS[name]
    case = completed(computed, computed.random(data.draw), "float64")
    assume(case is not None)
    found = computed.routes[TORCH](case.settings, case.inputs)
    assert disagreement(found, case.expected) <= tolerance(case, np.dtype("float64"))


@pytest.mark.parametrize("name", [name for name, each in computations().items() if each.random is not None])
def test_the_check_draws_random_cases_of_every_computation_and_keeps_most(name):
    seen = []
    search(computation(name), seen.append, dtype="float64", examples=10, seed=0)
    assert len(seen) >= 5


# What the comments of edge cases say.


def test_the_slope_of_relu_at_zero_is_zero():
    case, outputs = case_of("op-relu", "at-zero"), exact("op-relu", "at-zero")
    zero = case.inputs["x"] == 0
    assert zero.sum() >= 5
    assert not outputs["jvp"][zero].any()
    assert not outputs["vjp"]["x"][zero].any()
    positive = case.inputs["x"] > 0
    assert (outputs["vjp"]["x"][positive] == case.inputs["gy"][positive]).all()


@pytest.mark.parametrize("name", ["ties", "constant"])
def test_the_first_of_equal_pixels_takes_the_whole_cotangent(name):
    case, outputs = case_of("op-max-pool", name), exact("op-max-pool", name)
    x, gy = case.inputs["x"], case.inputs["gy"]
    expected = np.zeros_like(x)
    for at in np.ndindex(gy.shape):
        lead, (row, column) = at[:3], at[3:]
        window = x[(*lead, slice(row, row + 2), slice(column, column + 2))]
        assert (window == window.max()).sum() > 1 or name == "ties"
        i, j = np.unravel_index(window.argmax(), (2, 2))  # NumPy's is the first, too
        expected[(*lead, row + i, column + j)] += gy[at]
    np.testing.assert_allclose(outputs["vjp"]["x"], expected, atol=1e-15)


@pytest.mark.parametrize("name", ["op-convolution", "op-max-pool", "op-average-pool"])
def test_pixels_that_strides_leave_out_get_zeros(name):
    outputs = exact(name, "left-out")["vjp"]["x"]
    assert not outputs[..., -1].any()
    assert outputs.any()


def test_an_image_of_negative_pixels_never_gives_its_border():
    assert (exact("op-max-pool", "negative-border")["value"] < 0).all()


def test_border_counts_as_zeros():
    case = case_of("op-average-pool", "border")
    x = case.inputs["x"]
    corner = exact("op-average-pool", "border")["value"][..., 0, 0]
    np.testing.assert_allclose(corner, x[..., 0, 0] / 4, rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "case"), [("op-batch-norm", "one-example"), ("op-layer-norm", "one-feature")]
)
def test_without_a_spread_the_output_is_the_bias(name, case):
    bias = case_of(name, case).inputs["params"]["0.bias"]
    value = exact(name, case)["value"]
    assert (value == np.broadcast_to(bias, value.shape)).all()


@pytest.mark.parametrize(("name", "dtype"), [("offset", "float64"), ("offset-exact", "float32")])
def test_variances_by_the_mean_of_squares_are_caught(name, dtype):
    case, _ = completed_with_errors("op-batch-norm", name)
    weight, bias = (case.inputs["params"][f"0.{key}"].astype(dtype) for key in ("weight", "bias"))
    x = case.inputs["x"].astype(dtype)
    mean, squares = x.mean(1, keepdims=True), (x * x).mean(1, keepdims=True)

    def off(variance):
        value = (x - mean) / np.sqrt(np.abs(variance) + x.dtype.type(1e-5)) * weight + bias
        return disagreement({"value": value}, case.expected) / tolerance(case, x.dtype)

    assert off(((x - mean) ** 2).mean(1, keepdims=True)) < 0.1
    assert off(squares - mean * mean) > 10


def test_constants_and_first_rows_decide_who_sees_whom():
    """In batch norm the last example changes others only if it counts."""
    for name, others_move in (("vectors-per-task", True), ("first-rows", False), ("population", False)):
        case = case_of("op-batch-norm", name)
        x = case.inputs["x"].copy()
        x[:, -1] += 0.5
        reference = COMPUTATIONS["op-batch-norm"].reference
        before = reference(case.settings, case.inputs)["value"]
        after = reference(case.settings, {**case.inputs, "x": x})["value"]
        assert np.allclose(before[:, :-1], after[:, :-1], rtol=0, atol=1e-12) is not others_move
        assert not np.allclose(before[:, -1], after[:, -1])


def test_the_exponential_of_huge_numbers_is_never_taken():
    for name in ACTIVATIONS.keys() - {"relu"}:
        case = case_of(f"op-{name}", "huge")
        expected = getattr(F, name)(torch.tensor(case.inputs["x"])).numpy()
        np.testing.assert_allclose(exact(f"op-{name}", "huge")["value"], expected, rtol=1e-14, atol=1e-15)


def test_equal_logits_lose_the_logarithm_of_the_number_of_classes():
    np.testing.assert_allclose(exact("cross-entropy", "equal-logits")["value"], np.log(4), rtol=1e-15)
    one = exact("cross-entropy", "one-class")
    assert not any(array.any() for array in flat(one).values())


def test_naive_softmax_fails_the_huge_logits():
    case = case_of("cross-entropy", "huge-logits")
    with np.errstate(all="ignore"):
        naive = np.log(np.exp(case.inputs["x"]).sum(-1))
    assert not np.isfinite(naive).all()
    assert np.isfinite(exact("cross-entropy", "huge-logits")["value"]).all()


MISTAKES = {
    "box treated as a constant": (
        "surrogate",
        "costs",
        "vjp",
        lambda logs, c, b: (0 * logs + c).sum((-2, -1)),
    ),
    "baseline missing": (
        "surrogate",
        "baseline",
        "vjp",
        lambda logs, c, b: (boxed(logs.cumsum(-1)) * c).sum((-2, -1)),
    ),
    "baseline in the value": (
        "surrogate",
        "baseline",
        "value",
        lambda logs, c, b: (boxed(logs.cumsum(-1)) * (c - b)).sum((-2, -1)),
    ),
    "later actions weigh costs": (
        "surrogate",
        "costs",
        "vjp",
        lambda logs, c, b: (boxed(logs.sum(-1, keepdim=True)) * c).sum((-2, -1)),
    ),
    "plain score function": (
        "surrogate",
        "three-tasks",
        "tangent_of_vjp",
        lambda logs, c, b: (logs * (c.flip(-1).cumsum(-1).flip(-1) - b)).sum((-2, -1)),
    ),
}


def boxed(x):
    return torch.exp(x - x.detach())


@pytest.mark.parametrize("mistake", MISTAKES)
def test_estimators_that_are_wrong_in_known_ways_are_caught(mistake):
    name, label, output, formula = MISTAKES[mistake]
    case = case_of(name, label)
    logs, costs, gy, dx, dgy = (torch.tensor(case.inputs[key]) for key in ("x", "costs", "gy", "dx", "dgy"))
    baseline = torch.tensor(case.inputs["baseline"]) if "baseline" in case.inputs else None

    def outputs(function):
        x = logs.clone().requires_grad_()
        y = function(x, costs, baseline) / logs.shape[1]
        (pulled,) = torch.autograd.grad((gy * y).sum(), x, create_graph=True)
        moved = torch.autograd.grad((dx * pulled).sum() + 0 * x.sum() + (dgy * y).sum(), x)[0]
        return {
            "value": y.detach().numpy(),
            "vjp": {"x": pulled.detach().numpy()},
            "tangent_of_vjp": {"x": moved.numpy()},
        }

    def right(x, costs, baseline):
        total = (boxed(x.cumsum(-1)) * costs).sum((-2, -1))
        return total if baseline is None else total + ((1 - boxed(x)) * baseline).sum((-2, -1))

    expected = exact(name, label)
    assert disagreement(outputs(right), expected) < 1e-12
    assert disagreement({output: outputs(formula)[output]}, expected) > 1e-3


def test_without_boxes_the_gradient_is_right_and_its_tangent_is_not():
    case = case_of("policy-loss", "categorical")
    plain = {**case.settings, "box": False}
    boxes, none = (rounded(COMPUTATIONS["policy-loss"].exact(s, case.inputs)) for s in (case.settings, plain))
    assert disagreement({"vjp": none["vjp"]}, boxes) < 1e-14
    assert disagreement({"tangent_of_vjp": none["tangent_of_vjp"]}, boxes) > 0.1
