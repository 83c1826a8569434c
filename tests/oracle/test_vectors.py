"""The files of test vectors: complete, valid, readable by others, the same bytes whenever they are made."""

import copy
import dataclasses
import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema_rs
import numpy as np
import pytest

from mltk import errors
from mltk.oracle import vectors
from mltk.oracle.case import flat
from mltk.oracle.computation import NUMPY, TORCH
from mltk.oracle.computations import computation, computations
from mltk.oracle.confirmation import complete

FOLDER = Path(str(resources.files("mltk.oracle") / "vectors"))
NAMES = [*computations()]
SCHEMA = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)
SMALL = "idbd"
"""A computation that takes no time."""

each_computation = pytest.mark.parametrize("name", NAMES)


def text_of(name):
    path = FOLDER / f"{name}.json"
    assert path.is_file(), f"there are no test vectors of {name}: mltk oracle edit {name} --add case.json"
    return path.read_text(encoding="utf-8")


def is_valid(content):
    return VALIDATOR.is_valid(content)


@each_computation
def test_making_the_file_again_gives_identical_bytes(name):
    assert f"{vectors.to_text(vectors.document(computation(name)))}\n" == text_of(name)


@each_computation
def test_the_file_is_as_the_schema_says(name):
    VALIDATOR.validate(json.loads(text_of(name)))


@each_computation
def test_reading_loses_nothing(name):
    text = text_of(name)
    cases = [vectors._case_document(case) for case in vectors.read(text)]
    assert f"{vectors.to_text({**json.loads(text), 'cases': cases})}\n" == text
    assert vectors.stored(name) is vectors.stored(name)


@each_computation
def test_the_cases_say_which_computation_they_are_of_and_are_of_use(name):
    content, cases = json.loads(text_of(name)), vectors.stored(name)
    assert content["computation"] == name
    assert content["outputs"] == dict(computation(name).outputs)
    labels = [case.name for case in cases]
    assert len(set(labels)) == len(labels)
    assert sum(case.kind == "valid" for case in cases) >= 3
    for case in cases:
        for key, array in flat(case.expected).items():
            assert key.partition(".")[0] in computation(name).outputs
            assert array.dtype == np.float64
            assert np.isfinite(array).all()


@each_computation
def test_what_must_be_refused_names_the_error_that_mltk_raises(name):
    for case in vectors.stored(name):
        if case.kind != "must-raise":
            continue
        kind = getattr(errors, case.raises)
        assert issubclass(kind, errors.MltkError)
        with pytest.raises(kind):
            computation(name).reference(case.settings, case.inputs)


@each_computation
def test_independent_ways_have_confirmed_the_file(name):
    confirmed = json.loads(text_of(name))["confirmed"]
    assert confirmed["digits"] >= 50
    assert confirmed["largest_disagreement"].keys() == computation(name).routes.keys()
    assert len(computation(name).routes) >= 2
    assert max(confirmed["largest_disagreement"].values()) <= 1e-8


def test_there_is_a_file_for_each_computation_and_no_other():
    assert {path.stem for path in FOLDER.glob("*.json")} == {*NAMES, "schema"}


def test_all_files_together_are_small():
    sizes = {path.name: path.stat().st_size for path in FOLDER.glob("*.json")}
    assert sum(sizes.values()) < 5_000_000, sizes


def test_the_schema_is_one():
    jsonschema_rs.meta.validate(SCHEMA)


def document():
    return json.loads(vectors.to_text(vectors.document(computation(SMALL))))


def test_the_schema_takes_a_fresh_document():
    assert is_valid(document())


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(format=2),
        lambda c: c.update(more=1),
        lambda c: c.update(computation="Has Blanks"),
        lambda c: c.update(cases=[]),
        lambda c: c.pop("confirmed"),
        lambda c: c["confirmed"].update(digits=15),
        lambda c: c["confirmed"]["largest_disagreement"].update({"numpy-analytic": 1.0}),
        lambda c: c["confirmed"]["largest_disagreement"].pop("torch-autograd"),
        lambda c: c["cases"][0].update(kind="odd"),
        lambda c: c["cases"][0].update(kind="must-raise"),
        lambda c: c["cases"][0].update(raises="ShapeError"),
        lambda c: c["cases"][0].update(more=1),
        lambda c: c["cases"][0].update(comment=""),
        lambda c: c["cases"][0].update(condition=0.5),
        lambda c: c["cases"][0].update(name="two words"),
        lambda c: c["cases"][0].pop("expected"),
        lambda c: c["cases"][0]["expected"].update(errors="NaN"),
        lambda c: c["cases"][0]["expected"].update(errors=["Infinity"]),
        lambda c: c["cases"][0]["inputs"].update(x="one"),
        lambda c: c["cases"][0]["inputs"].update(x=[1, True]),
        lambda c: c["cases"][0]["inputs"].update(x={"a": {"b": 1.0}}),
    ],
)
def test_the_schema_refuses_what_is_no_file_of_vectors(change):
    content = copy.deepcopy(document())
    change(content)
    assert not is_valid(content)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2, "cases": []}', '{"format": 1}', '{"format": 1, "cases": [{}]}', "null"],
)
def test_other_texts_are_refused(text):
    with pytest.raises(vectors.VectorError):
        vectors.read(text)


