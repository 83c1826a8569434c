"""The benchmark: fair turns, a comparison that catches wrong gradients, and a run that goes on."""

import json
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from typer.testing import CliRunner

from mltk.benchmark import app, commands
from mltk.benchmark.cases import WARM_UP, build, in_double
from mltk.benchmark.contestants import CONTESTANTS, NUMPY
from mltk.benchmark.entrant import Local, Remote
from mltk.benchmark.memory import measure, peak_memory
from mltk.benchmark.timing import run
from mltk.errors import SettingError, UnsupportedError
from mltk.peers import to_numpy

NAMES = sorted(WARM_UP)


@dataclass(frozen=True)
class Altered:
    """mltk whose gradient is changed by a function of the case and the gradient."""

    change: object
    name: str = "altered"

    def available(self):
        return None

    def prepare(self, case):
        call = NUMPY.prepare(case)

        def altered():
            loss, grads = call()
            return loss, self.change(case, grads)

        return altered


def run_locally(benchmark, contestants, repeats=1):
    case = build(benchmark, **WARM_UP[benchmark])
    _, reference = to_numpy(CONTESTANTS[benchmark][0].prepare(in_double(case))())
    found = {contestant.name: contestant for contestant in contestants}
    rows = run(found, lambda name: Local(found[name], case), reference, repeats=repeats)
    return {row.name: row for row in rows}


@pytest.mark.parametrize("benchmark", NAMES)
def test_everyone_who_is_installed_agrees_and_is_timed(benchmark):
    rows = run_locally(benchmark, [c for c in CONTESTANTS[benchmark] if c.name != "jax"], repeats=2)
    for row in rows.values():
        assert not row.wrong
        assert row.skipped is not None or len(row.seconds) == 2
    assert rows["mltk-numpy"].seconds


def scaled(case, grads):
    return grads | {"0.weight": 1.01 * grads["0.weight"]}


def without_one(case, grads):
    return {name: leaf for name, leaf in grads.items() if name != "0.bias"}


def not_finite(case, grads):
    return grads | {"4.bias": np.nan * grads["4.bias"]}


@pytest.mark.parametrize("change", [scaled, without_one, not_finite])
def test_a_wrong_gradient_is_caught(change):
    rows = run_locally("sinusoid-maml", [NUMPY, Altered(change)])
    assert rows["altered"].wrong
    assert not rows["mltk-numpy"].wrong


def test_float64_decides_where_float32_crosses_a_kink():
    def only_in_single(case, grads):
        return scaled(case, grads) if case.params["0.weight"].dtype == np.float32 else grads

    row = run_locally("sinusoid-maml", [Altered(only_in_single)])["altered"]
    assert row.error > 1e-3
    assert not row.wrong


def test_a_wrong_gradient_makes_the_exit_status_1(monkeypatch, capsys):
    settings = WARM_UP["sinusoid-maml"]
    options = {"title": "tiny", "repeats": 1, "path": None, "names": ["mltk-numpy"]}
    for change, status in [(lambda case, grads: grads, 0), (scaled, 1)]:
        monkeypatch.setattr(
            commands, "Remote", lambda b, n, s, change=change: Local(Altered(change, n), build(b, **s))
        )
        assert commands.execute("sinusoid-maml", settings, (), **options) == status
        assert ("computes another gradient" in capsys.readouterr().out) == bool(status)


def test_the_others_go_on_when_one_fails_or_is_missing():
    def fail(case, grads):
        raise ZeroDivisionError("inside a library")

    @dataclass(frozen=True)
    class Missing(Altered):
        name: str = "missing"

        def available(self):
            return "not installed: pip install missing"

    rows = run_locally("sinusoid-maml", [Missing(None), Altered(fail), NUMPY])
    assert rows["missing"].skipped == "not installed: pip install missing"
    assert not rows["missing"].wrong
    assert "inside a library" in rows["altered"].failed
    assert rows["altered"].wrong
    assert len(rows["mltk-numpy"].seconds) == 1


def test_contestants_take_turns():
    turns = []

    @dataclass
    class Recorder:
        name: str
        gradient: dict = field(default_factory=lambda: {"w": np.ones(1)})

        def sample(self, times):
            turns.append(self.name)
            return 1.0

        def close(self):
            turns.append(f"end of {self.name}")

    run("AB", Recorder, {"w": np.ones(1)}, repeats=3)
    assert turns == [*"AB", *"AB" * 3, "end of A", "end of B"]


def test_a_process_of_its_own_gives_the_same_gradient():
    settings = WARM_UP["sinusoid-maml"]
    case = build("sinusoid-maml", **settings)
    remote = Remote("sinusoid-maml", "mltk-numpy", settings)
    try:
        for call, found in [(case, remote.gradient), (in_double(case), remote.gradient_in_double())]:
            _, expected = to_numpy(NUMPY.prepare(call)())
            assert all((found[name] == leaf).all() for name, leaf in expected.items())
        assert remote.sample(3) > 0
    finally:
        remote.close()


def test_a_process_that_cannot_take_part_says_why():
    with pytest.raises(RuntimeError, match="sizes is -1"):
        Remote("sinusoid-maml", "mltk-numpy", {"width": -1})
    pytest.importorskip("torch")
    with pytest.raises(UnsupportedError, match="fully connected"):
        Remote("conv4-maml", "torch-batched", WARM_UP["conv4-maml"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets the peak memory of a process")
def test_peak_memory_is_that_of_one_call():
    def use(megabytes):
        def change(case, grads):
            for _ in range(2):
                del_me = np.ones(megabytes * 125_000)
                del del_me
            return grads

        return change

    small, case = (build("sinusoid-maml", **WARM_UP["sinusoid-maml"]) for _ in range(2))
    for megabytes in (100, 40):
        assert measure(Altered(use(megabytes)), small, case) == pytest.approx(megabytes * 1e6, rel=0.1)


def test_peak_memory_in_a_fresh_process():
    peak = peak_memory("sinusoid-maml", "mltk-numpy", {"tasks": 500, "inner_steps": 5})
    assert 20e6 < peak < 2e9
    assert peak_memory("sinusoid-maml", "mltk-numpy", {"tasks": -1}) is None


def test_the_command_prints_and_writes_a_run(tmp_path):
    path = tmp_path / "run.json"
    arguments = ["sinusoid-maml", "--repeats", "2", "--only", "mltk-numpy", "--json", str(path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    report = json.loads(path.read_text())
    (row,) = report["rows"]
    assert row["name"] == "mltk-numpy"
    assert len(row["seconds"]) == 2
    assert row["error"] < 1e-5
    assert row["peak_bytes"] > 0


def test_unknown_names_are_refused():
    result = CliRunner().invoke(app, ["conv4-maml", "--only", "mltk-abacus"])
    assert result.exit_code == 2
    assert "mltk-abacus" in result.output
    with pytest.raises(SettingError, match="abacus"):
        build("abacus")


def test_importing_the_benchmark_loads_no_other_library():
    code = "import sys, mltk.benchmark; print({'torch', 'jax', 'scipy', 'higher'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
