"""Run folders of every kind, and a page as a reader's program sees it."""

import shutil
import threading
from contextlib import contextmanager
from html.parser import HTMLParser

from routes import NUMPY

import mltk

GLYPHS = mltk.data.Glyphs(alphabets=2, characters=6, drawings=4, image_size=16)
HOSTILE = '<img src=x onerror="alert(1)">&'
VOID = {"br", "img", "link", "meta"}


def train(folder, *, name="prototypical", steps=4, **how):
    """A short training in a folder."""
    if name == "maml":
        learner, tasks = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse"), mltk.data.Sinusoid(5, 5)
    elif name == "images":
        layers = [mltk.ops.Flatten(256), mltk.ops.Linear(256, 8)]
        learner = mltk.algorithms.Prototypical(mltk.models.Sequential(layers))
        tasks = GLYPHS.tasks(ways=3, shots=1, queries=2)
    else:
        kinds = {"prototypical": mltk.algorithms.Prototypical, "ridge": mltk.RidgeRegression}
        learner, tasks = kinds[name](mltk.models.mlp([3, 8])), mltk.data.Blobs(3, 2, 5, separation=1.0)
    return mltk.train(learner, tasks, backend=NUMPY, steps=steps, out=folder, seed=0, **how)


def make_runs(folder):
    """Two learners on the same tasks, one on curves, one on images, and whatever can be wrong with others."""
    for name in ("prototypical", "ridge", "maml", "images"):
        train(folder / name, name=name)
    shutil.copytree(folder / "ridge", folder / HOSTILE)
    for name, broken, content in (
        ("no settings", "config.toml", b"steps = ["),
        ("no steps", "metrics.jsonl", b"{\n"),
        ("no numbers", "checkpoint.npz", b"not a checkpoint"),
        ("no alerts", "monitor.jsonl", b"\xff\n"),
    ):
        shutil.copytree(folder / "ridge", folder / name)
        (folder / name / broken).write_bytes(content)


class Seen(HTMLParser):
    """The elements of a page, and the text of each of its tables, row by row."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.tables, self.titles = [], [], {}, {}
        self._cells = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._cells = []
        elif tag == "tr":
            self._cells.append([])
        elif tag in ("td", "th"):
            self._cells[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables.setdefault(self._caption, []).append(self._cells)

    def handle_data(self, data):
        if self.open and self.open[-1] == "caption":
            self._caption = data
        elif "td" in self.open or "th" in self.open:
            self._cells[-1][-1] += data
        elif self.open and self.open[-1] == "h2":
            self.titles[self.elements[-1][1]["id"]] = data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@contextmanager
def serving(*folders, episodes=0, **how):
    with mltk.toolkit.dashboard(folders, port=0, episodes=episodes, **how) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.board.stop()
            server.shutdown()
            thread.join()
