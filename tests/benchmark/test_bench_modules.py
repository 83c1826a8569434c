"""The benchmark of modules: all compute the same before they are timed; the command writes a run."""

import json

import pytest
import torch
from typer.testing import CliRunner

from mltk.benchmark import app, modules
from mltk.benchmark.modules import AIMS, BOOKKEEPING, maml_steps, network, race, updates


@pytest.mark.parametrize("tensors", modules.TENSORS[:2])
def test_a_network_has_so_many_tensors_that_all_get_a_gradient(tensors):
    module = network(tensors)
    assert len(list(module.parameters())) == tensors
    gradients = maml_steps(module)["torch-func"]()
    largest = max(grad.abs().max() for grad in gradients)
    assert all(grad.abs().max() > 1e-3 * largest for grad in gradients)


def test_all_compute_the_same_and_are_timed_as_often():
    races = race(4, repeats=2)
    assert races.keys() == AIMS.keys()
    for title, rows in races.items():
        named = {row.name: row for row in rows}
        assert {aim.name for aim in AIMS[title]} <= named.keys()
        assert all(len(row.seconds) == 2 for row in rows)
        compared = named.keys() - {"forward", "functional_call", BOOKKEEPING}
        assert "mltk" in compared
        assert len(compared) > 1 or title == "clone and update"  # where only peers are compared with
        assert all(named[name].error <= 1e-5 for name in compared)
        assert {aim.peer for aim in AIMS[title]} & named.keys()


def test_the_bookkeeping_is_the_difference_of_two_rows():
    rows = {row.name: row.seconds for row in race(4, repeats=3)["clone and update"]}
    differences = [a - b for a, b in zip(rows["functional_call"], rows["forward"], strict=True)]
    assert list(rows[BOOKKEEPING]) == differences


def test_updates_of_all_reach_the_original():
    module = network(4)
    addends = [torch.ones_like(p) for p in module.parameters()]
    for call in updates(module, addends).values():
        value = sum((p**2).sum() for p in call().parameters())
        for grad, p in zip(
            torch.autograd.grad(value, list(module.parameters())), module.parameters(), strict=True
        ):
            torch.testing.assert_close(grad, 2 * (p + 1).detach())


@pytest.mark.parametrize("broken", [False, True])
def test_the_command_prints_and_writes_a_run_and_fails_if_a_result_is_wrong(tmp_path, monkeypatch, broken):
    monkeypatch.setattr(modules, "TENSORS", (4,))
    if broken:
        monkeypatch.setattr(modules, "update_module", lambda module, updates: module)
    path = tmp_path / "run.json"
    assert modules.execute(repeats=1, path=path) == broken
    report = json.loads(path.read_text())
    assert [(race["race"], race["tensors"]) for race in report["races"]] == [(title, 4) for title in AIMS]
    for race_ in report["races"]:
        assert "mltk" in {row["name"] for row in race_["rows"]}


def test_the_command_line_has_the_benchmark():
    result = CliRunner().invoke(app, ["modules", "--help"])
    assert result.exit_code == 0
    assert "50 and 500 tensors" in result.output
