"""What is drawn at random is of the same kind as the test vectors, of every computation that draws."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mltk.oracle import vectors
from mltk.oracle.computations import computation, computations
from mltk.oracle.layers import model

DRAWN = [each.name for each in computations().values() if each.random is not None]


def for_drawn(name, examine):
    """Examine a number of drawn cases."""

    @settings(max_examples=30, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data):
        examine(computation(name).random(data.draw))

    run()


def kept(name):
    return [case for case in vectors.stored(name) if case.kind != "must-raise"]


def is_choice(value):
    return value is None or isinstance(value, str | bool)


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_cases_have_settings_and_inputs_of_stored_ones(name):
    shapes = {(tuple(sorted(case.settings)), tuple(sorted(case.inputs))) for case in kept(name)}
    choices = {}
    for case in kept(name):
        for key, value in case.settings.items():
            choices.setdefault(key, []).append(value)

    def examine(case):
        assert (tuple(sorted(case.settings)), tuple(sorted(case.inputs))) in shapes
        for key, values in choices.items():
            if all(map(is_choice, values)):
                assert case.settings[key] in values
        if name.startswith("op-"):
            assert case.settings["layers"][0]["layer"] == choices["layers"][0][0]["layer"]

    for_drawn(name, examine)


@pytest.mark.parametrize(("name", "part"), [("anil", "head"), ("boil", "body")])
def test_the_inner_loop_moves_the_last_layer_or_all_but_that(name, part):
    def examine(case):
        names = list(model(case.settings["layers"]).shapes)
        last = names[-1].partition(".")[0]
        moves = [key for key in names if (key.partition(".")[0] == last) == (part == "head")]
        assert case.settings["adapted"] == moves != names

    for case in kept(name):
        examine(case)
    for_drawn(name, examine)


def test_drawn_step_sizes_all_differ_and_are_those_of_each_parameter():
    def examine(case):
        params = case.inputs["params"]
        rates = {key: array for key, array in params.items() if key.startswith("lr.")}
        assert {key: array.shape for key, array in rates.items()} == {
            f"lr.{key}": params[key].shape for key in params if key not in rates
        }
        numbers = np.concatenate([array.ravel() for array in rates.values()])
        assert len(set(numbers)) == len(numbers)
        assert (numbers > 0).all()

    for_drawn("meta-sgd", examine)


@pytest.mark.parametrize("name", ["maml", "prototypical"])
def test_classes_of_unequal_size_take_turns(name):
    turns = []

    def examine(case):
        ways = case.settings["ways"]
        counts = [np.bincount(y, minlength=ways) for y in case.inputs["support_y"][:2]] if ways else []
        if len(counts) == 2 and len(set(counts[0])) > 1:
            np.testing.assert_array_equal(counts[1], np.roll(counts[0], 1))
            turns.append(case)

    for_drawn(name, examine)
    assert turns
