"""The Omniglot challenge: runs in the official form, runs made from a dataset, and the errors of learners."""

import io
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

import mltk
from mltk.data import ImageDataset, Omniglot, Pictures
from mltk.errors import DataError, NotFiniteError, SettingError
from mltk.evaluation import omniglot_challenge, read_runs, within_alphabet_runs


@dataclass(frozen=True)
class Scribbles(ImageDataset):
    """Random drawings at the size of Omniglot's: 2 alphabets of 5 and 6 characters, 4 drawings each."""

    noise: float = 0.02

    def held_out(self):
        return self

    def _load(self):
        rng = np.random.default_rng(0)
        shapes = rng.random((11, 1, 1, 105, 105)) < 0.3
        flips = rng.random((11, 4, 1, 105, 105)) < self.noise
        images = (shapes ^ flips).reshape(44, 1, 105, 105).astype(np.float32)
        names = tuple(f"{group}/{n}" for group, count in [("a", 5), ("b", 6)] for n in range(count))
        return Pictures(images, np.full(11, 4), names, np.asarray(["a"] * 5 + ["b"] * 6))


@dataclass(frozen=True)
class Nearest:
    """One-nearest-neighbour of pixels, or the farthest."""

    sign: float = -1.0

    def adapt(self, meta_params, support_x, support_y):
        order = np.argsort(support_y, axis=1)
        return {"x": np.take_along_axis(support_x, order[..., None, None, None], axis=1)}

    def predict(self, state, query_x):
        return self.sign * ((query_x[:, :, None] - state["x"][:, None]) ** 2).sum(axis=(-3, -2, -1))


@pytest.fixture(scope="module")
def scribbles():
    return Scribbles()


def official(path, runs, *, folder="", changes=None):
    """Write runs as ``all_runs.zip`` has them, with some files replaced or (None) left out."""
    files = {}
    for name, support, query, labels in zip(*runs, strict=True):
        for kind, images, file in [("training", support, "class"), ("test", query, "item")]:
            for number, image in enumerate(images, start=1):
                content = io.BytesIO()
                Image.fromarray(image[0] == 0).convert("1").save(content, "PNG")
                files[f"{folder}{name}/{kind}/{file}{number:02}.png"] = content.getvalue()
        lines = [
            f"{name}/test/item{number:02}.png {name}/training/class{label + 1:02}.png\n"
            for number, label in enumerate(labels, start=1)
        ]
        files[f"{folder}{name}/class_labels.txt"] = "".join(lines).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files | (changes or {})).items():
            if content is not None:
                archive.writestr(name, content)
    return path


