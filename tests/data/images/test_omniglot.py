"""Omniglot: splits, the archive and the cache, and the errors about them."""

import io
import json
import shutil
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mltk.data import Omniglot
from mltk.data.images import omniglot
from mltk.data.images.area_average import area_average
from mltk.data.images.splits import OMNIGLOT_PARTS, OMNIGLOT_SPLITS, SMALL1
from mltk.errors import AbsentDataError, ChecksumError, DataError, SettingError
from mltk.training.config import from_config, to_config

ZIPS = {part: f"images_background_{part}.zip" for part in ("small1", "small2")}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of datasets that may be written, empty."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("MLTK_DATA", str(folder))
    return folder


@pytest.fixture
def background(home, shared_data):
    """A folder of datasets with the background part."""
    (home / "omniglot-background.npz").symlink_to(shared_data / "omniglot-background.npz")
    return home


@pytest.fixture
def tiny(home, monkeypatch):
    """The part small1 cut down to two alphabets of two characters, with random drawings."""
    monkeypatch.setitem(OMNIGLOT_PARTS, "small1", {"Greek": 2, "Latin": 2})
    bits = np.random.default_rng(0).random((4, 20, 105, 105)) < 0.1
    arrays = {
        "images": np.packbits(bits.reshape(4, 20, -1), axis=-1),
        "alphabet": np.asarray(["Greek", "Greek", "Latin", "Latin"]),
        "character": np.asarray(["character01", "character02"] * 2),
    }
    np.savez_compressed(home / "omniglot-small1.npz", **arrays)
    return home / "omniglot-small1.npz", arrays


def png(ink):
    """A drawing as Omniglot has it: one bit a pixel, ink is black."""
    content = io.BytesIO()
    Image.fromarray(~ink).convert("1").save(content, "PNG")
    return content.getvalue()


