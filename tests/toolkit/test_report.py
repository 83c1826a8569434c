"""The page about runs: it is well formed, safe and small, and its numbers and images are the library's."""

import base64
import contextlib
import dataclasses
import io
import os
import re

import numpy as np
import pytest
from PIL import Image
from routes import NUMPY
from runs_to_report import GLYPHS, HOSTILE, Seen, make_runs, train

import mltk
from mltk.errors import RunError, SettingError
from mltk.evaluation.blocks import BLOCK, blocks
from mltk.toolkit.monitor_file import MonitorFile
from mltk.toolkit.report import seen_runs
from mltk.toolkit.report.judging import grouped
from mltk.toolkit.report.markup import Html, shown, tag
from mltk.toolkit.report.page import Section, page
from mltk.toolkit.report.seen_runs import look
from mltk.training.run_folder import RunFolder

SECTIONS = {
    "Selector": {"gap": {"estimate": 0.4, "low": 0.2, "high": None, "over": "classes"}, "abstains": False},
    "Transfer": {"names": ["a", HOSTILE], "matrix": [[1.0, None], [0.25, 1.0]]},
    HOSTILE: {HOSTILE: [HOSTILE, {"deep": HOSTILE}], "rows": [{"name": HOSTILE, "value": 1.5}]},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "runs"
    make_runs(folder)
    return folder


@pytest.fixture(scope="module")
def written(runs):
    said = []
    path = mltk.toolkit.report(
        [runs],
        runs.parent / "report.html",
        episodes=30,
        sections=SECTIONS,
        progress=lambda *_: said.append(_),
    )
    assert {name for name, *_ in said} == {"prototypical", "ridge", "maml", "images", "no alerts", HOSTILE}
    assert all(steps == 30 and loss > 0 for _, _, steps, loss in said)
    assert max(step for _, step, _, _ in said) == 30
    return path.read_text()


@pytest.fixture(scope="module")
def seen(written):
    return Seen(written)


def test_the_page_is_one_small_file_that_asks_nobody(written, seen):
    assert len(written.encode()) < 2_000_000
    assert "http:" not in written
    assert "https:" not in written
    assert not re.search(r"url\((?!#)|@import", written)
    for name, attrs in seen.elements:
        for key in ("src", "href", "xlink:href", "action", "data", "poster"):
            assert attrs.get(key, "#").startswith(("#", "data:")), (name, attrs)
    (policy,) = [attrs["content"] for attrs in seen.all("meta") if "http-equiv" in attrs]
    assert policy.startswith("default-src 'none';")
    assert "script-src 'sha256-" in policy


def test_what_refers_to_something_finds_it_once(written, seen):
    ids = [attrs["id"] for _, attrs in seen.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    referred = re.findall(r'(?:href="|url\()#([^")]+)', written)
    referred += [attrs["aria-labelledby"] for attrs in seen.all("section")]
    assert len(referred) > 100
    assert set(referred) <= set(ids)


def test_everything_is_told_to_who_does_not_see_it(seen):
    assert len(seen.all("img")) > 10
    assert all(attrs["alt"] for attrs in seen.all("img"))
    assert all(attrs["aria-label"] for attrs in seen.all("svg") if attrs.get("role") == "img")
    assert len([attrs for attrs in seen.all("svg") if attrs.get("role") == "img"]) == len(seen.all("svg"))
    assert len(seen.all("caption")) == len(seen.all("table")) > 10
    assert all(attrs["scope"] in ("row", "col") for attrs in seen.all("th"))
    assert len(seen.all("h1")) == len(seen.all("main")) == len(seen.all("nav")) == 1
    assert dict(seen.elements)["html"]["lang"] == "en"


def test_no_text_is_taken_for_markup(written, seen):
    assert len(seen.all("script")) == 1
    assert not [attrs for _, attrs in seen.elements if any(key.startswith("on") for key in attrs)]
    assert all(attrs["src"].startswith("data:image/") for attrs in seen.all("img"))
    assert HOSTILE in seen.titles.values()
    assert written.count("onerror=&quot;alert(1)&quot;") >= 6


def test_numbers_are_those_of_the_library(runs, seen):
    saved = {name: mltk.load_run(runs / name) for name in ("prototypical", "ridge", "no alerts", HOSTILE)}
    tasks = saved["ridge"].tasks
    found = {
        name: mltk.evaluate(each.algorithm, each.run.meta_params, tasks, episodes=30)
        for name, each in sorted(saved.items())
    }
    (overview,) = seen.tables["All learners"]
    told = {row[0]: row for row in overview[1:]}
    for name, each in found.items():
        assert told[name][-1] == f"accuracy {each.in_words()}"
        assert told[name][2:4] == ["damaged" if name == "no alerts" else "finished", "4 of 4"]
    pairs = seen.tables["Differences of accuracy in pairs, on the same tasks"][0][1:]
    expected = mltk.evaluation.compare_all(found)
    assert len(pairs) == len(expected) == 6
    for row, each in zip(pairs, expected, strict=True):
        low, high = each.difference.low, each.difference.high
        assert row[0] == " − ".join(each.names)
        assert row[1] == f"{each.difference.estimate:+.4f} [{low:+.4f}, {high:+.4f}]".replace("-", "−")
        assert row[2] == f"{each.wins} / {each.ties} / {each.losses}"
        assert row[3:] == [f"{each.sign_flip:.4g}", f"{each.holm:.4g}"]
    kinds = [
        row[1]
        for rows in seen.tables["The accuracy and how far it may be off, for what would be drawn anew"]
        for row in rows[1:]
    ]
    assert {each.partition(",")[0] for each in kinds} == {"30 tasks", "12 classes", "2 groups"}


def test_what_is_damaged_is_named_and_stops_nothing(seen, written):
    (overview,) = seen.tables["All learners"]
    states = {row[0]: (row[2], row[-1]) for row in overview[1:]}
    assert len(states) == 9
    for name in ("no settings", "no steps"):
        assert states[name] == ("damaged", "not evaluated")
    assert states["no alerts"] == ("damaged", states["ridge"][1])
    assert states["no numbers"] == ("finished", "not evaluated")
    for words in (
        "no settings/config.toml is damaged",
        "no steps/metrics.jsonl is damaged",
        "no alerts/monitor.jsonl is damaged",
        "It could not be evaluated: ",
        "no numbers/checkpoint.npz is damaged or not a checkpoint of mltk",
    ):
        assert words in written


@pytest.fixture(scope="module")
def images():
    """A learner on drawings, judged."""
    learner = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]))
    tasks = GLYPHS.held_out().tasks(ways=3, shots=1, queries=2)
    entry = mltk.evaluation.Entry("pixels", learner, {})
    (group,) = grouped([(entry, NUMPY, tasks, "")])
    group.judge("pixels", episodes=50, seed=3, report=lambda *_: None)
    assert not group.problems
    return group, learner, tasks


