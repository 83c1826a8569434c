"""The test vectors are edited as data: what is given is written down, and what is expected is found."""

import dataclasses
import json
import re
from importlib import resources
from pathlib import Path

import jsonschema_rs
import pytest
from typer.testing import CliRunner

from mltk.cli import app
from mltk.errors import MltkError, SettingError
from mltk.oracle import vectors
from mltk.oracle.computation import TORCH
from mltk.oracle.computations import computation
from mltk.oracle.confirmation import VectorError, complete
from mltk.oracle.editing import drafts, edit, edited

PACKAGED = Path(str(resources.files("mltk.oracle") / "vectors"))
SMALL = "idbd"
"""A computation that takes no time."""

PAGE = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
FRAGMENT = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.S)[1])
"""The example of the page."""


@pytest.fixture
def folder(tmp_path):
    """A copy of the small computation's file."""
    list(vectors.copy([computation(SMALL)], tmp_path))
    return tmp_path


def entries(folder):
    content = json.loads((folder / f"{SMALL}.json").read_text(encoding="utf-8"))
    schema = json.loads((PACKAGED / "schema.json").read_text(encoding="utf-8"))
    jsonschema_rs.Draft202012Validator(schema).validate(content)
    return {case["name"]: case for case in content["cases"]}


def command(*arguments):
    return CliRunner().invoke(app, ["oracle", *map(str, arguments)])


def written(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_without_changes_an_edit_gives_the_same_bytes(folder):
    path, _ = edit(computation(SMALL), folder)
    assert path.read_bytes() == (PACKAGED / path.name).read_bytes()


def test_the_command_adds_replaces_renames_and_removes_cases(folder, tmp_path):
    before = entries(folder)
    fragment = written(tmp_path / "case.json", FRAGMENT)
    done = command("edit", SMALL, "--folder", folder, "--add", fragment)
    assert done.exit_code == 0, done.output
    added = entries(folder)
    assert [*added] == [*before, "one-input"]
    assert {name: added[name] for name in before} == before
    weight = added["one-input"]["expected"]["weights"][0][0]
    rate = added["one-input"]["expected"]["rates"][0][0]
    assert rate == pytest.approx(0.1, rel=1e-15)  # the trace is zero at first
    assert weight == pytest.approx(0.1 * 0.5 * 1.0, rel=1e-15)

    # An entry of a file is a fragment, too; the outputs in it are thrown away.
    other = {**added["one-input"], "settings": {"meta_rate": 0.2, "initial_rate": 0.2}}
    done = command("edit", SMALL, "--folder", folder, "--replace", written(tmp_path / "other.json", [other]))
    assert done.exit_code == 0, done.output
    assert entries(folder)["one-input"]["expected"]["weights"][0][0] == pytest.approx(0.1, rel=1e-15)

    done = command("edit", SMALL, "--folder", folder, "--rename", "online", "first", "--remove", "one-input")
    assert done.exit_code == 0, done.output
    after = entries(folder)
    assert [*after] == ["first", *list(before)[1:]]
    assert after["first"] == {**before["online"], "name": "first"}


def test_a_file_that_is_not_there_is_made(tmp_path):
    edit(computation(SMALL), tmp_path / "new", add=drafts(json.dumps(FRAGMENT)))
    assert [*entries(tmp_path / "new")] == ["one-input"]


def test_a_case_that_must_be_refused_gets_the_error_that_is_raised(tmp_path):
    maml = computation("maml")
    bad = next(case for case in vectors.stored("maml") if case.name == "nan-input")
    fragment = json.loads(vectors.to_text(vectors._case_document(bad)))
    assert fragment.pop("raises") == "NotFiniteError"
    _, content = edit(maml, tmp_path, add=drafts(json.dumps(fragment)))
    assert [case["raises"] for case in content["cases"]] == ["NotFiniteError"]
    valid = {**fragment, "kind": "valid"}
    with pytest.raises(MltkError):
        edit(maml, tmp_path, replace=drafts(json.dumps(valid)))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"add": lambda cases: cases[:1]}, SettingError, "two cases of the name online"),
        ({"remove": lambda cases: ["on-line"]}, SettingError, "did you mean 'online'"),
        ({"rename": lambda cases: {"on-line": "other"}}, SettingError, "did you mean 'online'"),
        (
            {"rename": lambda cases: {"online": "two-inputs"}},
            SettingError,
            "two cases of the name two-inputs",
        ),
        (
            {"replace": lambda cases: [dataclasses.replace(cases[0], name="on-line")]},
            SettingError,
            "did you mean 'online'",
        ),
    ],
)
def test_names_that_are_not_there_or_twice_are_refused(change, error, text):
    cases = vectors.stored(SMALL)
    with pytest.raises(error, match=text):
        edited(cases, **{key: value(cases) for key, value in change.items()})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"tied": True}, "no tied"),
        ({"tie": 1}, "int as its tie"),
        ({"least_condition": "large"}, "str as its least_condition"),
        ({"kind": "odd"}, "odd"),
        ({"name": "One Input"}, "One Input"),
        ({"comment": ""}, "a comment"),
        ({"inputs": {"x": [[0.5], [1.5, 2.0]]}}, "no case"),
        ({"settings": None}, "NoneType as its settings"),
    ],
)
def test_what_is_no_case_is_refused(change, text):
    with pytest.raises(MltkError, match=text):
        drafts(json.dumps({**FRAGMENT, **change}), "case.json")