def archive(path, changes):
    """An archive of two alphabets of one character, with some of its files replaced or (None) left out."""
    ink = np.zeros((105, 105), bool)
    ink[:, 50:55] = True
    files = {
        f"images/{alphabet}/character01/{number:04}_{drawer:02}.png": png(ink)
        for number, alphabet in [(7, "Greek"), (3, "Latin")]
        for drawer in range(1, 21)
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (files | changes).items():
            if content is not None:
                file.writestr(name, content)
    return path


def test_splits_are_those_of_the_paper(shared_data):
    published = json.loads((shared_data / "omniglot-vinyals-split.json").read_text())
    for ours, theirs, size in [("train", "train", 1028), ("validation", "val", 172), ("test", "test", 423)]:
        expected = {
            (part, alphabet, character)
            for part, alphabets in published[theirs].items()
            for alphabet, characters in alphabets.items()
            for character in characters
        }
        stated = {
            (part, alphabet, f"character{number:02}")
            for part, alphabets in OMNIGLOT_SPLITS[f"vinyals-{ours}"].items()
            for alphabet, numbers in alphabets.items()
            for number in numbers
        }
        assert stated == expected
        assert len(stated) == size


def test_parts_are_those_of_the_files(shared_data):
    with np.load(shared_data / "omniglot-background.npz", allow_pickle=False) as cache:
        names, counts = np.unique(cache["alphabet"], return_counts=True)
    assert OMNIGLOT_PARTS["background"] == dict(zip(names.tolist(), counts.tolist(), strict=True))
    for part, name in ZIPS.items():
        with zipfile.ZipFile(shared_data / name) as file:
            characters = {tuple(entry.split("/")[1:3]) for entry in file.namelist() if entry.endswith(".png")}
        assert sorted(alphabet for alphabet, _ in characters) == sorted(
            alphabet for alphabet, count in OMNIGLOT_PARTS[part].items() for _ in range(count)
        )


@pytest.mark.parametrize("part", ZIPS)
def test_the_archive_gives_the_bits_of_the_cache(background, shared_data, part):
    shutil.copy(shared_data / ZIPS[part], background)
    dataset = Omniglot(part, 105)
    same = Omniglot("background", 105, alphabets=tuple(OMNIGLOT_PARTS[part]))
    np.testing.assert_array_equal(dataset.images, same.images)
    assert dataset.class_names == same.class_names
    np.testing.assert_array_equal(dataset.pictures.groups, same.pictures.groups)
    with (
        np.load(background / f"omniglot-{part}.npz", allow_pickle=False) as made,
        np.load(background / "omniglot-background.npz", allow_pickle=False) as original,
    ):
        assert sorted(made) == sorted(original)
        chosen = np.isin(original["alphabet"], list(OMNIGLOT_PARTS[part]))
        for name in original:
            np.testing.assert_array_equal(made[name], original[name][chosen])
            assert made[name].dtype.kind == original[name].dtype.kind
    (background / ZIPS[part]).unlink()
    np.testing.assert_array_equal(Omniglot(part, 21).images[::97], area_average(same.images[::97] == 1, 21))
    assert sorted(file.name for file in background.iterdir()) == [
        "omniglot-background.npz",
        f"omniglot-{part}.npz",
    ]


def test_a_folder_that_is_read_only_is_not_written_and_its_archive_decoded_once(
    home, shared_data, monkeypatch
):
    shutil.copy(shared_data / ZIPS["small1"], home)
    home.chmod(0o500)
    decoded = []
    decode = omniglot.decode_drawing
    monkeypatch.setattr(omniglot, "decode_drawing", lambda *given: decoded.append(1) or decode(*given))
    first, second = Omniglot("small1", 28), Omniglot("small1", 14, alphabets=("Latin",))
    assert first.images.shape == (136 * 20, 1, 28, 28)
    assert second.images.shape == (26 * 20, 1, 14, 14)
    assert len(decoded) == 136 * 20
    assert [file.name for file in home.iterdir()] == [ZIPS["small1"]]
    home.chmod(0o700)


def test_images_are_ink_on_paper(background):
    dataset = Omniglot(split="background-validation")
    assert dataset.images.dtype == np.float32
    assert dataset.images.shape == (172 * 20, 1, 28, 28)
    assert dataset.image_shape == (1, 28, 28)
    assert 0.03 < dataset.images.mean() < 0.2
    assert dataset.images.min() == 0
    assert dataset.images.max() == 1
    border = dataset.images[..., [0, -1], :]
    assert border.mean() < dataset.images.mean() / 2


def test_classes_are_in_the_order_of_the_file_with_their_drawers_in_order(background):
    with np.load(background / "omniglot-background.npz", allow_pickle=False) as cache:
        row = int(np.flatnonzero((cache["alphabet"] == "Latin") & (cache["character"] == "character03"))[0])
        bits = np.unpackbits(cache["images"][row], axis=-1, count=105**2).reshape(20, 1, 105, 105)
    dataset = Omniglot("background", 105, alphabets=["Latin", "Greek"])
    assert dataset.alphabets == ("Greek", "Latin")
    assert dataset.n_classes == 50
    assert (dataset.pictures.counts == 20).all()
    position = dataset.class_names.index("Latin/character03")
    assert position == 24 + 2  # Greek's 24 characters come first, as in the file
    np.testing.assert_array_equal(dataset.images[position * 20 : position * 20 + 20], bits)


def test_equal_datasets_share_their_images(background):
    first, second = Omniglot("background", 20), from_config(to_config(Omniglot("background", 20)))
    assert first == second
    assert np.shares_memory(first.images, second.images)
    with pytest.raises(ValueError, match="read-only"):
        first.images[0] = 1


def test_a_file_that_changes_is_read_again(tiny):
    path, arrays = tiny
    before = Omniglot("small1", 105).images
    np.savez_compressed(path, **(arrays | {"images": arrays["images"][::-1]}))
    np.testing.assert_array_equal(
        Omniglot("small1", 105).images.reshape(4, 20, -1), before.reshape(4, 20, -1)[::-1]
    )


def test_splits_of_the_whole_span_both_parts(background):
    alphabets = [
        (name, n) for name, count in OMNIGLOT_PARTS["evaluation"].items() for n in range(1, count + 1)
    ]
    rng = np.random.default_rng(0)
    np.savez(
        background / "omniglot-evaluation.npz",
        images=rng.integers(0, 256, (659, 20, 1379), dtype=np.uint8),
        alphabet=np.asarray([name for name, _ in alphabets]),
        character=np.asarray([f"character{n:02}" for _, n in alphabets]),
    )
    datasets = {
        name: Omniglot(image_size=7, split=f"vinyals-{name}") for name in ("train", "validation", "test")
    }
    assert {name: dataset.n_classes for name, dataset in datasets.items()} == {
        "train": 1028,
        "validation": 172,
        "test": 423,
    }
    names = [name for dataset in datasets.values() for name in dataset.class_names]
    assert len(set(names)) == 1623
    train = datasets["train"]
    evaluation = Omniglot("evaluation", 7)
    np.testing.assert_array_equal(train.images[792 * 20 :], evaluation.images[: 236 * 20])
    np.testing.assert_array_equal(datasets["test"].images, evaluation.images[236 * 20 :])


@pytest.mark.parametrize(
    ("dataset", "other"),
    [
        (Omniglot(), Omniglot("evaluation")),
        (Omniglot("evaluation", 14), Omniglot("background", 14)),
        (Omniglot(split="vinyals-train"), Omniglot(split="vinyals-test")),
        (Omniglot(split="vinyals-validation"), Omniglot(split="vinyals-test")),
        (Omniglot(split="vinyals-test"), Omniglot(split="vinyals-train")),
        (Omniglot(split="background-train"), Omniglot(split="background-validation")),
        (Omniglot(split="background-validation"), Omniglot(split="background-train")),
        (
            Omniglot("small1", alphabets=("Latin", "Greek")),
            Omniglot("small1", alphabets=("Balinese", "Early_Aramaic", "Korean")),
        ),
        (
            Omniglot("small1"),
            Omniglot(alphabets=tuple(name for name in OMNIGLOT_PARTS["background"] if name not in SMALL1)),
        ),
    ],
)
def test_held_out_classes_are_others(dataset, other):
    assert dataset.held_out() == other
    held, others = (
        {
            (alphabet, n)
            for part in some._classes.values()
            for alphabet, numbers in part.items()
            for n in numbers
        }
        for some in (dataset, other)
    )
    assert others
    assert not held & others


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"alphabets": ("Klingon",)}, "alphabets has 'Klingon'.*Alphabet_of_the_Magi, .*Tifinagh"),
        (
            {"part": "small1", "alphabets": ("Tagalog",)},
            "not in the part 'small1'; expected some of Balinese",
        ),
        ({"split": "vinyals-test", "part": "evaluation"}, "expected their defaults"),
        ({"split": "vinyals-test", "alphabets": ("Latin",)}, "expected their defaults"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings, problem):
    with pytest.raises(SettingError, match=problem):
        Omniglot(**settings)


