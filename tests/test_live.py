"""The live figures: what they compute is what the library computes, and what is recorded is computed anew."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import mltk

pytest.importorskip("mkdocs", reason="the site is built where the extra docs is installed")
live = pytest.importorskip("live")

FIGURES = sorted(live.ALT)
SETTINGS = {"rate": 0.02, "steps": 5, "first_order": False}


def test_a_place_for_a_figure_is_filled_with_addresses_as_seen_from_the_page():
    html = live.PLACE.sub(
        lambda found: live.markup(found[1], "../up"), '<div data-live="sinusoid-hero"></div>'
    )
    assert 'data-live="sinusoid-hero"' in html
    assert 'src="../up/sinusoid-hero.js"' in html
    assert 'alt="A network meta-trained by MAML' in html


def test_the_moving_picture_shows_errors_that_fall(recorded):
    tasks = recorded["sinusoid-hero"]["tasks"]
    assert len(tasks) == live.HERO_TASKS
    for task in tasks:
        assert len(task["fits"]) == len(task["errors"]) == 6
        assert task["errors"][-1] < 0.3 * task["errors"][0]


def test_the_figure_trains_as_the_library_does_and_goes_on_from_where_it_was_kept(figures):
    tasks, maml = figures.TASKS, figures.sinusoid_maml()
    run = mltk.train(
        maml,
        tasks,
        backend=figures.DOUBLE,
        steps=20,
        meta_batch=figures.META_BATCH,
        log_every=1,
        progress=False,
    )
    expected = [line["loss"] for line in run.history]
    training, other = figures.Training(), figures.Training()
    assert training.go_on(8, maml) == expected[:8]
    other.take_up(training.kept())
    assert other.go_on(12, maml) == expected[8:]
    assert other.step == 20


def test_the_meta_gradient_agrees_with_central_differences_and_the_first_order_does_not(figures):
    figures.sinusoid_start()
    figures.sinusoid_train(30, **SETTINGS)
    rows = figures.sinusoid_fit(figures.sinusoid_task(1), **SETTINGS)["check"]
    for row in rows:
        assert row["exact"] == pytest.approx(row["central"], abs=1e-8)
        assert abs(row["first_order"] - row["central"]) > 1e-4


def test_a_rate_that_is_too_large_is_told_and_changes_nothing(figures):
    training = figures.Training()
    before = training.kept()
    with pytest.raises(ArithmeticError, match="the inner rate is too large"):
        training.go_on(1, figures.sinusoid_maml(rate=1e200))
    assert json.loads(training.kept())["meta"] == json.loads(before)["meta"]


def test_the_distances_are_those_in_the_plane_and_to_it(figures, recorded):
    found = recorded["draw-a-character"]["decision"]
    in_plane = np.sum((np.array(found["prototypes"]) - found["query"]) ** 2, axis=1)
    assert in_plane + found["height"] ** 2 == pytest.approx(found["distances"], rel=1e-4)
    assert sum(found["probabilities"]) == pytest.approx(1)


def test_characters_that_were_not_trained_on_are_told_apart(figures):
    right = []
    for seed in range(20):
        examples = figures.character_examples(seed)
        for true, query in enumerate(examples["queries"]):
            right.append(
                np.argmax(figures.character_decide(examples["support"], query)["probabilities"]) == true
            )
    assert np.mean(right) > 0.8


def test_where_and_how_large_a_character_is_drawn_does_not_matter(figures):
    strokes = [[[0, 0], [50, 100], [100, 0]], [[20, 50], [80, 50]]]
    moved = [[[3 * x + 40, 3 * y + 7] for x, y in stroke] for stroke in strokes]
    image = np.reshape(figures.character_ink(strokes), (28, 28))
    assert np.abs(image - np.reshape(figures.character_ink(moved), (28, 28))).max() <= 1
    rows = np.nonzero(image.max(axis=1) > 100)[0]
    assert (rows[0] + rows[-1]) / 2 == pytest.approx(13.5, abs=1)
    assert np.max(figures.character_ink([[[3, 3]]])) > 100  # a dot, whose middle is where four pixels meet


def test_other_queries_move_a_prediction_with_batch_statistics_alone(recorded, figures):
    data = recorded["batch-norm-leak"]
    task, queries = data["task"], data["task"]["queries"]
    moved = [queries[0], *([x + 2, y] for x, y in queries[1:])]
    after = figures.leak_predict(task, moved, data["meta"])
    before = data["found"]
    assert after["support"]["queries"][0] == before["support"]["queries"][0]
    assert abs(after["batch"]["queries"][0] - before["batch"]["queries"][0]) > 0.1
    alone = [figures.leak_predict(task, [query], data["meta"]) for query in queries]
    assert len({round(each["batch"]["queries"][0], 9) for each in alone}) == 1
    assert len({round(each["support"]["queries"][0], 3) for each in alone}) > 4
    batch, support = data["evaluated"]["batch"], data["evaluated"]["support"]
    assert batch["transductive"]
    assert not support["transductive"]
    assert float(batch["one_class"]) < 0.6
    assert float(support["one_class"]) > 0.85


def test_the_colours_are_what_the_network_says_of_queries_there(recorded, figures):
    data, places = recorded["batch-norm-leak"], figures.LEAK_GRID
    queries = [[places[column], places[row]] for row, column in ((3, 5), (12, 9), (20, 17))]
    found = figures.leak_predict(data["task"], queries, data["meta"])
    for statistics in ("batch", "support"):
        plane = np.reshape(found[statistics]["plane"], (len(places), len(places)))
        at = [plane[3, 5], plane[12, 9], plane[20, 17]]
        assert at == pytest.approx(found[statistics]["queries"], abs=6e-4)


def test_what_the_page_is_served_is_all_that_it_needs(made, tmp_path):
    for name in json.loads(made["packages.json"])["packages"]:
        (tmp_path / "archive").write_bytes(made[name])
        zipfile.ZipFile(tmp_path / "archive").extractall(tmp_path / "site")
    numpy = Path(np.__file__).parent
    for folder in (numpy, numpy.parent / "numpy.libs"):
        if folder.is_dir():
            (tmp_path / "site" / folder.name).symlink_to(folder)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import mltk\n"
        "be = mltk.backend('numpy'); maml = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), 'mse')\n"
        "run = mltk.train(maml, mltk.data.Sinusoid(2, 2), backend=be, steps=2, progress=False)\n"
        "print(mltk.__file__, run.steps)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "site" / "mltk" / "__init__.py"), "2"]


def test_a_cell_prints_what_its_code_prints_and_its_error(figures):
    assert figures.cell("print(6 * 7)") == "42\n"
    assert "ZeroDivisionError" in figures.cell("1 / 0")
    assert json.loads(figures.call("cell", '{"code": "print(1)"}')) == "1\n"


@pytest.mark.parametrize("name", FIGURES)
def test_without_scripts_there_is_a_picture(made, name):
    assert re.search(r'<img src="live/[a-z-]+\.svg" alt="[^"]{10,}">', live.markup(name, "live"))
    assert made[f"{name}.svg"].startswith(b"<svg")
