"""Heads in the oracle: their cases are confirmed, and their known mistakes are exact and told apart."""

import dataclasses
import itertools
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mltk.oracle import vectors
from mltk.oracle.case import flat
from mltk.oracle.catalogue import hardness, heads
from mltk.oracle.catalogue.head_ways import outputs
from mltk.oracle.catalogue.mistake import Family
from mltk.oracle.computation import TORCH
from mltk.oracle.computations.hardness import COMPUTATIONS as HARDNESS
from mltk.oracle.computations.heads import COMPUTATIONS
from mltk.oracle.confirmation import complete, rounded
from mltk.oracle.definitions.head_knobs import Knobs
from mltk.oracle.definitions.linear_heads import least_squares
from mltk.oracle.definitions.tensor import constant, grad, variable
from mltk.oracle.diagnosis import diagnose
from mltk.oracle.diagnosis.explain import DISTINCT, LENIENT
from mltk.oracle.random_cases import completed
from mltk.oracle.tolerance import disagreement, tolerance

BY_NAME = {computation.name: computation for computation in (*COMPUTATIONS, *HARDNESS)}
MISTAKES = (*heads.MISTAKES, *hardness.MISTAKES)
DOUBLE = np.dtype(np.float64)
NOT_DERIVATIVES = {  # gradients that are wrong in themselves
    "gradient-of-the-number-itself",
    "learned-numbers-without-gradient",
    "queries-without-gradient",
    "support-without-gradient",
    "solution-is-constant",
    "newton-steps",
}


@cache
def drafts(name):
    return vectors.stored(name)


@cache
def generic(name):
    """The ordinary cases, with their outputs."""
    return tuple(complete(BY_NAME[name], case)[0] for case in drafts(name) if case.kind == "valid")


def ways_of(name):
    """Each way of each mistake of a computation, under a label: with a number, its customary values."""
    for mistake in MISTAKES:
        if name not in mistake.computations:
            continue
        for way in mistake.variants:
            if not isinstance(way, Family):
                yield f"{mistake.name} ({way.detail})", mistake, way.outputs
                continue
            for number in way.starts:
                yield (
                    f"{mistake.name} ({way.number} {number})",
                    mistake,
                    lambda s, i, way=way, number=number: way.outputs(s, i, number),
                )


@cache
def made(name):
    """What each way gives on the ordinary cases: the truth where it cannot happen; none that never can."""
    found = {}
    for label, _, way in ways_of(name):
        results = [way(case.settings, case.inputs) for case in generic(name)]
        results = [each if finite(each) else None for each in results]
        if any(each is not None for each in results):
            found[label] = [
                case.expected if each is None else each
                for case, each in zip(generic(name), results, strict=True)
            ]
    return found


def finite(values):
    return values is not None and all(np.isfinite(array).all() for array in flat(values).values())


def apart(case, a, b):
    """How many tolerances two outputs differ by."""
    if a.keys() != b.keys():
        return np.inf
    return max(disagreement(a, b), disagreement(b, a)) / tolerance(case, DOUBLE)


EVERY = [(name, case) for name in BY_NAME for case in drafts(name)]
REFUSED = {
    "nan": "NotFiniteError",
    "infinite": "NotFiniteError",
    "label-too-large": "LabelError",
    "negative-label": "LabelError",
    "empty-class": "LabelError",
    "fewer": "ShapeError",
    "other-features": "ShapeError",
    "no-task-axis": "ShapeError",
    "no-query": "ShapeError",
    "no-example": "ShapeError",
    "no-rows": "ShapeError",
    "lambda-for": "ShapeError",
    "zero-lambda": "SettingError",
    "negative-lambda": "SettingError",
    "zero-scale": "SettingError",
    "zero-temperature": "SettingError",
    "negative-temperature": "SettingError",
    "too-cold": "SettingError",
    "unknown-distance": "SettingError",
    "no-reading": "SettingError",
    "no-step": "SettingError",
    "one-way": "SettingError",
    "temperature-missing": "TreeError",
    "missing-bias": "TreeError",
    "two-lambdas": "TreeError",
}


@pytest.mark.parametrize(("name", "case"), EVERY, ids=[f"{name}-{case.name}" for name, case in EVERY])
def test_fifty_digits_numpy_and_torch_agree(name, case):
    done, found = complete(BY_NAME[name], case)
    if case.kind == "must-raise":
        assert done.raises == next(error for start, error in REFUSED.items() if case.name.startswith(start))
    else:
        assert set(found) == set(BY_NAME[name].routes)
        assert set(done.expected) == set(BY_NAME[name].outputs)
        assert max(found.values()) < 1e-13  # however badly the customary algorithms may be conditioned


@pytest.mark.parametrize("name", BY_NAME)
def test_there_are_three_ordinary_cases_whose_sizes_differ(name):
    assert len(generic(name)) >= 3
    for case in generic(name):
        if "support_x" in case.inputs:
            tasks, support, features = case.inputs["support_x"].shape
            sizes = [tasks, support, case.inputs["query_x"].shape[1]]
            assert len(set(sizes)) == 3, case.name
            ways = case.settings["ways"]
            if ways:
                counts = (case.inputs["support_y"][0][:, None] == np.arange(ways)).sum(0)
                in_order = (np.diff(case.inputs["support_y"]) >= 0).all()
                assert (len(set(counts)) == 1) == in_order, case.name  # balanced and in order, or neither
                assert features != ways, case.name