def test_absent_parts_say_how_to_get_them(background):
    for dataset in (Omniglot("evaluation"), Omniglot(split="vinyals-test"), Omniglot(split="vinyals-train")):
        with pytest.raises(
            AbsentDataError, match=r"images_evaluation\.zip.*mltk data get omniglot-evaluation"
        ):
            _ = dataset.images


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"images": lambda a: a.astype(np.int16)}, "images is <i2"),
        ({"images": lambda a: a[:, :19]}, "expected u1 of shape"),
        ({"images": lambda a: a[..., :-1]}, r"expected u1 of shape \(any, 20, 1379\)"),
        ({"images": lambda a: a[:3]}, "differ in length"),
        ({"images": None}, r"images\.npy"),
        ({"alphabet": lambda a: np.arange(4)}, "alphabet is <i8"),
        ({"alphabet": lambda a: a.astype(object)}, r"alphabet is \|O"),
        ({"character": None}, "character"),
        (
            {"character": lambda a: np.asarray(["character01"] * 4)},
            "has not 2 of its characters, such as Greek/character02",
        ),
    ],
)
def test_a_cache_of_another_form_is_refused(tiny, change, problem):
    path, arrays = tiny
    for name, change_of in change.items():
        arrays[name] = change_of and change_of(arrays[name])
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=problem) as error:
        _ = Omniglot("small1").images
    assert str(path.parent) in str(error.value)


