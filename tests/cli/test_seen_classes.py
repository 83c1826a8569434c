"""What was trained on is called so, whatever its path and name; what was not is called unseen."""

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_image_commands import SMALL, folder_of_images, output, refused

import mltk
from mltk.data import Glyphs, ImageFolder
from mltk.data.images.class_identity import digests, seen, trained_on
from mltk.errors import RunError
from mltk.pictures.episode import episode_figure
from mltk.training.trained_classes import read_classes

NUMPY = mltk.backend("numpy")
GLYPHS = Glyphs(alphabets=2, characters=4, drawings=3)


def said_of(tasks, training):
    return str(seen(tasks, training))


def test_the_same_images_are_the_same_classes_in_any_folder_and_order_under_any_name(tmp_path):
    here, there = folder_of_images(tmp_path / "a", classes=4), tmp_path / "b"
    training = trained_on(ImageFolder(here, 8).tasks(2, 1, 1))
    there.mkdir()
    for number in range(4):
        shutil.copytree(here / f"class{number}", there / f"other{3 - number}")
    tasks = ImageFolder(there, 8).tasks(2, 1, 1)
    assert said_of(tasks, training) == "4 classes, all of which were trained on"
    # Fewer of the images, and in another order, are still those.
    for number in range(4):
        (there / f"other{number}" / "0.png").unlink()
        (there / f"other{number}" / "1.png").rename(there / f"other{number}" / "z.png")
    assert (
        said_of(ImageFolder(there, 8).tasks(2, 1, 1), training) == "4 classes, all of which were trained on"
    )
    shutil.rmtree(there / "other0")
    folder_of_images(there, classes=2, seed=9)
    expected = "5 classes: 3 trained on, 2 unseen (2 of them called like classes that were trained on)"
    assert said_of(ImageFolder(there, 8).tasks(2, 1, 1), training) == expected


def test_classes_held_out_are_unseen_and_made_up_names_say_nothing():
    training = trained_on(GLYPHS.tasks(2, 1, 1, rotations=True))
    assert set(training) == set(GLYPHS.class_names)
    assert said_of(GLYPHS.held_out().tasks(2, 1, 1), training) == "8 unseen classes"
    assert said_of(GLYPHS.tasks(2, 1, 1), training) == "8 classes, all of which were trained on"
    assert "whether they were trained on is not known" in said_of(GLYPHS.tasks(2, 1, 1), None)


def test_a_class_that_is_turned_is_the_class_it_was():
    tasks = GLYPHS.tasks(4, 1, 1, rotations=True)
    training = {name: ids for name, ids in trained_on(tasks).items() if name.startswith("alphabet01")}
    found = seen(tasks, training)
    assert found.trained.tolist() == [True] * 4 + [False] * 4
    assert found.of(np.asarray([[1, 9, 17, 30]])).trained.tolist() == [True] * 3 + [False]


def test_digests_tell_any_two_images_apart_and_shapes_too():
    images = np.arange(48, dtype=np.uint8).reshape(4, 3, 2, 2)
    one, two = digests(images, np.asarray([1, 3]))
    assert (len(one), len(two)) == (1, 3)
    assert len({*one, *two}) == 4
    assert set(digests(images.reshape(4, 3, 4), np.asarray([4]))[0]).isdisjoint({*one, *two})
    assert digests(images[2:], np.asarray([2]))[0] == two[1:]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_training_keeps_what_it_was_trained_on(backend, tmp_path):
    learner = mltk.algorithms.Prototypical(mltk.models.conv4(1, 28, width=2))
    tasks = GLYPHS.tasks(2, 1, 1)
    backend = mltk.backend(backend)
    mltk.train(learner, tasks, backend=backend, steps=1, meta_batch=1, out=tmp_path / "run")
    assert read_classes(tmp_path / "run") == trained_on(tasks)
    text = json.loads((tmp_path / "run" / "classes.json").read_text())
    assert len(text["alphabet01/character01"].split()) == 3


def test_tasks_without_examples_of_their_own_leave_no_such_file(tmp_path):
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
    mltk.train(learner, mltk.data.Sinusoid(3, 3), backend=NUMPY, steps=1, out=tmp_path / "run")
    assert read_classes(tmp_path / "run") is None


def test_a_run_is_not_resumed_on_other_images(tmp_path):
    folder_of_images(tmp_path / "mine", classes=3)
    learner = mltk.algorithms.Prototypical(mltk.models.conv4(3, 16, width=2))

    def train(steps, **options):
        tasks = ImageFolder(tmp_path / "mine", 16).tasks(2, 1, 1)
        return mltk.train(
            learner, tasks, backend=NUMPY, steps=steps, meta_batch=1, out=tmp_path / "run", **options
        )

    train(1)
    train(2, resume=True)
    Image.new("RGB", (20, 24), (1, 2, 3)).save(tmp_path / "mine" / "class1" / "0.png")
    with pytest.raises(RunError, match="a run with other examples of 'class1'; expected those that it was"):
        train(3, resume=True)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"a": 3}', b'{"a": ["x"]}', b"{" * 100_000, b"\xff\xfe", b'{"a": "x"']
)
def test_damaged_digests_are_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "classes.json").write_bytes(content)
    with pytest.raises(RunError, match=r"classes\.json is damaged"):
        read_classes(tmp_path)


def title(path):
    """The words of a picture that stand in its title."""
    text = " ".join(ElementTree.tostring(ElementTree.parse(path).getroot(), encoding="unicode").split())
    return text