@pytest.mark.parametrize("name", BY_NAME)
def test_without_a_mistake_the_catalogue_gives_the_truth(name):
    for case in drafts(name):
        if case.kind == "must-raise":
            continue
        case, _ = complete(BY_NAME[name], case)
        found = outputs(Knobs(), case.settings, case.inputs)
        allowed = LENIENT * tolerance(case, DOUBLE) if case.kind == "valid" else 1e-10
        assert set(found) == set(case.expected)
        assert disagreement(found, case.expected) <= allowed, case.name


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("examples", [3, 6])  # fewer than features, and more
def test_the_exact_ridge_fit_is_where_the_penalised_squares_are_least(examples, intercept):
    rng = np.random.default_rng(0)
    x, y = constant(rng.normal(size=(2, examples, 4))), constant(rng.normal(size=(2, examples, 3)))
    fit = least_squares(Knobs(), x, y, constant(0.7), intercept=intercept)
    weight, bias = (variable(each.value) for each in fit)
    error = x @ weight + bias - y
    slopes = grad((error * error).sum() + 0.7 * (weight * weight).sum(), [weight, bias])
    assert np.abs(slopes[0].double()).max() < 1e-45
    assert np.abs(slopes[1].double()).max() < 1e-45 if intercept else not bias.double().any()


def product(name, case, values):
    """The number that gradients are of."""
    if "loss" in values:
        return values["loss"]
    if name == "ridge-regression":
        inputs = case.inputs
        return (values["weight"] * inputs["g_weight"]).sum() + (values["bias"] * inputs["g_bias"]).sum()
    if name == "hardness":
        return values["hardness"].sum()
    return (values["value"] * case.inputs["gy"]).sum()


@pytest.mark.parametrize("name", BY_NAME)
def test_gradients_of_each_mistake_are_those_of_its_loss(name):
    rng = np.random.default_rng(0)
    judged = 0
    for label, mistake, way in ways_of(name):
        if mistake.name in NOT_DERIVATIVES:
            continue
        for case in generic(name):
            here = way(case.settings, case.inputs)
            if not finite(here):
                continue
            along = {key: rng.normal(size=g.shape) for key, g in here["gradients"].items()}
            there, back = (moved(case, along, sign * 1e-5) for sign in (1, -1))
            difference = product(name, case, way(case.settings, there)) - product(
                name, case, way(case.settings, back)
            )
            slope = sum((g * along[key]).sum() for key, g in here["gradients"].items())
            scale = max(np.abs(g).max(initial=0.0) for g in here["gradients"].values())
            assert difference / 2e-5 == pytest.approx(slope, rel=1e-4, abs=1e-5 * scale + 1e-9), label
            judged += 1
            break
    assert judged >= 5


def moved(case, along, step):
    """Inputs, some way along a direction."""
    inputs = {**case.inputs, "params": dict(case.inputs.get("params", {}))}
    for key, direction in along.items():
        group = inputs["params"] if key in inputs["params"] else inputs
        group[key] = group[key] + step * direction
    if not inputs["params"]:
        del inputs["params"]
    return inputs


@pytest.mark.parametrize("name", BY_NAME)
def test_each_mistake_differs_from_the_truth(name):
    for label, results in made(name).items():
        distances = [apart(c, each, c.expected) for c, each in zip(generic(name), results, strict=True)]
        assert max(distances) > DISTINCT, label


@pytest.mark.parametrize("name", BY_NAME)
def test_no_two_mistakes_are_alike(name):
    assert len(made(name)) >= 5
    for (label, one), (other, two) in itertools.combinations(made(name).items(), 2):
        distances = (apart(c, a, b) for c, a, b in zip(generic(name), one, two, strict=True))
        assert any(distance > DISTINCT for distance in distances), f"{label} and {other}"


@pytest.mark.parametrize("mistake", MISTAKES, ids=[f"{m.name}-{m.computations[0]}" for m in MISTAKES])
def test_each_way_happens_somewhere(mistake):
    assert set(mistake.computations) <= set(BY_NAME)
    for way in mistake.variants:
        detail = way.number if isinstance(way, Family) else way.detail
        label = f"{mistake.name} ({detail}"
        assert any(made_label.startswith(label) for name in mistake.computations for made_label in made(name))