@pytest.mark.parametrize("folder", ["", "all_runs/"])
def test_runs_are_read_as_they_were_written(tmp_path, scribbles, folder):
    runs = within_alphabet_runs(scribbles, runs=3, ways=5, seed=4)
    noise = {"__MACOSX/run01/training/._class01.png": b"", f"{folder}run01/training/._class01.png": b""}
    path = official(tmp_path / "all_runs.zip", runs, folder=folder, changes=noise)
    found = read_runs(path, image_size=105)
    assert found.names == ("run01", "run02", "run03")
    for ours, theirs in zip(found[1:], runs[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_runs_of_real_drawings_look_as_the_dataset_shows_them(tmp_path, shared_data, monkeypatch):
    monkeypatch.setenv("MLTK_DATA", str(shared_data))
    originals = within_alphabet_runs(Omniglot("small1", 105), seed=7)
    path = official(tmp_path / "all_runs.zip", originals)
    expected = within_alphabet_runs(Omniglot("small1", 28), seed=7)
    found = read_runs(path)
    assert found.support_x.shape == found.query_x.shape == (20, 20, 1, 28, 28)
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    result = omniglot_challenge(Nearest(), {"w": np.zeros(1, np.float32)}, path)
    assert 0 < result.error < 0.95  # better than chance, worse than people
    again = omniglot_challenge(Nearest(), {"w": np.zeros(1, np.float32)}, expected)
    np.testing.assert_array_equal(again.errors, result.errors)


def test_runs_keep_to_the_protocol(scribbles):
    runs = within_alphabet_runs(scribbles, runs=30, ways=5, seed=1)
    place = {image.tobytes(): divmod(number, 4) for number, image in enumerate(scribbles.images)}
    alphabets, drawers = [], set()
    for support, query, labels in zip(runs.support_x, runs.query_x, runs.query_y, strict=True):
        shown = [place[image.tobytes()] for image in support]
        asked = [place[image.tobytes()] for image in query]
        characters = [character for character, _ in shown]
        assert len(set(characters)) == 5
        groups = {scribbles.pictures.groups[character] for character in characters}
        assert len(groups) == 1
        assert sorted(labels) == list(range(5))
        assert [characters[label] for label in labels] == [character for character, _ in asked]
        ((first,), (second,)) = ({drawer for _, drawer in images} for images in (shown, asked))
        assert first != second
        alphabets += groups
        drawers.add((first, second))
    assert alphabets.count("a") == alphabets.count("b") == 15
    assert len(drawers) > 6
    assert (runs.query_y != np.arange(5)).any()
    same = within_alphabet_runs(scribbles, runs=30, ways=5, seed=1)
    np.testing.assert_array_equal(runs.query_x, same.query_x)
    other = within_alphabet_runs(scribbles, runs=30, ways=5, seed=2)
    assert (runs.query_x != other.query_x).any()


def test_errors_are_fractions_of_queries_taken_for_others(scribbles):
    runs = within_alphabet_runs(scribbles, runs=4, ways=5)
    meta_params = {"w": np.zeros(1, np.float32)}
    right = omniglot_challenge(Nearest(), meta_params, runs)
    assert right.error == 0
    assert right.interval == 0
    assert (omniglot_challenge(Nearest(1.0), meta_params, runs).errors == 1).all()
    labels = runs.query_y.copy()
    labels[1, :2] = labels[1, 1::-1]  # two queries of the second run change places
    some = omniglot_challenge(Nearest(), meta_params, runs._replace(query_y=labels))
    assert some.errors.tolist() == [0, 0.4, 0, 0]
    assert some.error == pytest.approx(0.1)
    # Student's t with 3 degrees of freedom: 3.1824 standard errors, each 0.2 / 2.
    assert some.interval == pytest.approx(3.182446 * 0.1, rel=1e-6)
    assert str(some) == (
        "error 10.0 % ± 31.8 % (95 % interval over 4 runs of 5 ways); from 0.0 % to 40.0 % a run"
    )


def test_the_order_of_the_queries_makes_no_difference(scribbles):
    meta_params = {"w": np.zeros(1, np.float32)}
    runs = within_alphabet_runs(Scribbles(noise=0.42), runs=6, ways=5)
    order = np.random.default_rng(0).permutation(5)
    turned = runs._replace(query_x=runs.query_x[:, order], query_y=runs.query_y[:, order])
    result = omniglot_challenge(Nearest(), meta_params, runs)
    assert 0 < result.error < 1
    np.testing.assert_array_equal(result.errors, omniglot_challenge(Nearest(), meta_params, turned).errors)


def test_learners_of_any_backend(backend32, scribbles):
    runs = within_alphabet_runs(scribbles, runs=3, ways=5)
    runs = runs._replace(support_x=runs.support_x[..., ::15, ::15], query_x=runs.query_x[..., ::15, ::15])
    flat = runs._replace(support_x=runs.support_x.reshape(3, 5, 49), query_x=runs.query_x.reshape(3, 5, 49))
    learner = mltk.algorithms.MAML(
        mltk.models.mlp([49, 16, 5]), loss="cross_entropy", inner_steps=20, inner_lr=0.5
    )
    result = omniglot_challenge(learner, learner.init(backend32, 0), flat)
    assert result.errors.shape == (3,)
    assert result.error < 0.5  # chance is 0.8
    assert result.ways == 5


def test_a_query_may_come_without_its_class_and_a_class_without_a_query(tmp_path, scribbles):
    runs = within_alphabet_runs(scribbles, runs=2, ways=5)
    changes = {
        f"run0{run}/class_labels.txt": (
            f"run0{run}/test/item02.png run0{run}/training/class03.png\r\n\r\n"
            f"run0{run}/test/item01.png  run0{run}/training/class03.png"
        ).encode()
        for run in (1, 2)
    }
    found = read_runs(official(tmp_path / "runs.zip", runs, changes=changes), image_size=105)
    assert found.query_y.tolist() == [[2, 2], [2, 2]]
    np.testing.assert_array_equal(found.query_x, runs.query_x[:, [1, 0]])
    assert found.support_x.shape[:2] == (2, 5)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"run02/class_labels.txt": b""}, r"run02/class_labels\.txt' is empty"),
        ({"run02/class_labels.txt": b"\xff\xfe"}, r"run02/class_labels\.txt' is no text"),
        ({"run02/class_labels.txt": b"run02/test/item01.png"}, r"line 1 of 'run02/class_labels\.txt' is"),
        ({"run02/test/item03.png": None}, r"run02/test/item03\.png', which line 3 of .* is missing"),
        (
            {"run02/training/class03.png": None},
            r"run02/training/class03\.png'.* is missing; expected one of the 4",
        ),
        ({"run02/training/class03.png": b"\x89PNG"}, r"run02/training/class03\.png' is no readable PNG"),
        ({"run02/test/item01.png": b""}, r"run02/test/item01\.png' is no readable PNG"),
        ({"run02/class_labels.txt": b"run02/../x run02/training/class01.png"}, r"run02/\.\./x'.* is missing"),
        (
            {"run02/class_labels.txt": b"run02/test/item01.png run02/training/class01.png"},
            "run02 has 5 classes and 1 queries; expected 5 and 5 as in run01",
        ),
        ({"../run03/class_labels.txt": b""}, "leads out of the archive"),
    ],
)
def test_damaged_runs_are_refused_by_name(tmp_path, scribbles, changes, problem):
    runs = within_alphabet_runs(scribbles, runs=2, ways=5)
    path = official(tmp_path / "runs.zip", runs, changes=changes)
    with pytest.raises(DataError, match=problem) as error:
        read_runs(path)
    assert str(path) in str(error.value)


