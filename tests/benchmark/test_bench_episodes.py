"""The benchmark of sampling: all draw tasks of the same form, and the command prints and writes a run."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from mltk.benchmark import app
from mltk.benchmark.episodes import AIMS, Noise, PerItemLoader, samplers

TASKS = Noise(classes=7, drawings=5, image_size=3).tasks(4, 2, 3)


def test_all_samplers_draw_as_many_images_of_the_same_size():
    for name, call in samplers(TASKS, 6).items():
        drawn = call()
        if name.startswith("mltk"):
            drawn = (drawn.support_x, drawn.support_y, drawn.query_x, drawn.query_y)
        assert [tuple(array.shape) for array in drawn] == [(6, 8, 1, 3, 3), (6, 8), (6, 12, 1, 3, 3), (6, 12)]
        assert str(drawn[0].dtype).endswith("float32")
    assert {name for aim in AIMS for name in (aim.name, aim.peer)} <= samplers(TASKS, 1).keys()


@pytest.mark.parametrize("seed", range(3))
def test_the_plain_loader_draws_without_replacement_and_labels_rightly(seed):
    images = TASKS.dataset.images
    loader = PerItemLoader(TASKS, np.array, np.stack)
    loader._random.seed(seed)
    support_x, support_y, query_x, query_y = loader.sample(5)
    x, y = np.concatenate([support_x, query_x], axis=1), np.concatenate([support_y, query_y], axis=1)
    equal = (x[:, :, None] == images).all(axis=(-3, -2, -1))
    assert (equal.sum(axis=-1) == 1).all()
    for numbers, labels in zip(equal.argmax(axis=-1), y, strict=True):
        assert len(set(numbers)) == len(numbers)
        assert len(set(zip(numbers // 5, labels, strict=True))) == len(set(labels)) == 4


def test_the_command_prints_and_writes_a_run(tmp_path):
    path = tmp_path / "run.json"
    result = CliRunner().invoke(app, ["episodes", "--repeats", "2", "--json", str(path)])
    assert result.exit_code == 0
    report = json.loads(path.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert len(rows["mltk-numpy"]["seconds"]) == len(rows["per-item-numpy"]["seconds"]) == 2
    assert [aim["times"] for aim in report["aims"]] == [5, 5]
