"""The house stays small: what `size.py` counts is held to its limits."""

import json
import subprocess
import sys

import pytest
import size

LIMITS = {
    "files on the road of a MAML step": 10,
    "lines on the road of a MAML step": 1_800,
    "files in import cycles": 0,
    "code lines of mltk without the oracle": 25_200,
    "code lines of the oracle": 9_940,
    "lines of the longest file": 400,
    "lines of the tests": 48_090,
}


@pytest.fixture(scope="module")
def counts():
    """What is counted in a new process, where nothing is known from a step before."""
    code = "import json, size; print(json.dumps(dict(size.counts())))"
    folder = size.ROOT / "tests"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return json.loads(found.stdout)


@pytest.mark.parametrize("name", LIMITS)
def test_a_count_stays_within_its_limit(counts, name):
    assert counts[name] <= LIMITS[name]


def test_a_cycle_is_found_in_whatever_way_it_is_closed(tmp_path, monkeypatch):
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "a.py").write_text("from house.b import door\n")
    (tmp_path / "b.py").write_text("def door():\n    import house.c\n")
    (tmp_path / "c.py").write_text("if False:\n    from house import a\n")
    (tmp_path / "d.py").write_text("from house import a\n")
    monkeypatch.setattr(size, "SOURCES", {"house": tmp_path})
    assert size.cycles() == [{"house.a", "house.b", "house.c"}]


def test_code_lines_are_those_that_do_something(tmp_path):
    path = tmp_path / "some.py"
    path.write_text(
        '"""A file.\n\nOf two lines.\n"""\n\n# why\nx = 1\n\n\ndef f():\n    """What."""\n    return x\n'
    )
    assert size.code_lines(path) == 3
    assert size.length(path) == 12