def judged_by_hand(learner, tasks, episodes, seed):
    """Each task alone: its classes, labels and predictions."""
    for episode in blocks(tasks, episodes, seed, NUMPY):
        outputs = learner.predict(learner.adapt({}, episode.support_x, episode.support_y), episode.query_x)
        for task in range(BLOCK):
            yield episode.take(slice(task, task + 1)), outputs[task].argmax(axis=-1)


def test_the_worst_tasks_are_shown_as_they_are(images, tmp_path):
    group, learner, tasks = images
    by_hand = list(judged_by_hand(learner, tasks, 50, 3))[:50]
    accuracy = np.asarray([np.mean(episode.query_y[0] == predicted) for episode, predicted in by_hand])
    failures = group.failures["pixels"]
    assert [each.value for each in failures] == sorted(accuracy)[:3]
    path = mltk.toolkit.report(
        [],
        tmp_path / "x.html",
        learners={"pixels": (learner, {})},
        tasks=tasks,
        backend=NUMPY,
        episodes=50,
        seed=3,
    )
    text = path.read_text()
    found = Seen(text)
    for each in failures:
        episode, predicted = by_hand[each.task]
        assert each.value == accuracy[each.task]
        (title,) = [caption for caption in found.tables if caption.startswith(f"Task {each.task}:")]
        assert f"{100 * each.value:.0f} % of 6 queries right" in title
        (rows,) = found.tables[title]
        for label, row in enumerate(rows[1:]):
            name = tasks.class_names[episode.classes[0, label]]
            mine = predicted[episode.query_y[0] == label]
            assert row[0] == f"{'ABC'[label]}: {name}"
            assert row[2] == f"{np.sum(mine == label)} of 2"
            assert row[3] == "".join(f"→ {'ABC'[other]}" for other in mine if other != label)
    drawn = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2]))))
        for attrs in found.all("img")
        if attrs["alt"].startswith("support of")
    ]
    episode, _ = by_hand[failures[0].task]
    for label in range(3):
        image = episode.support_x[0][episode.support_y[0] == label][0, 0]
        np.testing.assert_array_equal(drawn[label], np.rint(255 * (1 - image)).astype(np.uint8))


