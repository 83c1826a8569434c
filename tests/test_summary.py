"""Runs, episodes and evaluations are shown in a few lines, and in notebooks as a table."""

from html.parser import HTMLParser

import numpy as np
import pytest

import mltk
from mltk.training.loop import Run

NUMPY = mltk.backend("numpy")
TASKS = mltk.data.Sinusoid(shots=5, queries=7)
LEARNER = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")


class Text(HTMLParser):
    """The text of HTML whose elements are closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text = [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def shown(value):
    """The lines of the text, after a look at the table that says the same."""
    lines = repr(value).splitlines()
    text = " ".join(Text(value._repr_html_()).text)
    for line in lines:
        for words in line.strip().split("  "):
            assert words.strip() in text
    return lines


def test_a_run_is_a_few_lines(tmp_path):
    run = mltk.train(LEARNER, TASKS, backend=NUMPY, steps=20, log_every=10, out=tmp_path / "run")
    first, last = (f"{line['loss']:.4g}" for line in run.history)
    assert shown(run) == [
        "Run: 20 steps",
        "  meta_params  4 arrays, 13 numbers",
        f"  loss         {last} at step 20, {first} at 10",
        "  time         0:00 of training",
        f"  folder       {tmp_path / 'run'}",
    ]
    saved = shown(mltk.load_run(tmp_path / "run"))
    assert saved[:3] == ["SavedRun: 20 steps", "  algorithm    MAML", "  backend      numpy float32 on cpu"]
    assert saved[3:] == shown(run)[1:]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_an_episode_is_a_line_for_each_array(backend):
    assert shown(TASKS.sample(3, 0, mltk.backend(backend))) == [
        "Episode: 3 tasks, regression",
        "  support_x  (3, 5, 1) float32",
        "  support_y  (3, 5, 1) float32",
        "  query_x    (3, 7, 1) float32",
        "  query_y    (3, 7, 1) float32",
        f"  backend    {backend} on cpu",
    ]
    found = shown(mltk.data.Blobs(4, 2, 3).sample(1, 0, mltk.backend(backend)))
    assert found[0] == "Episode: 1 task, 4-way classification"
    assert found[2] == "  support_y  (1, 8) int64"


def test_an_evaluation_says_its_interval_first():
    found = mltk.evaluation.Evaluation("accuracy", np.asarray([0.25, 0.5, 0.75]), True)
    assert shown(found) == [
        "Evaluation: accuracy 0.50 ± 0.62 (95 % interval over 3 tasks, transductive)",
        "  tasks         lowest 0.25, median 0.5, highest 0.75",
        "  transductive  yes",
    ]
    assert str(found) == "accuracy 0.50 ± 0.62 (95 % interval over 3 tasks, transductive)"


def test_text_is_escaped(tmp_path):
    run = Run({"w": np.zeros(1)}, [], 1, tmp_path / "<script>alert('&')</script>")
    assert "<script>" not in run._repr_html_()
    assert "<script>alert('&')</script>" in " ".join(Text(run._repr_html_()).text)
    assert shown(run)[:2] == ["Run: 1 step", "  meta_params  1 array, 1 number"]
