"""The cases of learners, learned optimisers and modules: each catches what its comment says."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from learner_cases import case_of, cases_of, outputs, pairs

import mltk
from mltk import tree
from mltk.oracle.case import flat
from mltk.oracle.computations import computation, learners, modules, optimizers
from mltk.oracle.confirmation import complete
from mltk.oracle.layers import model
from mltk.oracle.tolerance import disagreement

OWN = (*learners.COMPUTATIONS, *optimizers.COMPUTATIONS, *modules.COMPUTATIONS)
DESCENDING = [c.name for c in OWN if c.name in ("maml", "meta-sgd", "boil", "anil", "maml-learned-rates")]
OPTIMIZERS = [c.name for c in OWN if c.name.startswith("learned-optimizer-")]

LEARNERS = ("maml", "fomaml", "anil", "boil", "meta-sgd", "reptile", "implicit-maml")
HEADS = ("prototypical", "matching", "matching-full-context", "ridge", "logistic")


def truncated(name, case):
    """The gradients without the Hessian product of the last step: it starts from one step further on."""
    names = [key for key in case.inputs["params"] if not key.startswith(("lr.", "transform."))]
    backend = mltk.backend("numpy", dtype="float64")
    learner = mltk.algorithms.MAML(
        model(case.settings["layers"]),
        case.settings["loss"],
        inner_lr=case.settings["inner_lr"],
        inner_steps=1,
        adapt_only=case.settings["adapted"],
    )
    params = tree.unflatten({key: case.inputs["params"][key] for key in names})
    total = dict.fromkeys(names, 0.0)
    tasks = len(case.inputs["support_x"])
    for task in range(tasks):
        one = {
            key: case.inputs[key][task : task + 1] for key in ("support_x", "support_y", "query_x", "query_y")
        }
        adapted = learner.adapt(params, one["support_x"], one["support_y"])
        start = {
            key: array.reshape(case.inputs["params"][key].shape)
            for key, array in tree.flatten(adapted).items()
            if key in names
        }
        rest = mltk.algorithms.MAML(
            learner.model,
            case.settings["loss"],
            inner_lr=case.settings["inner_lr"],
            inner_steps=case.settings["inner_steps"] - 1,
            adapt_only=case.settings["adapted"],
        )
        episode = mltk.Episode(**one, ways=case.settings["ways"], backend=backend)
        _, grads = rest.value_and_grad(tree.unflatten(start), episode)
        total = {key: total[key] + g / tasks for key, g in tree.flatten(grads).items()}
    return total


@pairs(DESCENDING, "valid")
def test_ordinary_cases_need_every_second_order_term(name, case):
    truth = outputs(name, case)
    assert disagreement(outputs(name, case, first_order=True), truth) > 0.05
    if case.settings["inner_lr"] is not None and case.settings["inner_steps"] > 1:
        assert disagreement({"gradients": truncated(name, case)}, truth) > 0.01


@pairs(["maml", "fomaml", "anil", "boil", "reptile"], "valid")
def test_ordinary_cases_tell_mistakes_of_the_loop_apart(name, case):
    steps, truth = case.settings["inner_steps"], outputs(name, case)
    swapped = {
        f"{a}_{kind}": case.inputs[f"{b}_{kind}"]
        for a, b in (("support", "query"), ("query", "support"))
        for kind in "xy"
    }
    first = {key: array[:1] for key, array in case.inputs.items() if key != "params"}
    wrong = [
        outputs(name, case, inner_steps=steps + 1),
        outputs(name, case, inner_steps=steps - 1),
        outputs(name, case, inner_lr=case.settings["inner_lr"] * len(case.inputs["support_x"][0])),
        outputs(name, case, swapped),
        outputs(name, case, first),
    ]
    if name in ("maml", "anil", "boil"):
        wrong.append(
            outputs(name, case, adapted=None) if name != "maml" else outputs("fomaml", case, first_order=True)
        )
    everything = [truth, *wrong]
    for i, one in enumerate(everything):
        for other in everything[:i]:
            assert disagreement(one, other) > 1e-3


def is_tidy(case):
    """Whether both sets hold as many examples of each class, class after class."""
    sets = [case.inputs[key] for key in ("support_y", "query_y")]
    ways = case.settings["ways"]
    return all(
        y.shape[1] % ways == 0 and (y == np.repeat(np.arange(ways), y.shape[1] // ways)).all() for y in sets
    )


@pytest.mark.parametrize("name", [*LEARNERS, *HEADS])
def test_half_of_the_ordinary_classifications_are_balanced_and_in_order(name):
    cases = [case for case in cases_of(name, "valid") if case.settings["ways"] is not None]
    tidy = [case for case in cases if is_tidy(case)]
    assert len(cases) - 1 <= 2 * len(tidy) < 2 * len(cases)
    assert any(case.inputs["support_y"].shape[1] > case.settings["ways"] > 1 for case in tidy)
    drawn = []

    @settings(max_examples=150, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def draw(data):
        drawn.append(computation(name).random(data.draw))

    draw()
    classes = [is_tidy(case) for case in drawn if case.settings["ways"] is not None]
    assert 0.1 < np.mean(classes) < 0.9, np.mean(classes)


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "implicit-maml"])
def test_ordinary_cases_are_large_in_each_way_once(name):
    cases = cases_of(name, "valid")
    layers = [case.settings["layers"] for case in cases]
    assert any(len(case.inputs["support_x"]) >= 4 for case in cases)
    assert any(case.settings["inner_steps"] >= 8 for case in cases)
    assert any(case.settings["ways"] == 5 and case.inputs["support_y"].shape[1] == 25 for case in cases)
    assert any(len(each) > 10 for each in layers)
    assert any(layer["layer"] == "layer_norm" for each in layers for layer in each)
    convolutions = [layer for each in layers for layer in each if layer["layer"] == "convolution"]
    assert any(layer["stride"] == 2 and layer["bias"] for layer in convolutions)


@pairs(["maml", "fomaml"], "valid")
def test_all_extents_of_an_ordinary_case_differ(name, case):
    shapes = [case.inputs[key].shape[:2] for key in ("support_x", "query_x")]
    (tasks, support), (_, queries) = shapes
    assert len({tasks, support, queries}) == 3
    ways = case.settings["ways"]
    if ways is not None:
        counts = np.stack([np.bincount(labels, minlength=ways) for labels in case.inputs["support_y"]])
        assert counts.min() >= 1
        if is_tidy(case):
            assert len(set(counts.flat)) == 1
        else:
            assert all(len(set(row)) > 1 for row in counts), "classes of equal size"
            assert len({tuple(row) for row in counts}) == tasks, "tasks with the same classes"


@pairs(["meta-sgd"], "valid")
def test_learned_step_sizes_of_ordinary_cases_all_differ_and_none_is_zero(name, case):
    rates = np.concatenate([a.ravel() for key, a in case.inputs["params"].items() if key.startswith("lr.")])
    assert len(set(rates)) == rates.size
    assert (rates > 0).all()
    gradients = outputs(name, case)["gradients"]
    assert any(np.abs(g).max() > 1e-3 for key, g in gradients.items() if key.startswith("lr."))


@pairs(OPTIMIZERS, "valid")
def test_transforms_of_ordinary_cases_are_not_at_their_start(name, case):
    plain = {**case.inputs, "params": _without(case.inputs["params"], "transform.")}
    maml = computation("maml").reference(case.settings, plain)
    found = outputs(name, case)
    found["gradients"] = _without(found["gradients"], "transform.")
    assert disagreement(found, maml) > 1e-2
    assert disagreement(outputs(name, case, first_order=True), outputs(name, case)) > 1e-3


@pairs(OPTIMIZERS, "edge")
def test_at_its_start_a_transform_is_maml(name, case):
    if case.name != "identity":
        return
    plain = {**case.inputs, "params": _without(case.inputs["params"], "transform.")}
    maml = computation("maml").reference(case.settings, plain)
    found = outputs(name, case)
    found["gradients"] = _without(found["gradients"], "transform.")
    assert disagreement(found, maml) < 1e-14


def _without(arrays, start):
    return {key: array for key, array in arrays.items() if not key.startswith(start)}


@pairs(OPTIMIZERS, "edge")
def test_a_start_that_is_fixed_has_no_gradient(name, case):
    found = outputs(name, case)["gradients"]
    start = _without(found, "transform.")
    assert any(g.any() for g in start.values()) == case.settings["learn_init"]


def test_a_batch_that_is_left_over_is_not_taken():
    case = case_of("reptile", "batches-again")
    shots = case.inputs["support_x"].shape[1]
    used = shots - shots % case.settings["inner_batch"]
    assert used < shots
    rest = {key: case.inputs[key][:, :used] for key in ("support_x", "support_y")}
    assert disagreement(outputs("reptile", case, rest), outputs("reptile", case)) < 1e-14
    assert case.settings["inner_steps"] * case.settings["inner_batch"] > used, "never again from the start"


@pairs(["implicit-maml"], "valid", "edge")
def test_implicit_cases_do_not_depend_on_how_the_optimum_is_found(name, case):
    truth = outputs(name, case)
    longer = outputs(name, case, inner_steps=2 * case.settings["inner_steps"], cg_steps=100)
    slower = outputs(
        name, case, inner_steps=4 * case.settings["inner_steps"], inner_lr=case.settings["inner_lr"] / 2
    )
    assert disagreement(longer, truth) < 1e-12
    assert disagreement(slower, truth) < 1e-12


def test_steps_of_length_zero_are_none():
    for name in ("maml", "fomaml", "meta-sgd"):
        case = case_of(name, "zero-rate")
        found, none = (outputs(name, case, inner_steps=steps) for steps in (2, 0))
        for each in (found, none):
            each["gradients"] = _without(each["gradients"], "lr.")
        assert disagreement(found, none) < 1e-15


def test_every_support_example_twice_is_every_one_once():
    case = case_of("maml", "duplicates")
    once = {key: case.inputs[key][:, ::2] for key in ("support_x", "support_y")}
    np.testing.assert_array_equal(case.inputs["support_x"][:, ::2], case.inputs["support_x"][:, 1::2])
    assert disagreement(outputs("maml", case, once), outputs("maml", case)) < 1e-14


def test_dead_units_have_no_gradient_and_others_do():
    case = case_of("maml", "dead-relus")
    gradient = outputs("maml", case)["gradients"]["0.bias"]
    assert (gradient[[0, 2]] == 0).all()
    assert (gradient[[1, 3]] != 0).all()


def test_large_logits_overflow_in_a_softmax_without_care():
    case = case_of("maml", "large-logits")
    biases = case.inputs["params"]["2.bias"]
    with np.errstate(over="ignore"):
        assert np.isinf(np.exp(biases)).all()
    assert all(np.isfinite(array).all() for array in flat(outputs("maml", case)).values())


def test_programs_depend_on_each_instruction_that_counts():
    for case in cases_of("clone-update-detach", "valid"):
        truth = outputs("clone-update-detach", case)
        for k, instruction in enumerate(case.settings["program"]):
            if instruction[0] != "update":
                continue
            shorter = [each for i, each in enumerate(case.settings["program"]) if i != k]
            found = outputs("clone-update-detach", case, program=shorter)
            counts = not (case.name == "clone-of-clone" and instruction[1] == "a" and k > 2)
            assert (disagreement(found, truth) > 1e-3) == counts


def test_what_a_detachment_leaves():
    gone = outputs("clone-update-detach", case_of("clone-update-detach", "detached"))
    assert gone["loss"] > 0
    assert not any(g.any() for g in gone["gradients"].values())
    case = case_of("clone-update-detach", "detach-between")
    kept = [step for step in case.settings["program"] if step[0] != "detach"]
    left, whole = outputs("clone-update-detach", case), outputs("clone-update-detach", case, program=kept)
    assert left["loss"] == pytest.approx(whole["loss"], rel=1e-14)
    assert disagreement(left, whole) > 0.01
    assert any(g.any() for g in left["gradients"].values())


def test_a_tied_weight_has_the_sum_of_the_gradients():
    case = case_of("clone-update-detach", "tied")
    ((first, second),) = case.settings["tied"]
    twice = {**case.inputs["params"], second: case.inputs["params"][first]}
    free = outputs("clone-update-detach", case, {"params": twice}, tied=[])
    assert disagreement({"loss": free["loss"]}, outputs("clone-update-detach", case)) > 1e-3, "updated apart"
    still = [step for step in case.settings["program"] if step[0] == "clone"]
    tied = outputs("clone-update-detach", case, program=still)["gradients"]
    free = outputs("clone-update-detach", case, {"params": twice}, tied=[], program=still)["gradients"]
    np.testing.assert_allclose(tied[first], free[first] + free[second], rtol=1e-13)


def test_the_step_size_changes_before_the_step():
    case = case_of("hypergradient-descent", "sgd")
    first, second = steps = case.inputs["steps"][:2]
    rate = 0.5 + 0.1 * first @ second
    expected = case.inputs["params"]["theta"] - 0.5 * first - rate * second
    changes = {"learning_rate": 0.5, "hyper_rate": 0.1}
    found = outputs("hypergradient-descent", case, {"steps": steps}, **changes)
    np.testing.assert_allclose(found["path"][-1], expected, rtol=1e-14)


@pytest.mark.parametrize("name", [c.name for c in OWN if c.random is not None])
def test_independent_ways_agree_on_random_cases(name):
    random = computation(name).random

    @settings(max_examples=3 if name == "implicit-maml" else 12, suppress_health_check=[*HealthCheck])
    @given(st.data())
    def agree(data):
        case = random(data.draw)
        assume("relu" not in str(case.settings))  # its kink may be near
        assert complete(computation(name), case)[0].expected

    agree()
