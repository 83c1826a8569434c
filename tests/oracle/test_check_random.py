"""Random cases: the smallest failing one is found, and none that rounding errors explain."""

import dataclasses
import sys

import numpy as np
import oracle_candidates as candidates
import pytest
from oracle_cases import CANDIDATES, few_cases, few_vectors, maml_case, verdict  # noqa: F401

import mltk
from mltk.errors import SettingError
from mltk.oracle import random_cases
from mltk.oracle.case import Case
from mltk.oracle.check import check
from mltk.oracle.computation import NUMPY
from mltk.oracle.computations import computation
from mltk.oracle.layers import describe_model
from mltk.oracle.random_cases import completed, search, size


def test_the_smallest_failing_case_is_shrunk():
    found = verdict(candidates.double_loss, examples=50)
    smallest = found.smallest.case
    assert smallest.name == "random"
    assert smallest.inputs["support_x"].size == 1  # one task, one example, one number
    assert smallest.inputs["query_x"].size == 1
    assert smallest.settings["inner_steps"] == 0
    rare = verdict(candidates.wrong_with_three_steps, examples=50)
    assert (rare.verdict, rare.smallest.case.settings["inner_steps"]) == ("wrong", 3)
    assert rare.smallest.case.inputs["query_x"].size == 1
    assert rare.failed == ()  # no vector finds it


def test_without_random_cases_the_smallest_is_a_vector():
    found = verdict(candidates.double_loss)
    sizes = {case.name: size(case) for case in few_cases()}
    assert sizes[found.smallest.case.name] == min(sizes.values())


def test_the_same_seed_finds_the_same():
    reports = [
        check(candidates.double_loss, ["maml"], arrays="numpy", examples=20, seed=seed).to_json()
        for seed in (4, 4)
    ]
    assert reports[0] == reports[1]


def drawn(seed, examples=10):
    seen = []
    search(
        computation("maml"),
        lambda case: seen.append(case.inputs["query_x"].tolist()),
        dtype="float64",
        examples=examples,
        seed=seed,
    )
    return seen


def test_random_cases_depend_on_the_seed_alone():
    assert len(drawn(1)) == 10
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_after_a_hang_nothing_more_is_drawn():
    seen = []
    found = search(
        computation("maml"),
        lambda case: (seen.append(case), "hangs")[1],
        dtype="float64",
        examples=50,
        seed=0,
    )
    assert found.kind == "hangs"
    assert len(seen) == 1


def test_random_cases_end_in_time():
    seen = []
    assert not search(computation("maml"), seen.append, dtype="float64", examples=10_000, seed=0, seconds=0.0)
    assert seen == []


def test_what_was_found_until_the_time_was_over_is_kept(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(random_cases.time, "monotonic", lambda: next(clock))
    found = search(
        computation("maml"), lambda case: "wrong", dtype="float64", examples=50, seed=0, seconds=5.0
    )
    assert found.kind == "wrong"


def test_a_failure_does_not_slip_into_another_while_it_shrinks():
    def judge(case):
        return "wrong" if case.settings["inner_steps"] > 0 else "raises"

    found = search(computation("maml"), judge, dtype="float64", examples=50, seed=0, kind="wrong")
    assert (found.kind, found.case.settings["inner_steps"]) == ("wrong", 1)


def relu_case(bias):
    network = mltk.models.Sequential([mltk.ops.Linear(1, 1), mltk.ops.ReLU(), mltk.ops.Linear(1, 1)])
    values = {"0.weight": 0.1, "0.bias": bias, "2.weight": 1.0, "2.bias": 0.3}
    inputs = {
        "params": {name: np.full(shape, values[name]) for name, shape in network.shapes.items()},
        **{name: np.full((1, 1, 1), 3.0) for name in ("support_x", "support_y", "query_x", "query_y")},
    }
    settings = {"layers": describe_model(network), "loss": "mse", "ways": None, "adapted": None}
    steps = {"inner_lr": 0.1, "inner_steps": 1, "first_order": False}
    return Case("relu", "valid", "", settings | steps, inputs)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_cases_at_a_kink_are_thrown_away(dtype):
    maml = computation("maml")
    assert completed(maml, relu_case(0.5), dtype) is not None
    assert completed(maml, relu_case(-0.3), dtype) is None  # 0.1 * 3 - 0.3 is zero but for rounding
    assert completed(maml, relu_case(-0.3 + 1e-9), dtype) is None


@pytest.mark.parametrize("rate", [40.0, 1e7])
def test_cases_that_rounding_errors_spoil_are_thrown_away(rate):
    case = maml_case("calm", 1)
    assert case.condition < 1e3
    wild = dataclasses.replace(case, settings={**case.settings, "inner_lr": rate, "inner_steps": 3})
    assert completed(computation("maml"), wild, "float32") is None


def test_without_hypothesis_it_is_said_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(SettingError, match=r'pip install "hypothesis>=6\.100"'):
        verdict(candidates.right, examples=5)
    assert verdict(candidates.right).verdict == "correct"  # vectors need none


@pytest.mark.parametrize(("number", "kept"), [(1e2, True), (1e7, False)])
def test_cases_that_cancel_are_thrown_away(number, kept):
    difference = dataclasses.replace(
        computation("maml"), routes={NUMPY: lambda settings, inputs: {"loss": inputs["x"].sum()}}
    )
    case = Case("cancels", "valid", "", {}, {"x": np.array([number, 1 - number])})
    assert (completed(difference, case, "float64") is not None) == kept
