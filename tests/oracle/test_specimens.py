"""The specimens: right ones agree with mltk on every case, wrong ones make the mistake that they name."""

import dataclasses
from collections import Counter
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mltk.errors import UnsupportedError
from mltk.oracle import vectors
from mltk.oracle.candidate.settings import Settings
from mltk.oracle.case import flat
from mltk.oracle.computations import computations
from mltk.oracle.specimens import CORRECT, SPECIMENS, UNNAMED, WRONG
from mltk.oracle.tolerance import disagreement
from mltk.peers import PEERS

CLEARLY = 100
"""How many times the tolerance is more than rounding explains."""


def tensors(values):
    return {
        name: tensors(value) if isinstance(value, dict) else torch.tensor(value)
        for name, value in values.items()
    }


def arrays(outputs):
    if isinstance(outputs, tuple):
        outputs = {"loss": outputs[0], "gradients": outputs[1]}
    return {
        name: arrays(value) if isinstance(value, dict) else value.detach().numpy()
        for name, value in outputs.items()
    }


@cache
def judged_cases(name):
    """Ordinary cases and edges of a computation with mltk's outputs."""
    if name not in computations():
        pytest.skip(f"the oracle has no computation {name!r}")
    computation = computations()[name]
    cases = [case for case in vectors.stored(name) if case.kind != "must-raise"]
    return [
        dataclasses.replace(case, expected=computation.reference(case.settings, case.inputs))
        for case in cases
    ]


def run(specimen, case, **changes):
    inputs = tensors(case.inputs)
    params = inputs.pop("params", {})
    return arrays(specimen.candidate(params, SimpleNamespace(**inputs), Settings(case.settings | changes)))


def outcomes(specimen):
    """Each case that a specimen can do, with what it returns."""
    for case in judged_cases(specimen.computation):
        try:
            yield case, run(specimen, case)
        except (NotImplementedError, UnsupportedError):
            continue


def functions(specimens):
    return [
        pytest.param(specimen, id=specimen.name)
        for specimen in specimens
        if not isinstance(specimen.candidate, str)
    ]


def found(name):
    return next(specimen for specimen in SPECIMENS if specimen.name == name)


@pytest.mark.parametrize("specimen", functions(CORRECT))
def test_right_ones_agree_on_every_case(specimen):
    seen = 0
    for case, outputs in outcomes(specimen):
        allowed = 1e-10 if case.kind == "valid" else 1e-8  # some edges cost some ways to the result digits
        assert disagreement(outputs, case.expected) <= allowed, case.name
        assert {key: each.shape for key, each in flat(outputs).items()} == {
            key: np.shape(each) for key, each in flat(case.expected).items()
        }
        seen += case.kind == "valid"
    assert seen >= 3


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")  # users see it, too
@pytest.mark.parametrize("specimen", functions([*WRONG[::8], *UNNAMED]))
def test_wrong_ones_differ_clearly_on_ordinary_cases(specimen):
    errors = [
        disagreement(outputs, case.expected) for case, outputs in outcomes(specimen) if case.kind == "valid"
    ]
    assert max(errors) > CLEARLY * np.finfo(float).eps * 256
    angles = specimen.mistake == "angle-instead-of-cosine"  # of vectors in line, whose slope is infinite
    assert np.isfinite(errors).all() or angles


@pytest.mark.parametrize("specimen", functions([*CORRECT, *WRONG[::8], *UNNAMED]))
def test_specimens_leave_their_inputs_and_keep_no_state(specimen):
    case, first = next(outcomes(specimen))
    inputs = tensors(case.inputs)
    params, before = inputs.pop("params", {}), tensors(case.inputs)
    function, data = specimen.candidate, SimpleNamespace(**inputs)
    again = [arrays(function(params, data, Settings(case.settings))) for _ in range(2)]
    for outputs in again:
        assert disagreement(outputs, first) == 0
    for name, tensor in flat({"params": params, **inputs}).items():
        assert torch.equal(tensor, flat(before)[name]), name
        assert not tensor.requires_grad


def test_the_set_is_as_large_and_varied_as_the_proof_needs():
    names = Counter(specimen.name for specimen in SPECIMENS)
    assert max(names.values()) == 1
    assert len(CORRECT) >= 12
    assert len(WRONG) >= 35
    assert sum(specimen.scale is not None for specimen in WRONG) >= 6
    assert len(UNNAMED) >= 4
    peers = {peer.name for peer in PEERS}
    assert all(specimen.candidate in peers for specimen in SPECIMENS if isinstance(specimen.candidate, str))
    written = [specimen.candidate for specimen in SPECIMENS if not isinstance(specimen.candidate, str)]
    assert all(getattr(each, "__self__", each).__doc__ for each in written)