@settings(max_examples=40)
@given(st.data())
def test_a_damaged_cache_is_refused_or_right(tmp_path_factory, data):
    arrays = {
        "images": np.random.default_rng(0).integers(0, 256, (2, 20, 1379), dtype=np.uint8),
        "alphabet": np.asarray(["Greek", "Latin"]),
        "character": np.asarray(["character01"] * 2),
    }
    path = tmp_path_factory.mktemp("damaged") / "omniglot.npz"
    np.savez_compressed(path, **arrays)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    found = arrays
    with suppress(DataError):
        found = omniglot.read_cache(path, omniglot.LAYOUT)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_order_of_an_archive_is_that_of_the_numbers(tmp_path):
    drawings = omniglot.read_archive(
        archive(tmp_path / "some.zip", {"images/readme.txt": b"", "images/.hidden.png": b""})
    )
    assert drawings.alphabet.tolist() == ["Latin", "Greek"]
    assert drawings.images.shape == (2, 20, 1379)
    assert np.unpackbits(drawings.images).sum() == 2 * 20 * 105 * 5


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("images/Greek/character01/0007_05.png", None, "Greek/character01 has 19 drawings"),
        ("images/Greek/character01/0007_05.png", b"\x89PNG", "0007_05.png' is no readable PNG file"),
        ("images/Greek/character01/0007_05.png", png(np.zeros((20, 105), bool)), "105 × 105"),
        ("images/Greek/character01/0007_21.png", png(np.zeros((105, 105), bool)), "has 21 drawings"),
        (
            "images/Greek/character02/0007_01.png",
            png(np.zeros((105, 105), bool)),
            "has the number of Greek/character01",
        ),
        ("images/Greek/character01/drawing.png", b"", "is not named like"),
        ("0001_01.png", b"", "is not named like"),
        ("../images/Greek/character01/0007_05.png", b"", "leads out of the archive"),
    ],
)
def test_a_damaged_archive_is_refused_by_name(tmp_path, name, content, problem):
    path = archive(tmp_path / "some.zip", {name: content})
    with pytest.raises(DataError, match=problem) as error:
        omniglot.read_archive(path)
    assert str(path) in str(error.value)


def test_an_archive_without_drawings_is_refused(tmp_path):
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "")
    with pytest.raises(DataError, match="holds no drawings"):
        omniglot.read_archive(path)


def test_download_fetches_what_is_missing_when_the_dataset_is_made(background, shared_data, monkeypatch):
    asked = []
    monkeypatch.setattr(omniglot, "fetch", asked.append)
    Omniglot("small1", download=True)
    Omniglot(download=True)  # its cache is there
    Omniglot(split="vinyals-train", download=True)
    Omniglot("small2")
    assert asked == ["omniglot-small1", "omniglot-evaluation"]
    shutil.copy(shared_data / ZIPS["small1"], background)
    Omniglot("small1", download=True)
    assert asked == ["omniglot-small1", "omniglot-evaluation"]


def test_another_archive_is_not_read(home):
    archive(home / ZIPS["small1"], {})
    with pytest.raises(ChecksumError, match=r"images_background_small1\.zip.*MD5"):
        _ = Omniglot("small1").images
    assert [file.name for file in home.iterdir()] == [ZIPS["small1"]]