def test_classes_taken_for_each_other_are_counted(images):
    group, learner, tasks = images
    counts = np.zeros((12, 12), int)
    for episode, predicted in list(judged_by_hand(learner, tasks, 50, 3))[:50]:
        for label, took in zip(episode.query_y[0], predicted, strict=True):
            counts[episode.classes[0, label], episode.classes[0, took]] += 1
    np.testing.assert_array_equal(group.confusions["pixels"].counts, counts)


def test_a_learner_that_fails_spoils_no_other(tmp_path):
    class Failing:
        def adapt(self, meta_params, support_x, support_y):
            raise ZeroDivisionError("of the user's own")

        def predict(self, state, query_x): ...

    tasks = mltk.data.Blobs(ways=3, shots=2, queries=5)
    learners = {"good": (mltk.RidgeRegression(mltk.models.Sequential([])), {}), "bad": (Failing(), {})}
    learners["good"] = (learners["good"][0], learners["good"][0].init(NUMPY, 0))
    path = mltk.toolkit.report(
        [], tmp_path / "x.html", learners=learners, tasks=tasks, backend=NUMPY, episodes=20
    )
    (rows,) = Seen(path.read_text()).tables["All learners"]
    assert rows[1][-1].startswith("accuracy 0.")
    assert rows[2][-1] == "not evaluated"
    assert "It could not be evaluated: of the user&#x27;s own" in path.read_text()


def test_tables_and_records_at_hand_are_shown(tmp_path):
    learner = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
    tasks = mltk.data.Blobs(ways=3, shots=2, queries=5)
    table = mltk.MetaLearningEvaluator({HOSTILE: (learner, {})}, tasks, backend=NUMPY).run(20)

    row = mltk.toolkit.Row("run", "source", 0, 0, HOSTILE, "accuracy", 0.25)
    records = mltk.Records()
    assert records.add([row, dataclasses.replace(row, episode=1, outcome=0.75)]) == 2
    path = mltk.toolkit.report([], tmp_path / "x.html", tables={"Before": table}, records=records)
    seen = Seen(path.read_text())
    assert list(seen.titles.values()) == ["Before", "Records"]
    assert seen.tables["What is on record"] == [
        [["run", "learner", "metric", "rows", "mean outcome"], ["run", HOSTILE, "accuracy", "2", "0.5"]]
    ]
    ((_, row),) = seen.tables["The accuracy and how far it may be off, for what would be drawn anew"]
    assert row[:3] == [HOSTILE, "20 tasks", str(table[HOSTILE].interval()).partition(" (")[0]]


def test_a_page_stays_small_whatever_it_shows():
    parts = [
        tag("p", "short"),
        Html(f"<p>{'é' * 500_000}</p>"),
        Html(f"<p>{'b' * 950_000}</p>"),
        tag("p", "last"),
    ]
    text = page([Section("one", "One", parts)])
    assert len(text.encode()) < 2_000_000
    assert "<p>short</p>" in text
    assert "<p>last</p>" in text
    assert "b" * 950_000 in text
    assert "é" * 500_000 not in text
    assert "More was left out" in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.123456, "<span>0.1235</span>"),
        (True, "<span>yes</span>"),
        (float("nan"), "<span>–</span>"),
        (np.arange(3), "<span>0, 1, 2</span>"),
        (list(range(20)), "<span>20 numbers from 0 to 19, median 10</span>"),
        ([], "<span>–</span>"),
        (["a", "<b>"], "<span>a, &lt;b&gt;</span>"),
        ({"estimate": 1.0, "low": None, "high": 2.0, "over": "x"}, "<span>1 [unknown, 2] over x</span>"),
        ({"a_b": 1}, "<dl><div><dt>A b</dt><dd><span>1</span></dd></div></dl>"),
    ],
)  # fmt: skip
def test_anything_is_shown_in_plain_words(value, expected):
    assert shown(value) == expected


def test_results_show_themselves_and_matrices_are_tables():
    evaluation = mltk.evaluation.Evaluation("accuracy", np.asarray([0.5, 0.7]))
    assert "<dt>tasks</dt><dd>lowest 0.5, median 0.6, highest 0.7</dd>" in shown(evaluation)
    seen = Seen(shown(SECTIONS["Transfer"], "transfer"))
    assert seen.tables["Transfer"] == [[["", "a", HOSTILE], ["a", "1", "–"], [HOSTILE, "0.25", "1"]]]
    assert [attrs["class"] for attrs in seen.all("span")] == ["heat-10", "heat-0", "heat-0", "heat-10"]
    looped = {}
    looped["self"] = looped
    with pytest.raises(RecursionError):
        shown(looped)