def test_what_was_found_before_does_not_count():
    case = vectors.stored(SMALL)[0]
    other = dataclasses.replace(case, expected={}, raises="ShapeError", condition=1e9)
    assert vectors.to_text(vectors._case_document(complete(computation(SMALL), other)[0])) == vectors.to_text(
        vectors._case_document(case)
    )


def off(settings, inputs):
    """A way with an error."""
    outputs = computation(SMALL).routes[TORCH](settings, inputs)
    return {**outputs, "rates": outputs["rates"] * (1 + 1e-9)}


def test_nothing_is_written_where_a_way_disagrees(folder):
    whole, before = computation(SMALL), (folder / f"{SMALL}.json").read_bytes()
    broken = dataclasses.replace(whole, routes={**whole.routes, TORCH: off})
    with pytest.raises(VectorError, match=TORCH):
        edit(broken, folder, add=drafts(json.dumps(FRAGMENT)))
    assert [path.read_bytes() for path in folder.iterdir()] == [before]


@pytest.mark.parametrize(
    ("name", "case", "declared", "without"),
    [
        ("op-tanh", "huge", "tie", False),
        ("op-batch-norm", "offset-exact", "tie", False),
        ("ridge", "weak-examples-form", "least_condition", 1.0),
        ("op-attention", "huge-scores", "least_condition", 1.0),
    ],
)
def test_what_a_case_declares_is_needed(name, case, declared, without):
    """Without it another condition is measured, or right ways are refused."""
    kept = next(each for each in vectors.stored(name) if each.name == case)
    assert complete(computation(name), kept)[0].condition == kept.condition
    bare = dataclasses.replace(kept, **{declared: without})
    try:
        measured = complete(computation(name), bare)[0].condition
    except VectorError:  # right ways are too far from the truth
        return
    assert measured != kept.condition


def spoil(monkeypatch, tmp_path, change):
    """The small computation's file with a change stands in for that of mltk."""
    content = json.loads((PACKAGED / f"{SMALL}.json").read_text(encoding="utf-8"))
    change(content)
    path = tmp_path / f"{SMALL}.json"
    path.write_text(f"{vectors.to_text(content)}\n", encoding="utf-8")
    monkeypatch.setattr(vectors, "_packaged", lambda name: path)
    vectors.stored.cache_clear()


@pytest.fixture
def fresh():
    yield
    vectors.stored.cache_clear()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda c: None, []),
        (lambda c: c["cases"][1]["expected"]["errors"].__setitem__(0, 0.25), ["two-inputs"]),
        (lambda c: c["cases"][0]["inputs"]["y"].__setitem__(0, 0.25), ["online"]),
        (lambda c: c["cases"][2].update(condition=1.5), ["four-inputs"]),
        (lambda c: c.update(summary="another"), ["what all cases share"]),
    ],
)
def test_the_check_computes_the_files_anew(monkeypatch, tmp_path, change, found):
    spoil(monkeypatch, tmp_path, change)
    assert vectors.differences(computation(SMALL)) == found
    done = command("vectors", "--check", "--only", SMALL)
    assert done.exit_code == bool(found)
    assert (f"differs: {', '.join(found)}" if found else "is as it is computed anew") in done.output


def test_the_check_says_which_way_disagrees():
    whole = computation(SMALL)
    (found,) = vectors.differences(dataclasses.replace(whole, routes={**whole.routes, TORCH: off}))
    assert TORCH in found


def test_the_check_needs_no_folder_and_takes_none(tmp_path):
    assert command("vectors", "--check", "--out", tmp_path).exit_code == 2
    assert command("vectors").exit_code == 2


def test_a_fragment_that_is_not_there_is_refused(folder):
    assert command("edit", SMALL, "--folder", folder, "--add", folder / "nothing.json").exit_code == 2
