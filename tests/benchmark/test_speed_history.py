"""The speed history: what `make bench` appends are the ratios of its runs, and they can be read again."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import speed_history
from typer.testing import CliRunner

from mltk.benchmark import app

ROOT = Path(__file__).parent.parent.parent
RACE = [
    {"name": "mltk", "median": 2.0},
    {"name": "higher", "median": 3.0},
    {"name": "torchopt", "median": None},
]
MODULES = {"benchmark": "modules", "races": [{"race": "clone", "tensors": 4, "rows": RACE}]}


@pytest.fixture
def history(tmp_path):
    return tmp_path / "history.jsonl"


def test_ratios_are_times_over_that_of_mltk_for_those_who_ran():
    assert speed_history.ratios(MODULES) == {"modules: clone, 4 tensors": {"mltk": 1.0, "higher": 1.5}}
    rows = [{"name": "mltk-torch-analytic", "median": 4.0}, {"name": "torchopt", "median": 6.0}]
    report = {"benchmark": "conv4-maml", "settings": {"queries": 15}, "rows": rows}
    assert speed_history.ratios(report)["conv4-maml: queries 15"]["torchopt"] == 1.5
    assert speed_history.ratios(report | {"rows": rows[1:]}) == {}


def test_a_run_of_the_benchmark_becomes_a_line(tmp_path, history):
    run = tmp_path / "run.json"
    contestants = "mltk-numpy,mltk-torch-analytic"
    arguments = ["sinusoid-maml", "--repeats", "2", "--only", contestants, "--json", str(run)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    medians = {row["name"]: row["median"] for row in json.loads(run.read_text())["rows"]}
    speed_history.append([run], history)
    (line,) = (json.loads(text) for text in history.read_text().splitlines())
    assert line.keys() == {"date", "commit", "processor", "ratios"}
    assert line["ratios"]["sinusoid-maml"] == {
        name: pytest.approx(median / medians["mltk-numpy"], abs=1e-3) for name, median in medians.items()
    }


def test_lines_are_added_and_shown_side_by_side(tmp_path, history):
    run = tmp_path / "run.json"
    run.write_text(json.dumps(MODULES))
    speed_history.append([run], history)
    later = [row | {"median": row["median"] and row["median"] ** 2} for row in RACE]
    run.write_text(json.dumps(MODULES | {"races": [MODULES["races"][0] | {"rows": later}]}))
    speed_history.append([run], history)
    shown = speed_history.table(history)
    assert re.search(r"^  higher +1\.5 +2\.25$", shown, re.M)
    assert shown.count(speed_history.processor()) == 2


def test_nothing_is_shown_of_no_history(history):
    assert speed_history.table(history) == ""


def test_every_run_of_make_bench_is_appended():
    alone = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # of `make test`
    done = subprocess.run(
        ["make", "-n", "bench"], cwd=ROOT, env=alone, capture_output=True, text=True, check=True
    )
    commands = [line for line in done.stdout.splitlines() if "mltk bench" in line]
    written = [line.split("--json ")[1] for line in commands]
    assert len(set(written)) == len(commands) >= 5
    assert done.stdout.splitlines()[-1].split("speed_history.py ")[1].split() == written


def test_the_history_that_is_kept_can_be_read():
    assert isinstance(speed_history.table(), str)
