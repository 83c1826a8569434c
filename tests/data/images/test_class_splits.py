"""Splits of folders into datasets that share no class, and classes that are left out on purpose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mltk
from mltk.data import BrokenImageWarning, ImageFolder, SmallClassWarning
from mltk.data.images.class_split import split_classes
from mltk.errors import DataError, SettingError
from mltk.training.config import from_config, to_config


def make(root, classes, images=2):
    """Classes of plain images, each image of a colour of its own."""
    rng = np.random.default_rng(len(str(root)))
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            colour = tuple(rng.integers(0, 255, 3).tolist())
            Image.new("RGB", (4, 4), colour).save(root / name / f"{number}.png")
    return root


@settings(max_examples=50)
@given(st.integers(2, 60), st.lists(st.integers(1, 10), min_size=1, max_size=4), st.integers(0, 1000))
def test_every_class_is_in_one_part_and_parts_have_their_share(count, weights, seed):
    names = tuple(f"class{number:02}" for number in range(count))
    fractions = [weight / sum(weights) for weight in weights]
    if count * min(fractions) < 1:
        return
    parts = split_classes(names, fractions, seed=seed)
    assert sorted(name for part in parts for name in part) == sorted(names)
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * count) < 1
        assert list(part) == sorted(part)
    assert split_classes(names, fractions, seed=seed) == parts


def test_another_seed_gives_another_split():
    names = tuple("abcdefghijklmnop")
    assert len({split_classes(names, [0.5, 0.5], seed=seed) for seed in range(10)}) == 10


@pytest.mark.parametrize(
    ("fractions", "problem"),
    [
        ((0.5, 0.4), "0.9 in all; expected 1 in all"),
        ((0.5, 0.6), "1.1 in all"),
        ((1.2, -0.2), "expected positive numbers"),
        ((1.0, 0.0), "expected positive numbers"),
        (0.5, "fractions is 0.5; expected positive numbers"),
        ((0.98, 0.02), "leaves a part without any"),
        ((), "0 in all"),
    ],
)
def test_fractions_that_make_no_split_are_refused(fractions, problem):
    with pytest.raises(SettingError, match=problem):
        split_classes(tuple("abcdefghij"), fractions)


def test_parts_of_a_folder_share_no_class_and_no_image(tmp_path):
    whole = ImageFolder(make(tmp_path, "abcdefghij"), 4)
    parts = train, validation, test = whole.split((0.6, 0.2, 0.2), seed=3)
    assert [part.n_classes for part in parts] == [6, 2, 2]
    assert sorted(name for part in parts for name in part.class_names) == list("abcdefghij")
    for part in parts:
        for name, images in zip(part.class_names, part.images.reshape(-1, 2, 3, 4, 4), strict=True):
            place = 2 * whole.class_names.index(name)
            np.testing.assert_array_equal(images, whole.images[place : place + 2])
        assert from_config(to_config(part)) == part
    held_out = set(validation.class_names) | set(test.class_names)
    assert set(train.held_out().class_names) == held_out
    assert set(test.held_out().class_names) == set(train.class_names) | set(validation.class_names)
    # A part can be split again.
    assert sorted(n for half in train.split((0.5, 0.5)) for n in half.class_names) == list(train.class_names)


def test_folders_train_val_and_test_are_parts_and_no_classes(tmp_path):
    for part, names in (("train", "abc"), ("val", "de"), ("test", "fg")):
        make(tmp_path / part, names)
    whole = ImageFolder(tmp_path, 4)
    with pytest.raises(DataError, match=r"has the parts train, val, test, .*expected one of them"):
        _ = whole.images
    train, validation, test = whole.split()
    assert [part.class_names for part in (train, validation, test)] == [
        tuple("abc"),
        tuple("de"),
        tuple("fg"),
    ]
    assert train.held_out() == validation.held_out() == test
    assert test.held_out() == train
    assert from_config(to_config(train)) == train


def test_folders_of_such_names_that_hold_images_are_classes(tmp_path):
    make(tmp_path, ["train", "test"])
    assert ImageFolder(tmp_path, 4).class_names == ("test", "train")
    make(tmp_path, ["bus"])
    assert ImageFolder(tmp_path, 4).class_names == ("bus", "test", "train")
    with pytest.raises(DataError, match="no folders train and test"):
        ImageFolder(tmp_path, 4).split()


def test_classes_are_named(tmp_path):
    make(tmp_path, "abc")
    assert ImageFolder(tmp_path, 4, classes=("c", "a")).class_names == ("a", "c")
    with pytest.raises(DataError, match=r"has no folder 'z', which is one of the 2 classes wanted"):
        _ = ImageFolder(tmp_path, 4, classes=("a", "z")).images
    for wrong in ((), "ab", ("a", "a"), (1,)):
        with pytest.raises(SettingError, match="classes is"):
            ImageFolder(tmp_path, 4, classes=wrong)
    with pytest.raises(SettingError, match=r"all classes of .* are in this dataset"):
        ImageFolder(tmp_path, 4, classes=tuple("abc")).held_out()


def test_small_classes_are_left_out_where_asked_and_reported(tmp_path):
    make(tmp_path, "abcd", images=3)
    make(tmp_path, ["few"], images=2)
    (tmp_path / "none").mkdir()
    (tmp_path / "b" / "0.png").write_bytes(b"no image")
    dataset = ImageFolder(tmp_path, 4, at_least=3)
    with pytest.warns() as warned:
        assert dataset.class_names == tuple("acd")
    assert dataset.left_out == (("b", 2), ("few", 2), ("none", 0))
    messages = {type(w.message): str(w.message) for w in warned}
    assert "3 classes in" in messages[SmallClassWarning]
    assert "at_least = 3 images and are left out: b (2); few (2); none (0)" in messages[SmallClassWarning]
    assert "b/0.png" in messages[BrokenImageWarning]
    assert dataset.tasks(3, 1, 2).sample(1, 0, mltk.backend("numpy")).ways == 3
    # No part of a split is given a class that will be left out.
    assert sum(part.n_classes for part in dataset.split((0.67, 0.33))) == 3


def test_without_being_asked_nothing_is_left_out(tmp_path):
    make(tmp_path, "ab", images=3)
    make(tmp_path, ["few"], images=1)
    with pytest.raises(SettingError, match=r"'few' has 1 images; .*= 1 \+ 1 = 2 in each class \(at_least=2"):
        ImageFolder(tmp_path, 4).tasks(2, 1, 1)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"'none' in .* has no images.*at_least=1 leaves out"):
        _ = ImageFolder(tmp_path, 4).images
    with (
        pytest.warns(SmallClassWarning),
        pytest.raises(DataError, match=r"no class in .* has at_least = 9 images"),
    ):
        _ = ImageFolder(tmp_path, 4, at_least=9).images
