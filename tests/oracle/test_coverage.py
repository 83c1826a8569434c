"""What a verdict rests on is said: which cases were run, which kinds never, which settings never read."""

import json

import numpy as np
import oracle_candidates as candidates
import pytest
import torch
from torch.func import functional_call
from typer.testing import CliRunner

from mltk.cli import app
from mltk.errors import SettingError
from mltk.oracle import vectors
from mltk.oracle.check import check
from mltk.oracle.computations import computation, computations
from mltk.oracle.report_text import to_text
from mltk.oracle.selection import condition, described, is_balanced, varying


def in_order(labels, ways):
    each = labels.shape[1] // ways
    return labels.shape[1] % ways == 0 and bool((labels == torch.arange(ways).repeat_interleave(each)).all())


def prototypes(reduce, most_shots=9):
    """Prototypical networks for balanced episodes in order, without a temperature, for squared distances."""

    def head(params, data, settings):
        ways, (tasks, support, features) = settings.ways, data.support_x.shape
        if settings.distance != "sqeuclidean" or settings.temperature != 1.0:
            raise NotImplementedError("squared distances alone")
        if not in_order(data.support_y, ways) or support > most_shots * ways:
            raise NotImplementedError("classes of equal size in order")
        means = reduce(data.support_x.reshape(tasks, ways, support // ways, features))
        return -((data.query_x[:, :, None] - means[:, None]) ** 2).sum(-1)

    return head


def verdict(candidate, name="prototypical", **options):
    (found,) = check(candidate, [name], **{"examples": 0, **options}).verdicts
    return found


def test_sums_in_balanced_episodes_are_found():
    sums = verdict(prototypes(lambda x: x.sum(2)))
    assert sums.verdict == "wrong"
    assert "prototype-by-sum" in sums.diagnosis.names
    assert verdict(prototypes(lambda x: x.mean(2))).verdict == "correct"


def test_what_was_never_run_is_said():
    found = verdict(prototypes(lambda x: x.mean(2), most_shots=1))
    assert found.verdict == "correct"
    assert found.rests_on < found.of
    assert found.rests_on + found.skipped >= found.of
    for kind in ("several classes with several shots", "distance=cosine", "temperature other than 1"):
        assert kind in found.never_run
    text = to_text(check(prototypes(lambda x: x.mean(2), most_shots=1), ["prototypical"], examples=0))
    assert f"rests on {found.rests_on} of {found.of} cases" in text
    assert f"never run: {'; '.join(found.never_run)}" in text
    whole = verdict(prototypes(lambda x: x.mean(2)))
    assert "several classes with several shots" not in whole.never_run
    assert verdict(candidates.torch_maml, "maml", where=["balanced", "min_steps=3"]).never_run == ()


def blind(params, data, settings):
    """Prototypical networks that look at no setting but the number of classes."""
    hot = torch.nn.functional.one_hot(data.support_y, settings.ways).to(data.support_x)
    means = hot.mT @ data.support_x / hot.sum(1)[..., None]
    return -((data.query_x[:, :, None] - means[:, None]) ** 2).sum(-1)


def test_a_case_is_called_right_where_it_is():
    found = verdict(blind)
    wrong = {each.case.name for each in found.failed}
    parts = [each for each in found.diagnosis.findings if each.on]
    assert {name for each in parts for name in each.names} == {"temperature-left-out", "wrong-similarity"}
    assert [each.right for each in parts if wrong & {*each.right}] == []
    assert all({*each.on} <= wrong for each in parts)


def test_a_setting_that_is_never_read_is_said():
    found = verdict(blind)
    assert (found.verdict, found.never_read) == ("wrong", ("distance", "temperature"))
    where = ["distance=sqeuclidean", "temperature=1"]
    right = verdict(blind, where=where, examples=20)
    assert (right.verdict, right.never_read, right.never_run) == ("correct", (), ())
    assert "it never reads distance, temperature" in to_text(check(blind, ["prototypical"], examples=0))
    copied = verdict(lambda p, d, s: (dict(s), blind(p, d, s))[1])
    assert copied.never_read == ()


def test_settings_are_read_across_processes(tmp_path):
    file = tmp_path / "blind.py"
    file.write_text("def head(params, data, settings):\n    return data.query_x[..., :1] * settings.ways\n")
    found = verdict(f"{file}:head", where=["ways=1"])
    assert found.never_read == ("distance", "temperature")


def by_torch(result, detach=False):
    """MAML whose loss keeps its graph, from a module or from the parameters that are given."""

    def maml(params, data, settings):
        start = dict(settings.module(params).named_parameters()) if result == "module" else params
        if not start["0.weight"].requires_grad:
            start = {name: p.clone().requires_grad_() for name, p in start.items()}
        network, loss, losses = settings.module(params), settings.loss_function(), []
        for task in range(len(data.support_x)):
            fast = start
            for _ in range(settings.inner_steps):
                value = loss(functional_call(network, fast, (data.support_x[task],)), data.support_y[task])
                grads = torch.autograd.grad(value, list(fast.values()), create_graph=not detach)
                fast = {n: p - settings.inner_lr * g for (n, p), g in zip(fast.items(), grads, strict=True)}
            losses.append(loss(functional_call(network, fast, (data.query_x[task],)), data.query_y[task]))
        total = torch.stack(losses).mean()
        return {"loss": total} if result != "number" else total.item()

    return maml


@pytest.mark.parametrize("result", ["module", "given"])
def test_a_loss_with_a_graph_is_differentiated(result):
    found = verdict(by_torch(result), "maml", examples=5)
    assert (found.verdict, found.derived, found.unjudged) == ("correct", True, ())
    wrong = verdict(by_torch(result, detach=True), "maml")
    assert (wrong.verdict, wrong.diagnosis.names) == ("wrong", ("first-order",))
    assert verdict(by_torch(result, detach=True), "fomaml").verdict == "correct"


def test_logits_with_a_graph_are_differentiated():
    found = verdict(prototypes(lambda x: x.mean(2)))
    assert (found.verdict, found.derived, found.outputs) == ("correct", True, ("logits", "gradients"))
    detached = verdict(prototypes(lambda x: x.mean(2).detach()))
    assert (detached.verdict, detached.derived) == ("wrong", True)


def test_the_loss_alone_is_not_plainly_correct(tmp_path):
    report = check(by_torch("number"), ["maml"], examples=0)
    (found,) = report.verdicts
    assert (found.verdict, found.derived, found.unjudged) == ("correct-in-part", False, ("gradients",))
    assert not report.passed
    assert not report.judged
    assert "no gradients were returned" in to_text(report)
    path = candidates.__file__
    done = CliRunner().invoke(
        app, ["oracle", "check", f"{path}:loss_alone", "--arrays", "numpy", "--examples", "0"]
    )
    assert (done.exit_code, "correct-in-part" in done.stdout) == (2, True)


def test_a_reptile_is_never_differentiated():
    def reptile(params, data, settings):
        return by_torch("given")(params, data, settings)

    found = verdict(reptile, "reptile", where=["inner_batch=null", "min_lr=0.1"])
    assert (found.verdict, found.derived) == ("correct-in-part", False)


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        (["loss=cross_entropy"], lambda case: case.settings["loss"] == "cross_entropy"),
        (["min_steps=3"], lambda case: case.settings["inner_steps"] >= 3),
        (["max_inner_lr=0.2"], lambda case: case.settings["inner_lr"] <= 0.2),
        (["inner_lr=0.50"], lambda case: case.settings["inner_lr"] == 0.5),
        (["ways=null"], lambda case: case.settings["ways"] is None),
        (["balanced"], is_balanced),
        (["balanced", "min_steps=2"], lambda case: is_balanced(case) and case.settings["inner_steps"] >= 2),
    ],
)
def test_cases_and_draws_are_restricted(wanted, holds):
    seen = []

    def record(params, data, settings):
        seen.append(dict(settings))
        return candidates.right(params, data, settings)

    counts = condition(computation("maml"), wanted)
    chosen = [case for case in vectors.stored("maml") if case.kind != "must-raise" and holds(case)]
    assert chosen
    assert all(counts(case) == holds(case) for case in vectors.stored("maml") if case.kind != "must-raise")
    plain = [text for text in wanted if text != "balanced"]
    found = verdict(record, "maml", where=plain, arrays="numpy", examples=15)
    assert found.verdict == "correct"
    settings = [type(chosen[0])("", "valid", "", each, {}) for each in seen]
    assert all(condition(computation("maml"), plain)(case) for case in settings)
    assert found.of > len([case for case in chosen if not case.convention]) or len(plain) < len(wanted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss=hinge", "expected for loss one of mse, cross_entropy"),
        ("min_steps=many", "expected a number"),
        ("min_stps=2", r"vary in maml: .*inner_steps.*did you mean 'steps'\?"),
        ("min_loss=2", "expected balanced, or NAME=VALUE"),
        ("ballanced", r"did you mean 'balanced'\?"),
        ("inner_steps=77", "expected for inner_steps one of 0, 1, 2, 3, 5, 8"),
        ("min_steps=99", "no case of maml fulfils all"),
    ],
)
def test_unknown_conditions_name_the_choices(text, message):
    with pytest.raises(SettingError, match=message):
        check(candidates.right, ["maml"], where=[text], examples=0)
    done = CliRunner().invoke(app, ["oracle", "check", f"{candidates.__file__}:right", "--where", text])
    assert (done.exit_code, "Traceback" in done.output) == (2, False)


def test_the_settings_that_vary_are_listed():
    listed = CliRunner().invoke(app, ["oracle", "computations"]).stdout
    for name in computations():
        for setting, values in varying(vectors.stored(name)).items():
            assert described(setting, values) in listed
    found = varying(vectors.stored("prototypical"))
    assert {*found} == {"ways", "distance", "temperature"}
    assert described("temperature", found["temperature"]) == "temperature: 0.4, 0.8, 1, 1.5, 2.5 or learned"


def test_a_report_in_json_says_what_it_rests_on():
    report = check(prototypes(lambda x: x.mean(2)), ["prototypical"], examples=0)
    (content,) = json.loads(json.dumps(report.to_json(), allow_nan=False))["verdicts"]
    assert 0 < content["rests_on"] < content["of"]
    assert content["never_run"]
    assert np.all([content["derived"], content["never_read"] == []])