def test_archives_that_are_none_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(DataError, match=r"has no runs; expected files like run01/class_labels\.txt"):
        read_runs(tmp_path / "empty.zip")
    with pytest.raises(DataError, match=r"nowhere\.zip is missing"):
        read_runs(tmp_path / "nowhere.zip")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(DataError, match=r"text\.zip is damaged"):
        read_runs(tmp_path / "text.zip")


def test_settings_that_make_no_sense_are_refused_by_name(scribbles):
    with pytest.raises(SettingError, match="ways is 7; expected an alphabet"):
        within_alphabet_runs(scribbles, ways=7)
    with pytest.raises(SettingError, match="runs is 0"):
        within_alphabet_runs(scribbles, runs=0, ways=5)
    with pytest.raises(SettingError, match="algorithm is 'maml'"):
        omniglot_challenge("maml", {}, within_alphabet_runs(scribbles, ways=5))
    with pytest.raises(SettingError, match="image_size is 0"):
        read_runs("runs.zip", image_size=0)


def test_predictions_that_are_not_finite_name_their_run(scribbles):
    class Diverging(Nearest):
        def predict(self, state, query_x):
            outputs = super().predict(state, query_x)
            outputs[2, 0, 0] = np.nan
            return outputs

    with pytest.raises(NotFiniteError, match="predictions for run03"):
        omniglot_challenge(
            Diverging(), {"w": np.zeros(1, np.float32)}, within_alphabet_runs(scribbles, runs=4, ways=5)
        )
