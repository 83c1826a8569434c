"""A known mistake is named with its number and scale, an unknown one is not, and it is said where it sits."""

import dataclasses
from itertools import cycle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_answers import DOUBLE, answers, edited, generic, scaled, single

from mltk.oracle import vectors
from mltk.oracle.catalogue import CATALOGUE, Family, loop_ways
from mltk.oracle.catalogue.scale_errors import SCALES
from mltk.oracle.computations import computation
from mltk.oracle.definitions.inner_loop_knobs import LoopKnobs
from mltk.oracle.diagnosis import diagnose
from mltk.oracle.tolerance import disagreement, tolerance

LEARNERS = ("maml", "fomaml", "anil", "boil", "meta-sgd")


def ways():
    return [
        pytest.param(name, mistake, way, id=f"{name}-{mistake.name}-{number}")
        for name in LEARNERS
        for mistake in CATALOGUE
        if name in mistake.computations
        for number, way in enumerate(mistake.variants)
        if name == "maml" or (number == 0 and "maml" not in mistake.computations)
    ]


def harmless(results):
    """Whether a mistake changes nothing, as clipping to a norm that is never reached."""
    return all(disagreement(outputs, case.expected) <= tolerance(case, DOUBLE) for case, outputs in results)


def earlier(mistake, way):
    """The ways without a number that are tried before one."""
    several = [each for each in mistake.variants if not isinstance(each, Family)]
    return several[: several.index(way)]


def same(one, other):
    return all(
        disagreement(a, b) <= 1e-12 for (_, a), (_, b) in zip(one, other, strict=True) if a.keys() == b.keys()
    )


@pytest.mark.parametrize(("name", "mistake", "way"), ways())
def test_every_way_of_every_mistake_is_named(name, mistake, way):
    number = 0.83 * way.starts[0] if isinstance(way, Family) else None
    results = answers(way, name, number=number)
    if harmless(results):
        pytest.skip("this changes nothing in the generic cases")
    if number is None and any(same(answers(other, name), results) for other in earlier(mistake, way)):
        pytest.skip("here this is the same as another way, which is named")
    found = diagnose(computation(name), results, DOUBLE)
    assert found.names == (mistake.name,)
    assert not found.unknown
    if number is not None:
        assert f"{number:.6g}" in found.findings[0].detail
    else:
        assert found.findings[0].detail == way.detail
    assert found.findings[0].error_to_match < 1e-9 < found.findings[0].error_to_truth


@pytest.mark.parametrize(
    ("name", "scale"),
    list(
        zip(cycle(["first-order", "inner-step-missing", "inner-gradients-accumulate"]), SCALES, strict=False)
    ),
    ids=lambda each: getattr(each, "name", each),
)
def test_a_scale_error_is_found_on_top_of_a_mistake(name, scale):
    (mistake,) = (each for each in CATALOGUE if each.name == name)
    for factor in scale.factors:
        found = diagnose(computation("maml"), answers(mistake.variants[0], "maml", factor=factor), DOUBLE)
        assert found.names == (name, scale.name)
        assert scale.cause in found.text
        assert mistake.cause in found.text


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
def test_a_scale_error_alone_is_named(scale):
    for factor in scale.factors:
        results = [
            (case, scaled(case.expected, factor(case.settings, case.inputs))) for case in generic("maml")
        ]
        assert diagnose(computation("maml"), results, DOUBLE).names == (scale.name,)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_loop_of_the_catalogue_without_a_mistake_is_the_reference(name):
    for case in generic(name):
        outputs = loop_ways.outputs(LoopKnobs(), case.settings, case.inputs)
        assert diagnose(computation(name), [(case, outputs)], DOUBLE).text == ""


TRUE_GRADIENTS = (
    "inner-step-missing",
    "extra-step",
    "query-loss-at-initial-parameters",
    "support-query-swapped",
    "wrong-set",
    "one-task-only",
    "inner-gradients-accumulate",
    "momentum-in-inner-loop",
    "inner-loss-summed",
    "inner-rate-factor",
    "adapted-subset-wrong",
    "batch-norm-evaluation-mode",
    "batch-norm-query-statistics",
    "batch-norm-support-statistics",
    "softmax-twice",
    "label-smoothing",
    "weight-decay-in-inner-loop",
    "gradient-clipping",
)
OTHER_WAYS = ("first-order", "largest norm, a constant factor on the way back,")