def test_the_state_of_a_run_is_what_it_is(tmp_path):
    train(tmp_path / "a", steps=3)
    assert look("a", tmp_path / "a").state == "finished"
    files = RunFolder(tmp_path / "a")
    lines = files.read_metrics()
    with files.locked():
        assert look("a", tmp_path / "a").state == "running"
    files.write_metrics(lines[:2])
    assert look("a", tmp_path / "a").state == "interrupted"
    assert look("a", tmp_path / "a").step == 2
    files.write_metrics([])
    assert look("a", tmp_path / "a").state == "not started"


def test_where_no_locks_are_told_a_run_is_running_that_was_written_lately(tmp_path, monkeypatch):
    monkeypatch.setattr(seen_runs, "LOCKS", tmp_path / "nowhere")
    train(tmp_path / "a", steps=3)
    files = RunFolder(tmp_path / "a")
    assert look("a", tmp_path / "a").state == "finished"
    files.write_metrics(files.read_metrics()[:2])
    assert look("a", tmp_path / "a").state == "running"
    os.utime(files.metrics_path, (0, 0))
    assert look("a", tmp_path / "a").state == "interrupted"


def test_looking_changes_nothing_and_takes_no_lock(tmp_path):
    train(tmp_path / "a", steps=3)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    with contextlib.ExitStack() as stack:
        look("a", tmp_path / "a")
        stack.enter_context(RunFolder(tmp_path / "a").locked())
        look("a", tmp_path / "a")
    (tmp_path / "a" / ".lock").touch()
    assert set(tmp_path.rglob("*")) == set(before)
    for path, state in before.items():
        if path.name != ".lock":
            assert (path.stat().st_mtime_ns, path.stat().st_size) == state


def test_what_a_monitor_saw_is_shown(tmp_path):
    def dead(step):
        return mltk.toolkit.Alert("dead", HOSTILE, step, "no gradient")

    run = train(tmp_path / "runs" / "a", steps=2)
    file = MonitorFile(run.folder)
    for step in (1, 2):
        file.append({"step": step, "loss": 3.0 / step, "at": "noon"})
        file.append({"alert": dataclasses.asdict(dead(step))})
    seen = Seen(mltk.toolkit.report([tmp_path / "runs"], tmp_path / "x.html", episodes=0).read_text())
    (rows,) = seen.tables["Alerts"]
    assert rows == [
        ["Kind", "About", "Step", "Text"],
        *(["dead", HOSTILE, step, "no gradient"] for step in "12"),
    ]
    assert seen.tables["2 looks, to step 2"][0][1:] == [["loss", "3", "1.5", "1.5", "3"]]


def test_what_cannot_be_done_is_refused_and_leaves_the_old_page(tmp_path):
    out = tmp_path / "x.html"
    out.write_text("old")
    for folders, how, words in (
        ("runs", {}, "folders is 'runs'; expected several"),
        ([tmp_path / "missing"], {}, "there is no folder"),
        ([3], {}, "folders has 3; expected paths"),
        ([], {"episodes": -1}, "episodes is -1"),
        ([], {"learners": {"a": None}}, "learners are given without tasks"),
    ):
        with pytest.raises(SettingError, match=re.escape(words)):
            mltk.toolkit.report(folders, out, **how)
    assert out.read_text() == "old"
    with pytest.raises(RunError, match="cannot be written"):
        mltk.toolkit.report([], tmp_path / "missing" / "x.html")
    assert mltk.toolkit.report([], out) == out
    assert "There is nothing to show." in out.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]


def test_names_of_runs_differ(tmp_path):
    for name in ("one/maml", "two/maml", "two/other"):
        train(tmp_path / name, steps=1)
    path = mltk.toolkit.report(
        [tmp_path / "one", tmp_path / "two", tmp_path / "two/maml"], tmp_path / "x.html", episodes=0
    )
    titles = list(Seen(path.read_text()).titles.values())
    assert titles == ["Overview", str(tmp_path / "one/maml"), str(tmp_path / "two/maml"), "other"]


def test_runs_of_equal_tasks_are_one_group_and_others_are_not():
    blobs = [mltk.data.Blobs(ways=3, shots=shots, queries=5) for shots in (1, 1, 2)]
    found = [(mltk.evaluation.Entry(str(n), None, {}), NUMPY, tasks, "") for n, tasks in enumerate(blobs)]
    assert [list(group.entries) for group in grouped(found)] == [["0", "1"], ["2"]]