FITTED = [
    ("prototypical", {"smoothing": 0.13}, "label-smoothing"),
    ("prototypical", {"temperature": lambda t: 0 * t + 3.3}, "temperature-left-out"),
    ("prototypical", {"factor": lambda d: 1.7}, "logits-scaled"),
    ("matching", {"log_epsilon": 0.002}, "epsilon-in-logarithm"),
    ("matching", {"epsilon": 0.0005}, "epsilon-in-length"),
    ("matching", {"epsilon_inside": 0.0005}, "epsilon-in-length"),
    ("matching", {"smoothing": 0.3}, "label-smoothing"),
    ("ridge", {"penalty": lambda s, n, d: 0 * s + 3.7}, "regulariser-left-out"),
    ("ridge", {"penalty": lambda s, n, d: s + 0.0037}, "regulariser-jitter"),
    ("ridge", {"target": lambda t: 0.93 * t + 0.07 / t.shape[-1]}, "targets-recoded"),
    ("logistic", {"penalty": lambda s, n, d: s + 0.0037}, "regulariser-jitter"),
    ("ridge-regression", {"penalty": lambda s, n, d: 0 * s + 3.7}, "regulariser-left-out"),
]


@pytest.mark.parametrize(("name", "knobs", "mistake"), FITTED)
def test_unknown_numbers_are_fitted(name, knobs, mistake):
    results = [(case, outputs(Knobs(**knobs), case.settings, case.inputs)) for case in generic(name)]
    results = [(case, case.expected if each is None else each) for case, each in results]
    assert diagnose(BY_NAME[name], results, DOUBLE).names == (mistake,)


def full_context(case, *, skip=True):
    """Matching with full context embeddings by Torch's own LSTMs and autograd."""
    d = case.inputs["support_x"].shape[-1]
    leaves = {name: torch.tensor(case.inputs[name], requires_grad=True) for name in ("support_x", "query_x")}
    params = {name: torch.tensor(p, requires_grad=True) for name, p in case.inputs["params"].items()}
    both = torch.nn.LSTM(d, d, bidirectional=True, batch_first=True).double()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = {f"{name}_l0": params[f"forward.{name}"] for name in names}
    weights |= {f"{name}_l0_reverse": params[f"backward.{name}"] for name in names}
    read, _ = torch.func.functional_call(both, weights, (leaves["support_x"],))
    g = read[..., :d] + read[..., d:] + (leaves["support_x"] if skip else 0)
    query = leaves["query_x"]
    shape = (query.shape[0] * query.shape[1], d)
    hidden = state = torch.zeros(shape, dtype=torch.float64)
    for _ in range(case.settings["processing_steps"]):
        h = hidden.reshape(query.shape) + query
        readout = (h @ g.mT).softmax(-1) @ g
        own = [params[f"attention.{name}"] for name in names]
        hidden, state = torch.lstm_cell(  # the readout as an input beside the query
            torch.cat([query, readout], -1).reshape(-1, 2 * d),
            (h.reshape(shape), state),
            torch.cat([own[0], own[1][:, d:]], 1),
            own[1][:, :d],
            *own[2:],
        )
    f = hidden.reshape(query.shape) + query
    cosines = torch.nn.functional.cosine_similarity(f[:, :, None], g[:, None], dim=-1)
    members = torch.nn.functional.one_hot(torch.tensor(case.inputs["support_y"])).double()
    logits = ((cosines / case.settings["temperature"]).softmax(-1) @ members).log()
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(case.inputs["query_y"]).flatten()
    )
    leaves |= params
    gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    return {
        "logits": logits.detach().numpy(),
        "loss": loss.detach().numpy(),
        "gradients": {name: g.numpy() for name, g in gradients.items()},
    }


def test_full_context_is_that_of_torchs_own_lstms():
    for case in generic("matching-full-context"):
        assert disagreement(full_context(case), case.expected) <= tolerance(case, DOUBLE)


def test_a_missing_skip_connection_is_named():
    results = [(case, full_context(case, skip=False)) for case in generic("matching-full-context")]
    diagnosis = diagnose(BY_NAME["matching-full-context"], results, DOUBLE)
    assert diagnosis.names == ("skip-connection-missing",)
    assert "of the support set" in diagnosis.text


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=20, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_drawn_cases_are_the_same_by_autograd(name, data):
    case = completed(BY_NAME[name], BY_NAME[name].random(data.draw), "float64")
    assume(case is not None)
    found = BY_NAME[name].routes[TORCH](case.settings, case.inputs)
    assert disagreement(found, case.expected) <= tolerance(case, DOUBLE)


def test_order_and_scale_of_examples_matter_only_where_they_should():
    """Permuted support examples change the full context alone; the length of an embedding no cosine."""
    for name in ("prototypical", "matching", "ridge", "logistic", "matching-full-context"):
        case = generic(name)[0]
        order = np.arange(case.inputs["support_x"].shape[1])[::-1]
        inputs = {**case.inputs, **{key: case.inputs[key][:, order] for key in ("support_x", "support_y")}}
        exact = BY_NAME[name].exact(case.settings, inputs)
        logits = rounded({"logits": exact["logits"]})
        same = disagreement(logits, case.expected) < 1e-14
        assert same == (name != "matching-full-context")
    case = generic("matching")[0]
    longer = dataclasses.replace(case, inputs={**case.inputs, "query_x": 3 * case.inputs["query_x"]})
    exact = BY_NAME["matching"].exact(longer.settings, longer.inputs)
    assert disagreement(rounded({"logits": exact["logits"]}), case.expected) < 1e-14