def reference(computation, case, **changes):
    """What mltk computes in a case whose settings are changed: a mistake on purpose."""
    return computations()[computation].reference({**case.settings, **changes}, case.inputs)


def times(outputs, factor):
    return {
        "loss": outputs["loss"] * factor,
        "gradients": {name: g * factor for name, g in outputs["gradients"].items()},
    }


def by_other_settings(change):
    return lambda specimen, case: reference(specimen.computation, case, **change(case))


def by_a_factor(factor):
    return lambda specimen, case: times(case.expected, factor(case))


def steps(by):
    return by_other_settings(lambda case: {"inner_steps": max(case.settings["inner_steps"] + by, 0)})


def rate(factor):
    return by_other_settings(lambda case: {"inner_lr": case.settings["inner_lr"] * factor(case)})


def tasks_of(case):
    return len(case.inputs["support_x"])


first_order = by_other_settings(lambda case: {"first_order": True})
second_order = by_other_settings(lambda case: {"first_order": False})
everything = by_other_settings(lambda case: {"adapted": None})
complement = by_other_settings(
    lambda case: {"adapted": [name for name in case.inputs["params"] if name not in case.settings["adapted"]]}
)


def the_expected_mistakes():
    """For wrong specimens, what mltk computes when it makes the same mistake on purpose."""
    for name in ("by-detach", "by-data", "by-copy", "without-graph"):
        yield f"maml-first-order-{name}", first_order
    yield "anil-first-order-without-graph", first_order
    yield "boil-first-order-without-graph", first_order
    yield "meta-sgd-first-order-by-detach", first_order
    yield "fomaml-second-order-kept", second_order
    yield "fomaml-second-order-by-vmap", second_order
    yield "maml-last-step-missing", steps(-1)
    yield "maml-one-step-less", steps(-1)
    yield "maml-one-step-more", steps(+1)
    yield "maml-query-at-the-start", by_other_settings(lambda case: {"inner_steps": 0})
    yield "maml-sum-over-tasks", by_a_factor(tasks_of)
    yield "maml-sum-over-examples", by_a_factor(lambda case: case.inputs["query_x"].shape[1])
    yield (
        "maml-sum-over-everything",
        by_a_factor(lambda case: tasks_of(case) * case.inputs["query_x"].shape[1]),
    )
    yield "maml-inner-loss-summed", rate(lambda case: case.inputs["support_x"].shape[1])
    yield "maml-rate-over-tasks", rate(lambda case: 1 / tasks_of(case))
    yield "maml-rate-over-steps", rate(lambda case: 1 / max(case.settings["inner_steps"], 1))
    yield "maml-half-inner-loss", rate(lambda case: 0.5)
    yield "maml-first-order-and-sum", lambda s, case: times(first_order(s, case), tasks_of(case))
    for learner in ("anil", "boil"):
        yield f"{learner}-adapts-everything", everything
        yield f"{learner}-exchanged", complement
    yield "anil-adapts-everything-and-sum", lambda s, case: times(everything(s, case), tasks_of(case))


@pytest.mark.parametrize(("name", "mistake"), list(the_expected_mistakes()))
def test_the_mistake_is_the_registered_one(name, mistake):
    specimen = found(name)
    assert specimen.mistake is not None
    for case, outputs in outcomes(specimen):
        if case.kind == "valid":
            assert disagreement(outputs, mistake(specimen, case)) <= 1e-10, case.name


def test_swapped_sets_are_those_of_the_other_episode():
    pairs = {"support_x": "query_x", "support_y": "query_y", "query_x": "support_x", "query_y": "support_y"}
    cases = [case for case in judged_cases("maml") if case.settings["ways"] is None]
    assert any(case.kind == "valid" for case in cases)  # with labels, a class may be without support then
    for case in cases:
        other = dataclasses.replace(case, inputs={k: case.inputs[pairs.get(k, k)] for k in case.inputs})
        expected = reference("maml", other)
        assert disagreement(run(found("maml-swapped"), case), expected) <= 1e-10
        several = times(expected, tasks_of(case))
        assert disagreement(run(found("maml-swapped-and-sum"), case), several) <= 1e-10


def test_gradients_accumulated_twice_are_twice_the_gradients_of_the_right_loss():
    for name in ("maml-backward-twice", "fomaml-no-zero-grad-outside"):
        for case, outputs in outcomes(found(name)):
            doubled = {**case.expected, "gradients": times(case.expected, 2)["gradients"]}
            assert disagreement(outputs, doubled) <= 1e-10