@pytest.mark.parametrize(
    ("trained", "said"),
    [(0, "A task of unseen classes"), (2, "A task with 2 of 4 classes trained on"),
     (4, "A task of classes that were trained on"), (None, "A task")],
)  # fmt: skip
def test_the_picture_of_an_episode_says_what_is_known_of_its_classes(trained, said):
    tasks = Glyphs(alphabets=1, characters=4, drawings=3).tasks(4, 1, 1)
    training = None if trained is None else dict(list(trained_on(tasks).items())[:trained])
    learner = mltk.algorithms.Prototypical(mltk.models.conv4(1, 28, width=2))
    meta = learner.calibrate(learner.init(NUMPY, 0), tasks, episodes=2)
    axes = episode_figure(learner, meta, tasks, backend=NUMPY, training=training).axes[0]
    assert axes.get_title().startswith(f"{said}:\n")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "recognised", "taken for the class of that letter"
    ]  # fmt: skip


WORDS = ("prototypical", "--data", "images", *SMALL, "--out", "here")


def test_the_command_line_trains_on_most_classes_and_its_last_words_test_the_others(run, capfd):
    folder_of_images("mine", classes=10)
    said = output(run("train", *WORDS, "--folder", "mine"))
    assert "mine: 8 classes are trained on, 2 others are kept to test on" in said
    assert said.splitlines()[-1] == "Test it with: mltk evaluate here"
    said = output(run(*said.splitlines()[-1].removeprefix("Test it with: mltk ").split(), "--episodes", 3))
    assert "2-way 1-shot, on 2 unseen classes\n" in said
    # The folder itself holds both; so does a copy of it by another name.
    shutil.copytree("mine", "copy")
    for folder in ("mine", "copy"):
        said = output(run("evaluate", "here", "--folder", folder, "--episodes", 3))
        assert "5-way 1-shot, on 10 classes: 8 trained on, 2 unseen\n" in said
    trained = mltk.load_run("here").tasks.dataset.class_names
    for name in set(mltk.data.ImageFolder("copy", 28).class_names) - set(trained):
        shutil.rmtree(Path("copy") / name)
    said = output(run("evaluate", "here", "--folder", "copy", "--episodes", 3))
    assert "5-way 1-shot, on 8 classes, all of which were trained on\n" in said
    assert "unseen" not in said


def test_a_run_is_evaluated_on_another_folder_when_its_own_is_gone(run):
    folder_of_images("mine", classes=6)
    output(run("train", *WORDS, "--folder", "mine"))
    Path("mine").rename("moved")
    refused(run("evaluate", "here", "--episodes", 3), r"root is \S*mine, which cannot be read")
    said = output(run("evaluate", "here", "--folder", "moved", "--episodes", 3))
    assert "on 6 classes: 4 trained on, 2 unseen\n" in said


def test_the_last_words_test_a_run_whose_name_looks_like_an_option(run):
    said = output(run("train", "maml", "--data", "sinusoid", "--steps", 1, "--out=-x"))
    words = said.splitlines()[-1].removeprefix("Test it with: mltk ").split()
    assert "MAML after 1 meta-iterations" in output(run(*words, "--episodes", 3))


def test_too_few_classes_to_hold_any_out_are_tested_on_and_called_trained_on(run):
    folder_of_images("mine", classes=3)
    said = output(run("train", *WORDS, "--folder", "mine"))
    assert "3 classes are trained on, none are kept to test on" in said
    words = said.splitlines()[-1].removeprefix("Test it with: mltk ").split()
    said = output(run(*words, "--episodes", 3))
    assert "3-way 1-shot, on 3 classes, all of which were trained on\n" in said
    assert "unseen" not in said
    refused(run("evaluate", "here"), r"all classes of \S*mine are in this dataset")
    assert "unseen" not in Path("here/episode.svg").read_text()


def test_folders_train_and_test_are_what_they_are_called(run):
    folder_of_images("mine/train", classes=3)
    folder_of_images("mine/test", classes=5, seed=7)
    said = output(run("train", *WORDS, "--folder", "mine"))
    assert "train: 3 classes are trained on, 5 others are kept to test on" in said
    said = output(run("evaluate", "here", "--episodes", 3))
    # Their images differ, their names do not: both are said.
    assert "on 5 unseen classes (3 of them called like classes that were trained on)" in said


def test_small_classes_are_left_out_where_asked_and_reported(run):
    folder_of_images("mine", classes=7, images=4)
    (Path("mine") / "class3" / "0.png").unlink()
    refused(run("train", *WORDS, "--folder", "mine", "--shots", 3), r".*'class3' has 3 images.*at_least=4")
    with pytest.warns(mltk.data.SmallClassWarning):
        said = output(run("train", *WORDS, "--folder", "mine", "--shots", 3, "--at-least", 4))
    assert "4 classes are trained on, 2 others are kept to test on; left out, with fewer than 4" in said
    assert "images: class3 (3)\n" in said
    refused(run("train", "ridge", "--data", "glyphs", "--at-least", 4), "--at-least is given, but --data is")


def test_a_command_warns_in_one_line_that_names_no_code(tmp_path):
    folder_of_images(tmp_path / "mine", classes=7, images=4)
    (tmp_path / "mine" / "class3" / "0.png").unlink()
    words = ("--folder", "mine", "--at-least", 4, "--ways", 2)
    command = ["from mltk.cli import main; main()", "train", *WORDS, *words]
    done = subprocess.run(
        [sys.executable, "-c", *map(str, command)], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"(?m)^warning: 1 classes in .* are left out: class3 \(3\)$", done.stderr)
    assert ".py:" not in done.stderr


def test_a_run_of_before_says_that_it_does_not_know(run):
    folder_of_images("mine", classes=8)
    output(run("train", *WORDS, "--folder", "mine"))
    Path("here/classes.json").unlink()
    said = output(run("evaluate", "here", "--episodes", 3))
    assert "on 2 classes (whether they were trained on is not known)" in said
