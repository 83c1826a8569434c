"""CIFAR-FS: the split, the binary archive, the cache, and the errors about them."""

import json

import numpy as np
import pytest
from cifar_archive import NAMES, TRAINING, contents, write

import mltk
from mltk.data import CIFARFS
from mltk.data.images import cifar_fs
from mltk.data.images.area_average import area_average
from mltk.data.images.splits import CIFAR_FS
from mltk.errors import AbsentDataError, ChecksumError, DataError
from mltk.training.config import from_config, to_config


def test_the_split_is_that_of_the_paper(shared_data):
    published = json.loads((shared_data / "cifar-fs-split.json").read_text())
    assert set(CIFAR_FS["validation"]) == set(published["val"])
    assert set(CIFAR_FS["test"]) == set(published["test"])
    everything = [*published["train"], *published["val"], *published["test"]]
    assert len(set(everything)) == 100
    assert {len(names) for names in CIFAR_FS.values()} == {16, 20}


@pytest.mark.parametrize("cached", [False, True])
def test_every_image_is_with_its_class_in_its_split(cifar_home, cifar_records, cached):
    if cached:
        _ = CIFARFS("test").pictures
        (cifar_home / "cifar-100-binary.tar.gz").unlink()
    joined = np.concatenate([cifar_records["train.bin"], cifar_records["test.bin"]])
    seen = []
    for split, expected in [("train", TRAINING), *CIFAR_FS.items()]:
        images, counts, names, groups = CIFARFS(split).pictures
        assert names == tuple(sorted(expected))
        assert (counts == 6).all()
        assert images.dtype == np.uint8
        for position, name in enumerate(names):
            label = NAMES.index(name)
            pixels = joined[joined[:, 1] == label, 2:].reshape(6, 3, 32, 32)
            np.testing.assert_array_equal(images[6 * position : 6 * position + 6], pixels)
            assert groups[position] == f"group{label // 5:02}"
        seen += names
    assert sorted(seen) == NAMES
    assert (cifar_home / "cifar-fs.npz").exists()


def test_images_are_fractions_of_any_size(cifar_home):
    dataset = CIFARFS("validation")
    assert dataset.images.dtype == np.float32
    np.testing.assert_array_equal(np.rint(dataset.images * 255), dataset.pictures.images)
    smaller = CIFARFS("validation", 20)
    assert smaller.image_shape == (3, 20, 20)
    np.testing.assert_allclose(smaller.images, area_average(dataset.pictures.images, 20) / 255, rtol=1e-6)
    np.testing.assert_allclose(
        smaller.images.mean(axis=(-2, -1)), dataset.images.mean(axis=(-2, -1)), rtol=1e-5
    )


def test_tasks_can_be_drawn(cifar_home):
    episode = CIFARFS("test").tasks(5, 1, 2).sample(3, 0, mltk.backend("numpy"))
    assert episode.support_x.shape == (3, 5, 3, 32, 32)
    episode.validate()


def test_held_out_classes_are_others():
    assert CIFARFS("train", 16).held_out() == CIFARFS("test", 16)
    assert CIFARFS("validation").held_out() == CIFARFS("test")
    assert CIFARFS("test").held_out() == CIFARFS("train")
    assert from_config(to_config(CIFARFS("validation", 16))) == CIFARFS("validation", 16)


def test_absent_data_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("MLTK_DATA", str(tmp_path))
    with pytest.raises(AbsentDataError, match=r"cifar-100-binary\.tar\.gz.*mltk data get cifar-100"):
        _ = CIFARFS().images


def test_another_archive_is_not_read(cifar_home):
    with (cifar_home / "cifar-100-binary.tar.gz").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ChecksumError, match="MD5"):
        _ = CIFARFS().images


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("train.bin", None, r"has no train\.bin"),
        ("fine_label_names.txt", None, r"has no fine_label_names\.txt"),
        (
            "test.bin",
            lambda content: content[:-1],
            r"test\.bin has 614799 bytes; expected a multiple of 3074",
        ),
        ("test.bin", lambda content: b"", "has 0 bytes"),
        ("train.bin", lambda content: b"\0\x64" + content[2:], "images of the class 100"),
        ("train.bin", lambda content: b"\x14" + content[1:], "in the superclass 20"),
        ("fine_label_names.txt", lambda content: content.replace(b"whale", b"wall"), "'whale'"),
        ("fine_label_names.txt", lambda content: content + b"more\n", "has 101 names"),
        ("coarse_label_names.txt", lambda content: b"\xff", "is no text"),
    ],
)
def test_a_damaged_archive_is_refused_by_name(tmp_path, cifar_records, name, change, problem):
    files = contents(cifar_records)
    files[name] = change and change(files[name])
    path = write(tmp_path / "cifar.tar.gz", files)
    with pytest.raises(DataError, match=problem) as error:
        cifar_fs.read_archive(path)
    assert str(path) in str(error.value)


def test_a_class_without_images_is_refused(tmp_path, cifar_records):
    files = contents({name: array[array[:, 1] != 99] for name, array in cifar_records.items()})
    with pytest.raises(DataError, match=f"has no image of {NAMES[99]}"):
        cifar_fs.read_archive(write(tmp_path / "cifar.tar.gz", files))


def test_a_damaged_cache_is_refused(cifar_home):
    _ = CIFARFS("test").pictures
    cache = cifar_home / "cifar-fs.npz"
    with np.load(cache, allow_pickle=False) as file:
        arrays = dict(file)
    np.savez(cache, **(arrays | {"test_images": arrays["test_images"].astype(np.float32)}))
    with pytest.raises(DataError, match="test_images is <f4"):
        _ = CIFARFS("test").images
    assert CIFARFS("validation").n_classes == 16  # its arrays are sound