def test_only_the_gradients_of_the_rates_are_wrong():
    for name, sign in (("meta-sgd-rates-do-not-learn", 0), ("meta-sgd-rates-climb", -1)):
        for case, outputs in outcomes(found(name)):
            wrong = {
                key: sign * g if key.startswith("lr.") else g for key, g in case.expected["gradients"].items()
            }
            assert disagreement(outputs, {**case.expected, "gradients": wrong}) <= 1e-10


def test_a_head_summed_over_tasks_has_the_right_logits():
    for case, outputs in outcomes(found("prototypical-summed-over-tasks")):
        expected = {"logits": case.expected["logits"], **times(case.expected, tasks_of(case))}
        assert disagreement(outputs, expected) <= 1e-10


@pytest.mark.parametrize("name", ["prototypical-colder-when-warmer", "matching-colder-when-warmer"])
def test_multiplying_by_the_temperature_is_the_inverse_temperature(name):
    specimen, seen = found(name), 0
    for case, outputs in outcomes(specimen):
        if case.kind == "valid" and "log_temperature" not in case.inputs.get("params", {}):
            inverse = 1 / case.settings["temperature"]
            expected = reference(specimen.computation, case, temperature=inverse)
            assert disagreement(outputs, expected) <= 1e-10
            seen += inverse != 1
    assert seen


def test_the_penalty_is_that_of_so_many_examples():
    for case, outputs in outcomes(found("ridge-times-examples")):
        if case.kind == "valid":
            rows = case.inputs["support_x"].shape[1]
            params = dict(case.inputs.get("params", {}))
            if "log_lambda" in params:
                params["log_lambda"] = params["log_lambda"] + np.log(rows)
            larger = dataclasses.replace(case, inputs={**case.inputs, "params": params})
            expected = reference("ridge", larger, reg_lambda=case.settings["reg_lambda"] * rows)
            assert disagreement(outputs, expected) <= 1e-10


def test_a_clipped_meta_gradient_has_the_right_direction():
    for case, outputs in outcomes(found("maml-outer-clipping")):
        a, b = (
            np.concatenate([g.ravel() for g in each["gradients"].values()])
            for each in (outputs, case.expected)
        )
        norms = np.linalg.norm(a), np.linalg.norm(b)
        assert a @ b == pytest.approx(norms[0] * norms[1], rel=1e-10)
        assert norms[0] <= 0.1 * (1 + 1e-10)


def test_a_state_that_leaks_leaves_the_first_task_right():
    alone = [
        dataclasses.replace(
            case,
            inputs={name: value if name == "params" else value[:1] for name, value in case.inputs.items()},
        )
        for case in judged_cases("maml")
        if case.kind == "valid"
    ]
    for case in alone:
        outputs = run(found("maml-never-restored"), case)
        assert disagreement(outputs, computations()["maml"].reference(case.settings, case.inputs)) <= 1e-10


def test_batch_norms_of_torch_make_the_same_mistakes():
    """Modules of Torch with buffers, in place of the formulas of the specimens, by first-order steps."""
    case = next(case for case in judged_cases("fomaml") if case.name == "images")
    for name, training in (("maml-evaluation-mode", False), ("maml-running-averages", True)):
        inputs = tensors(case.inputs)
        losses = []
        for x, y, query_x, query_y in zip(
            *(inputs[key] for key in ("support_x", "support_y", "query_x", "query_y")), strict=True
        ):
            module = Settings(case.settings).module(inputs["params"])
            for k, layer in enumerate(module):
                if isinstance(layer, torch.nn.BatchNorm2d):
                    module[k] = torch.nn.BatchNorm2d(layer.num_features, layer.eps).double()
            module.load_state_dict(inputs["params"], strict=False)
            module.train(training)
            optimizer = torch.optim.SGD(module.parameters(), lr=case.settings["inner_lr"])
            for _ in range(case.settings["inner_steps"]):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(module(x), y).backward()
                optimizer.step()
            module.eval()
            losses.append(torch.nn.functional.cross_entropy(module(query_x), query_y).item())
        outputs = run(found(name), case)
        assert outputs["loss"] == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize("specimen", functions(CORRECT))
def test_right_ones_work_in_single_precision(specimen):
    for case in judged_cases(specimen.computation)[:2]:
        inputs = {
            name: {key: array.astype(np.float32) for key, array in value.items()}
            if isinstance(value, dict)
            else value.astype(np.float32)
            if value.dtype.kind == "f"
            else value
            for name, value in case.inputs.items()
        }
        try:
            outputs = run(specimen, dataclasses.replace(case, inputs=inputs))
        except (NotImplementedError, UnsupportedError):
            continue
        assert {each.dtype for each in flat(outputs).values()} == {np.dtype(np.float32)}
        assert disagreement(outputs, case.expected) <= 1e-3
