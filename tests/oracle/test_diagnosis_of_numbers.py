"""Small numbers are found, single precision is told from other errors, and one number fits nothing."""

import dataclasses

import pytest
from oracle_answers import DOUBLE, answers, edited, generic, single

from mltk.oracle.catalogue import CATALOGUE, Family
from mltk.oracle.computations import computation
from mltk.oracle.diagnosis import diagnose


@pytest.mark.parametrize(
    ("name", "mistake", "number"),
    [
        ("ridge", "regulariser-jitter", 1e-8),
        ("matching", "epsilon-in-length", 1e-8),
        ("matching", "epsilon-in-logarithm", 3e-8),
        ("prototypical", "label-smoothing", 1e-3),
        ("maml", "label-smoothing", 2e-3),
        ("maml", "batch-norm-epsilon", 1e-8),
    ],
)
def test_small_numbers_are_found(name, mistake, number):
    way = next(
        way
        for each in CATALOGUE
        if each.name == mistake and name in each.computations
        for way in each.variants
        if isinstance(way, Family)
    )
    found = diagnose(computation(name), answers(way, name, number=number), DOUBLE)
    assert found.names == (mistake,)
    assert found.findings[0].detail.endswith(f" {number:.6g}")


def test_a_number_is_not_fitted_to_one_number():
    case = generic("maml")[0]
    found = diagnose(computation("maml"), [(case, {"loss": case.expected["loss"] + 0.01})], DOUBLE)
    assert found.findings == ()


@pytest.mark.parametrize("name", ["maml", "prototypical"])
def test_single_precision_in_double_is_told(name):
    def run(case):
        return computation(name).reference(case.settings, single(case.inputs))

    moved = [dataclasses.replace(case, inputs=off_the_grid(case.inputs)) for case in generic(name)]
    cases = [
        dataclasses.replace(case, expected=computation(name).reference(case.settings, case.inputs))
        for case in moved
    ]
    found = diagnose(computation(name), [(case, run(case)) for case in cases], DOUBLE, run)
    assert found.names == ("single-precision",)


def off_the_grid(inputs):
    """Numbers that single precision does not hold exactly."""
    return {
        name: off_the_grid(value)
        if isinstance(value, dict)
        else value * (1 + 1 / 3e6)
        if value.dtype.kind == "f"
        else value
        for name, value in inputs.items()
    }


def test_a_small_smooth_error_is_no_single_precision():
    def run(case):
        right = computation("maml").reference(case.settings, case.inputs)
        return {
            **right,
            "gradients": {n: g * (1 + 1e-7) + 1e-8 * g**2 for n, g in right["gradients"].items()},
        }

    found = diagnose(computation("maml"), [(case, run(case)) for case in generic("maml")], DOUBLE, run)
    assert found.findings == ()


def test_a_factor_near_one_is_shown_by_its_distance():
    found = diagnose(
        computation("maml"), edited(lambda name, g: g * (1 + 1.5e-8) if name == "0.weight" else g), DOUBLE
    )
    assert any("off by a factor of 1 + 1.5e-8" in line for line in found.location)