@pytest.mark.parametrize(
    ("mistake", "way"),
    [
        pytest.param(each, way, id=f"{each.name}-{number}")
        for each in CATALOGUE
        if each.name in TRUE_GRADIENTS and "maml" in each.computations
        for number, way in enumerate(each.variants)
        if getattr(way, "detail", getattr(way, "number", "")) not in OTHER_WAYS
    ],
)
def test_mistakes_that_are_consistent_have_the_gradient_of_their_loss(mistake, way):
    """By central differences of the loss, which know nothing of the way back."""
    extra = (way.starts[0],) if isinstance(way, Family) else ()
    rng = np.random.default_rng(0)
    for case in generic("maml"):
        if case.name == "relu":
            continue  # kinks
        if case.name == "images" and mistake.name != "batch-norm-evaluation-mode":
            continue  # slow
        outputs = way.outputs(case.settings, case.inputs, *extra)
        if outputs is None:
            continue  # it cannot happen here
        params = case.inputs["params"]
        direction = {name: rng.normal(size=p.shape) for name, p in params.items()}

        def loss(step, case=case, params=params, direction=direction):
            moved = {name: p + step * direction[name] for name, p in params.items()}
            return way.outputs(case.settings, {**case.inputs, "params": moved}, *extra)["loss"]

        h = 1e-6
        along = sum((direction[name] * g).sum() for name, g in outputs["gradients"].items())
        size = sum(np.abs(direction[name] * g).sum() for name, g in outputs["gradients"].items())
        assert abs((loss(h) - loss(-h)) / (2 * h) - along) <= 1e-5 * max(size, abs(loss(0)))


@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([1.0, 1e-2, 1e-5]))
def test_noise_is_never_named(seed, size):
    rng = np.random.default_rng(seed)
    results = [
        (
            case,
            {
                "loss": case.expected["loss"],
                "gradients": {
                    name: g + size * rng.normal(size=g.shape)
                    for name, g in case.expected["gradients"].items()
                },
            },
        )
        for case in generic("maml")[:3]
    ]
    found = diagnose(computation("maml"), results, DOUBLE)
    assert found.findings == ()
    assert found.unknown == ("gradients",)


def test_the_wrong_parameter_is_pointed_at():
    found = diagnose(
        computation("maml"), edited(lambda name, g: -3 * g if name == "0.bias" else g)[:4], DOUBLE
    )
    lines = found.location
    assert found.findings == ()
    assert any(line.startswith("gradients.0.bias: ") and "factor of -3" in line for line in lines)
    assert any(line.startswith("right: ") and "gradients.0.weight" in line for line in lines)
    assert not any(line.startswith("gradients.0.weight") for line in lines)


def test_a_zero_gradient_is_called_zero():
    found = diagnose(
        computation("maml"), edited(lambda name, g: 0 * g if name == "0.weight" else g)[:4], DOUBLE
    )
    assert any(line.startswith("gradients.0.weight: ") and "it is zero" in line for line in found.location)


def test_the_wrong_task_is_found():
    """One task is weighed by a number that is no known mistake; alone it is wrong, too."""
    known, reference = generic("maml"), computation("maml").reference

    def run(case):
        tasks = len(case.inputs["support_x"])
        value, total = 0.0, {}
        for task in range(tasks):
            one = {n: v if n == "params" else v[task : task + 1] for n, v in case.inputs.items()}
            outputs = reference(case.settings, one)
            first = (
                case.inputs["support_x"][task].ravel()[0] == case_with_tasks.inputs["support_x"][0].ravel()[0]
            )
            weight = (0.7 if first else 1.0) / tasks
            value = value + weight * outputs["loss"]
            total = {n: total.get(n, 0) + weight * g for n, g in outputs["gradients"].items()}
        return {"loss": np.asarray(value), "gradients": total}

    case_with_tasks = known[0]
    tasks = len(case_with_tasks.inputs["support_x"])
    found = diagnose(computation("maml"), [(case_with_tasks, run(case_with_tasks))], DOUBLE, run)
    text = "\n".join(found.location)
    assert found.findings == ()
    assert f"with the weights {0.7 / tasks:.4g}, {1 / tasks:.4g}" in text
    assert f"{case_with_tasks.name}: wrong on task 0 alone" in text


def test_only_the_loss_can_be_wrong():
    results = [(case, {**case.expected, "loss": 2 * case.expected["loss"]}) for case in generic("maml")]
    found = diagnose(computation("maml"), results, DOUBLE)
    assert found.names == ("gradient-accumulated-twice",)
    assert found.findings[0].outputs == ("loss",)


def test_two_outputs_can_have_two_mistakes():
    """The loss is a sum over the tasks, and the gradient of another mistake is taken twice."""
    (mistake,) = (each for each in CATALOGUE if each.name == "first-order")
    results = [
        (
            case,
            {
                "loss": len(case.inputs["support_x"]) * case.expected["loss"],
                "gradients": {name: 2 * g for name, g in outputs["gradients"].items()},
            },
        )
        for case, outputs in answers(mistake.variants[0], "maml")
    ]
    found = diagnose(computation("maml"), results, DOUBLE)
    assert [(each.title, each.outputs) for each in found.findings] == [
        ("sum-over-tasks", ("loss",)),
        ("first-order and gradient-accumulated-twice", ("gradients",)),
    ]


def test_a_head_without_a_temperature_is_diagnosed_on_the_cases_that_have_none():
    (mistake,) = (each for each in CATALOGUE if each.name == "euclidean-distance")
    results = []
    for case in vectors.stored("prototypical"):
        plain = case.settings["distance"] == "sqeuclidean" and case.settings["temperature"] == 1
        if plain and case.expected:
            results.append((case, mistake.variants[0].outputs(case.settings, case.inputs)))
    found = diagnose(computation("prototypical"), results, DOUBLE)
    assert found.names == ("euclidean-distance",)
    assert found.unknown == ()


