"""The benchmark of prototypical networks: all take the same training steps, and wrong gradients are seen."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from typer.testing import CliRunner

import mltk
from mltk import tree
from mltk.benchmark import app, commands
from mltk.benchmark.cases import PROTOTYPICAL_AIMS, WARM_UP, build, in_double
from mltk.benchmark.contestants import CONTESTANTS
from mltk.benchmark.entrant import Local
from mltk.peers import to_numpy

SETTINGS = WARM_UP["prototypical"]
JUDGE, *OTHERS = CONTESTANTS["prototypical"]


def of_unequal_classes(case):
    """The same, with labels in any order, three examples of one class and one of another."""
    old = case.episode
    labels = np.array([[1, 2, 0, 2, 1, 2], [0, 1, 1, 2, 0, 1]])
    episode = mltk.Episode(
        old.support_x, labels, old.query_x, labels[:, ::-1].copy(), ways=3, backend=old.backend
    )
    return type(case)(case.model, case.loss, params=case.params, episode=episode)


def test_the_judge_starts_from_the_learners_gradient():
    case = in_double(build("prototypical", **SETTINGS))
    learner = mltk.algorithms.Prototypical(case.model)
    value, expected = learner.value_and_grad(tree.unflatten(case.params), case.episode)
    loss, grads = to_numpy(JUDGE.prepare(case)())
    assert loss == pytest.approx(float(value), rel=1e-12)
    for name, leaf in tree.flatten(expected).items():
        np.testing.assert_array_equal(grads[name], leaf)


@pytest.mark.parametrize("peer", OTHERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("change", [lambda case: case, of_unequal_classes], ids=["equal", "unequal"])
def test_everyone_takes_the_same_steps(peer, change):
    pytest.importorskip("torch")
    case = change(in_double(build("prototypical", **SETTINGS)))
    expected, step = JUDGE.prepare(case), peer.prepare(case)
    losses = []
    for _ in range(4):
        wanted, grads = to_numpy(expected())
        loss, found = to_numpy(step())
        losses.append(loss)
        assert loss == pytest.approx(wanted, rel=1e-7)
        assert found.keys() == grads.keys()
        scale = max(np.abs(leaf).max() for leaf in grads.values())
        for name, leaf in grads.items():
            # Adam scales up rounding in what is zero, the biases before batch norm; nothing depends on them.
            np.testing.assert_allclose(found[name], leaf, rtol=0, atol=1e-6 * scale, err_msg=name)
    assert losses[-1] < losses[0]


@dataclass(frozen=True)
class Altered:
    """A contestant whose gradient is changed."""

    name: str
    change: object

    def available(self):
        return None

    def prepare(self, case):
        step = JUDGE.prepare(case)

        def altered():
            loss, grads = step()
            return loss, self.change(grads)

        return altered


def test_a_wrong_gradient_makes_the_exit_status_1(monkeypatch, capsys):
    options = {"title": "tiny", "repeats": 1, "path": None, "names": ["mltk-numpy"]}
    changes = [lambda grads: grads, lambda grads: grads | {"0.weight": 1.01 * grads["0.weight"]}]
    for status, change in enumerate(changes):
        monkeypatch.setattr(
            commands, "Remote", lambda b, n, s, change=change: Local(Altered(n, change), build(b, **s))
        )
        assert commands.execute("prototypical", SETTINGS, (), **options) == status
        assert ("computes another gradient" in capsys.readouterr().out) == bool(status)


def test_the_command_prints_and_writes_a_run(tmp_path):
    path = tmp_path / "run.json"
    sizes = ["--ways", "2", "--shots", "2", "--queries", "1", "--tasks", "2"]
    arguments = ["prototypical", *sizes, "--repeats", "2", "--only", "mltk-numpy", "--json", str(path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    report = json.loads(path.read_text())
    assert report["settings"] == {"ways": 2, "shots": 2, "queries": 1, "tasks": 2}
    (row,) = report["rows"]
    assert len(row["seconds"]) == 2
    assert row["error"] < 1e-3
    assert [aim["times"] for aim in report["aims"]] == [1, 1, 0.25]


def test_aims_name_contestants_and_others_are_refused():
    names = {contestant.name for contestant in CONTESTANTS["prototypical"]}
    assert {name for aim in PROTOTYPICAL_AIMS for name in (aim.name, aim.peer)} <= names
    result = CliRunner().invoke(app, ["prototypical", "--only", "higher"])
    assert result.exit_code == 2
    assert "torch-channels-last" in result.output