def test_there_are_no_vectors_of_what_is_not_computed():
    with pytest.raises(errors.SettingError, match="magic"):
        vectors.stored("magic")


def broken(names, change):
    """The small computation with routes whose outputs are changed."""
    whole = computation(SMALL)

    def altered(route):
        return lambda settings, inputs: change(route(settings, inputs))

    routes = {name: altered(route) if name in names else route for name, route in whole.routes.items()}
    return dataclasses.replace(whole, routes=routes)


@pytest.mark.parametrize("name", [NUMPY, TORCH])
def test_nothing_is_written_where_a_way_disagrees(name, tmp_path):
    def slightly_off(outputs):
        return {**outputs, "rates": outputs["rates"] * (1 + 1e-9)}

    with pytest.raises(vectors.VectorError, match=f"{SMALL}, online: {name}"):
        list(vectors.write([broken([name], slightly_off)], tmp_path))
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_where_the_ways_agree_on_something_wrong():
    off_alike = broken([NUMPY, TORCH], lambda outputs: {**outputs, "errors": 2 * outputs["errors"]})
    with pytest.raises(vectors.VectorError, match="50-digit"):
        vectors.document(off_alike)


def test_nothing_is_written_where_a_way_gives_nan():
    nan = broken([TORCH], lambda outputs: {**outputs, "weights": np.nan * outputs["weights"]})
    with pytest.raises(vectors.VectorError):
        vectors.document(nan)


def test_nothing_is_written_where_a_way_accepts_what_must_be_refused():
    maml = computation("maml")
    case = next(case for case in vectors.stored("maml") if case.name == "nan-input")
    lax = dataclasses.replace(maml, routes={**maml.routes, TORCH: lambda settings, inputs: {}})
    with pytest.raises(vectors.VectorError, match="accepts"):
        complete(lax, case)
    other = {
        **maml.routes,
        TORCH: lambda settings, inputs: maml.reference({**settings, "inner_lr": -1}, inputs),
    }
    with pytest.raises(vectors.VectorError, match="the ways raise"):
        complete(dataclasses.replace(maml, routes=other), case)


def test_numbers_that_json_lacks_are_text(tmp_path):
    case = dataclasses.replace(vectors.stored(SMALL)[0], kind="must-raise", raises="ShapeError")
    case = dataclasses.replace(case, inputs={"x": np.array([[np.nan, 1.0], [np.inf, -np.inf]])})
    content = {**document(), "cases": [vectors._case_document(case)]}
    text = vectors.to_text(content)
    assert '[["NaN", 1.0], ["Infinity", "-Infinity"]]' in text
    assert is_valid(json.loads(text))
    (read,) = vectors.read(text)
    np.testing.assert_array_equal(read.inputs["x"], case.inputs["x"])


GUARDED = """
import runpy, sys
class NoMltk:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mltk", "mltk_backends", "torch", "jax"):
            raise ImportError(f"{name} is not to be imported here")
sys.meta_path.insert(0, NoMltk())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def guarded(script, *arguments):
    """Run a script where mltk cannot be imported."""
    command = [sys.executable, "-I", "-c", GUARDED, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_short_program_reads_the_files_without_mltk(tmp_path):
    consumer = Path(__file__).with_name("vectors_consumer.py")
    assert len(consumer.read_text(encoding="utf-8").splitlines()) <= 20
    run = guarded(consumer, *(path for path in sorted(FOLDER.glob("*.json")) if path.stem != "schema"))
    assert run.returncode == 0, run.stderr
    found = re.fullmatch(r"read (\d+) cases, checked (\d+)\n", run.stdout)
    assert found, run.stdout
    assert int(found[1]) == sum(len(vectors.stored(name)) for name in NAMES)
    assert int(found[2]) >= 10
    spoilt = json.loads(text_of("maml"))
    for case in spoilt["cases"]:
        if "expected" in case:
            case["expected"]["loss"] *= 1 + 1e-12
    path = tmp_path / "maml.json"
    path.write_text(json.dumps(spoilt), encoding="utf-8")
    assert guarded(consumer, path).returncode != 0, "the program checks nothing"
    importing = tmp_path / "importing.py"
    importing.write_text("import mltk", encoding="utf-8")
    assert "not to be imported" in guarded(importing).stderr, "the guard lets mltk through"