def test_an_error_on_edges_alone_is_located():
    results = [
        (case, scaled(case.expected, 1.5) if case.name == "one-shot" else case.expected)
        for case in vectors.stored("maml")
        if case.expected
    ]
    found = diagnose(computation("maml"), results, DOUBLE)
    assert found.findings == ()
    assert found.location[0] == "wrong on: one-shot"


def test_single_precision_is_named_too():
    (mistake,) = (each for each in CATALOGUE if each.name == "first-order")
    results = [
        (case, scaled({k: single(v) for k, v in outputs.items()}, 1.0))
        for case, outputs in answers(mistake.variants[0], "maml")
    ]
    assert diagnose(computation("maml"), results, np.dtype(np.float32)).names == ("first-order",)


def test_nothing_wrong_is_nothing_said():
    results = [(case, case.expected) for case in generic("maml")]
    found = diagnose(computation("maml"), results, DOUBLE)
    assert dataclasses.astuple(found) == ((), (), ())


def loop_of(**knobs):
    """What an implementation with several mistakes returns in the generic cases."""
    return [
        (case, loop_ways.outputs(LoopKnobs(**knobs), case.settings, case.inputs)) for case in generic("maml")
    ]


def never(k, steps):
    return 0.0


@pytest.mark.parametrize(
    ("knobs", "names"),
    [
        ({"more_steps": 1, "hessian": never}, ("extra-step", "first-order")),
        ({"carry": 0.83, "hessian": never}, ("momentum-in-inner-loop", "first-order")),
        ({"decay": 0.03, "pollutes": "direct"}, ("weight-decay-in-inner-loop", "outer-gradient-accumulates")),
    ],
)
def test_a_wrong_inner_loop_with_a_wrong_meta_gradient_gets_both_names(knobs, names):
    found = diagnose(computation("maml"), loop_of(**knobs), DOUBLE)
    assert found.names == names
    assert not found.unknown


def test_a_mistake_in_some_cases_is_named_with_them_and_with_what_they_share():
    results = [
        (case, outputs if case.settings["inner_steps"] > 4 else case.expected)
        for case, outputs in loop_of(hessian=never)
    ]
    found = diagnose(computation("maml"), results, DOUBLE)
    (finding,) = found.findings
    assert finding.name == "first-order"
    assert set(finding.on) == {case.name for case, _ in results if case.settings["inner_steps"] > 4}
    assert "regression" in finding.right
    assert "inner_steps is at least 5" in finding.setting
    assert "first-order on: five-steps" in found.text
    assert "right on: " in found.text


def test_other_cases_can_have_another_mistake():
    extra = {case.name: outputs for case, outputs in loop_of(more_steps=1)}
    results = [
        (case, outputs if case.settings["loss"] == "mse" else extra[case.name])
        for case, outputs in loop_of(outer=("support",))
    ]
    found = diagnose(computation("maml"), results, DOUBLE)
    assert {each.name: set(each.on) for each in found.findings} == {
        "extra-step": {case.name for case, _ in results if case.settings["loss"] == "cross_entropy"},
        "wrong-set": {case.name for case, _ in results if case.settings["loss"] == "mse"},
    }
    assert not found.unknown


@pytest.mark.parametrize("sum_", [False, True])
def test_inner_gradients_that_pollute_reach_the_step_sizes_too(sum_):
    """By central differences of what `backward` of every inner loss and of the outer one adds up."""
    for case in generic("meta-sgd"):
        if case.name not in ("regression", "five-steps", "classification"):
            continue
        loop = LoopKnobs(pollutes="through", pollution_sum=sum_)
        outputs = loop_ways.outputs(loop, case.settings, case.inputs)
        right = loop_ways.outputs(LoopKnobs(), case.settings, case.inputs)
        share = 1.0 if sum_ else 1 / len(case.inputs["support_x"])
        rates = {n: p for n, p in case.inputs["params"].items() if n.startswith("lr.")}
        direction = {n: np.random.default_rng(len(n)).normal(size=p.shape) for n, p in rates.items()}

        def support_losses(step, case=case, direction=direction):
            moved = {
                n: p + step * direction[n] if n in direction else p for n, p in case.inputs["params"].items()
            }
            total = 0.0
            for k in range(case.settings["inner_steps"]):
                sets = {"query_x": case.inputs["support_x"], "query_y": case.inputs["support_y"]}
                settings = {**case.settings, "inner_steps": k}
                total += loop_ways.outputs(LoopKnobs(), settings, {**case.inputs, **sets, "params": moved})[
                    "loss"
                ]
            return total * len(case.inputs["support_x"])

        h = 1e-5
        along = share * (support_losses(h) - support_losses(-h)) / (2 * h)
        added = sum(
            (direction[n] * (outputs["gradients"][n] - right["gradients"][n])).sum() for n in direction
        )
        assert added == pytest.approx(along, rel=1e-6)
        assert abs(added) > 1e-6
