"""The command `mltk` on images: every learner, every kind of images, the challenge, and what is refused."""

import functools
import io
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mltk
from mltk.evaluation import omniglot_challenge, within_alphabet_runs
from mltk.training.runs import load_run

NETWORKS = {
    "maml": "MAML",
    "fomaml": "MAML",
    "meta-sgd": "MAML",
    "anil": "MAML",
    "boil": "MAML",
    "reptile": "Reptile",
    "implicit-maml": "ImplicitMAML",
    "learned-optimizer": "LearnedOptimizer",
}
EMBEDDINGS = {
    "prototypical": "Prototypical",
    "matching": "Matching",
    "ridge": "RidgeRegression",
    "bayesian-ridge": "BayesianRidge",
    "logistic": "LogisticRegression",
}
SMALL = ("--steps", 2, "--meta-batch", 1, "--queries", 1)


@pytest.fixture(scope="module", autouse=True)
def _commands_are_quick():
    """Every command would draw the same characters again, and calibrate on 1,000 images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mltk.normalization.ENOUGH_EXAMPLES", 60)
        patch.setattr(mltk.data.Glyphs, "_load", functools.cache(mltk.data.Glyphs._load))
        yield


def output(result):
    assert (result.exit_code, result.exception) == (0, None), result.output
    return result.output


def refused(result, message):
    """The command failed with a message, and no traceback."""
    assert result.exit_code == 1, result.output
    assert re.search(f"^error: {message}", result.output, re.M | re.S), result.output
    assert "Traceback" not in result.output


def folder_of_images(root, classes=4, images=4, *, size=(20, 24), seed=0):
    """Write small colour PNGs, one folder a class."""
    rng = np.random.default_rng(seed)
    for number in range(classes):
        folder = Path(root) / f"class{number}"
        folder.mkdir(parents=True)
        colour = rng.integers(0, 256, 3)
        for image in range(images):
            pixels = np.clip(colour + rng.integers(-20, 21, (*size, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{image}.png")
    return root


@pytest.mark.parametrize(("algorithm", "kind"), (NETWORKS | EMBEDDINGS).items())
def test_every_learner_trains_on_glyphs_and_is_evaluated_on_other_characters(algorithm, kind, run):
    output(run("train", algorithm, "--data", "glyphs", *SMALL, "--ways", 3, "--out", "here"))
    files = {path.name for path in Path("here").iterdir() if not path.name.startswith(".")}
    assert files == {
        "config.toml", "metrics.jsonl", "classes.json", "checkpoint.npz", "curves.svg", "episode.svg"
    }  # fmt: skip
    saved = load_run("here")
    assert type(saved.algorithm).__name__ == kind
    assert (saved.tasks.dataset, saved.tasks.ways, saved.tasks.queries) == (mltk.data.Glyphs(), 3, 1)
    said = output(run("evaluate", "here", "--episodes", 4, "--queries", 1))
    assert said.startswith(f"here: {kind} after 2 meta-iterations\n")
    # A network has its outputs; an embedding takes any number of classes.
    assert f"{3 if algorithm in NETWORKS else 5}-way {saved.tasks.shots}-shot, on 400 unseen classes" in said
    assert re.search(r"accuracy 0\.\d+ ± \d.* \(95 % interval over 4 tasks\)", said)


def test_evaluation_is_that_of_the_library_with_the_ways_shots_and_queries_asked_for(run):
    output(run("train", "prototypical", "--data", "glyphs", *SMALL, "--ways", 3, "--out", "here"))
    words = ("--ways", 4, "--shots", 2, "--queries", 3, "--episodes", 5, "--seed", 3)
    said = output(run("evaluate", "here", *words))
    saved = load_run("here")
    unseen = mltk.data.Glyphs().held_out().tasks(4, 2, 3)
    expected = mltk.evaluate(saved.algorithm, saved.run.meta_params, unseen, episodes=5, seed=3)
    others = [f"accuracy {expected.interval(over)}" for over in ("classes", "groups")]
    assert said.splitlines()[1:] == ["4-way 2-shot, on 400 unseen classes", str(expected), *others]
    assert [line.split()[-1] for line in others] == ["classes)", "groups)"]


def test_training_options_reach_the_tasks(run):
    words = ("--ways", 4, "--shots", 3, "--queries", 2, "--meta-batch", 2, "--steps", 1, "--meta-lr", 0.5)
    output(run("train", "anil", "--data", "glyphs", *words, "--inner-steps", 2, "--inner-lr", 0.25))
    saved = load_run("runs/anil-glyphs")
    assert (saved.tasks.ways, saved.tasks.shots, saved.tasks.queries) == (4, 3, 2)
    assert saved.algorithm.model.out_features == 4
    assert (saved.algorithm.inner_steps, saved.algorithm.inner_lr) == (2, 0.25)


def test_a_run_on_images_is_resumed_and_other_tasks_are_refused(run):
    words = ("train", "prototypical", "--data", "glyphs", "--meta-batch", 1, "--queries", 1, "--out", "here")
    output(run(*words, "--ways", 3, "--steps", 1))
    refused(
        run(*words, "--ways", 4, "--steps", 1, "--resume"),
        "here holds a run with other settings:.*tasks.ways: 3 before, 4 now",
    )


@pytest.mark.parametrize("algorithm", ["anil", "ridge"])
def test_learners_train_on_a_folder_of_images_and_are_evaluated_on_another(algorithm, run):
    folder_of_images("mine")
    folder_of_images("other", classes=3, seed=1)
    words = ("--data", "images", "--folder", "mine", *SMALL, "--ways", 3)
    output(run("train", algorithm, *words, "--out", "here"))
    assert Path("here/episode.svg").exists()
    refused(run("evaluate", "here"), r"all classes of \S*mine are in this dataset; expected another")
    said = output(run("evaluate", "here", "--folder", "other", "--ways", 3, "--queries", 2, "--episodes", 3))
    assert "3-way 1-shot, on 3 unseen classes" in said


def test_on_a_folder_of_images_evaluation_is_that_of_the_library(run):
    folder_of_images("mine")
    folder_of_images("other", seed=1)
    words = ("--data", "images", "--folder", "mine", "--ways", 4)
    output(run("train", "matching", *words, *SMALL, "--out", "x"))
    words = ("--folder", "other", "--ways", 2, "--shots", 2, "--queries", 1, "--episodes", 5)
    said = output(run("evaluate", "x", *words))
    saved = load_run("x")
    size = saved.tasks.dataset.image_size
    unseen = mltk.data.ImageFolder("other", size).tasks(2, 2, 1)
    expected = mltk.evaluate(saved.algorithm, saved.run.meta_params, unseen, episodes=5)
    assert said.endswith(f"\n{expected}\naccuracy {expected.interval('classes')}\n")


@pytest.fixture
def omniglot(tmp_path, monkeypatch, shared_data):
    """A folder with the small part of Omniglot and, where it belongs, the background part."""
    home = tmp_path / "data"
    home.mkdir()
    shutil.copy(shared_data / "images_background_small1.zip", home)
    (home / "omniglot-background.npz").symlink_to(shared_data / "omniglot-background.npz")
    monkeypatch.setenv("MLTK_DATA", str(home))
    return home


def write_runs(path, runs):
    """Write runs of the challenge in the official form."""

    def png(image):
        content = io.BytesIO()
        Image.fromarray(image[0] == 0).convert("1").save(content, "PNG")
        return content.getvalue()

    with zipfile.ZipFile(path, "w") as archive:
        for name, support, query, labels in zip(*runs, strict=True):
            for kind, images, file in (("training", support, "class"), ("test", query, "item")):
                for number, image in enumerate(images, start=1):
                    archive.writestr(f"{name}/{kind}/{file}{number:02}.png", png(image))
            pairs = [
                f"{name}/test/item{number:02}.png {name}/training/class{label + 1:02}.png\n"
                for number, label in enumerate(labels, start=1)
            ]
            archive.writestr(f"{name}/class_labels.txt", "".join(pairs))
    return path


def test_omniglot_is_trained_on_one_part_tested_on_other_alphabets_and_put_to_the_challenge(run, omniglot):
    words = ("--data", "omniglot", "--part", "small1", *SMALL, "--ways", 4)
    output(run("train", "prototypical", *words, "--out", "metric"))
    saved = load_run("metric")
    assert saved.tasks.dataset == mltk.data.Omniglot("small1")
    said = output(run("evaluate", "metric", "--ways", 6, "--shots", 2, "--queries", 1, "--episodes", 5))
    # Of the 964 background characters, the 136 of the small part are known.
    assert "6-way 2-shot, on 828 unseen classes" in said

    runs = write_runs("runs.zip", within_alphabet_runs(mltk.data.Omniglot("small1", 105), runs=3, ways=20))
    challenge = ("--protocol", "omniglot-challenge", "--runs", runs)
    said = output(run("evaluate", "metric", *challenge))
    assert said.endswith(f"\n{omniglot_challenge(saved.algorithm, saved.run.meta_params, runs)}\n")
    assert "over 3 runs of 20 ways" in said
    scaled = mltk.toolkit.TestTimeScaler(saved.algorithm, views=mltk.data.Jitter()).at(3)
    said = output(run("evaluate", "metric", *challenge, "--views", 3))
    assert said.endswith(f"\n{omniglot_challenge(scaled, saved.run.meta_params, runs)}\n")
    assert "means over 3 views" in said
    refused(
        run("evaluate", "metric", "--protocol", "omniglot-challenge", "--runs", "none.zip"),
        r".*none\.zip is missing",
    )


@pytest.mark.parametrize("family", ["omniglot", "cifar-fs"])
def test_absent_data_is_an_error_that_names_the_command(family, run, tmp_path, monkeypatch):
    monkeypatch.setenv("MLTK_DATA", str(tmp_path / "empty"))
    result = run("train", "prototypical", "--data", family)
    assert result.exit_code == 1
    assert re.search("mltk data get (omniglot|cifar-100)", result.output)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("prototypical --data glyphs --folder .", "--folder is given, but --data is glyphs; expected"),
        ("maml --data sinusoid --folder .", "--folder is given, but --data is sinusoid"),
        ("prototypical --data images", "--data images needs --folder"),
        ("prototypical --data images --folder nowhere", r"root is \S*nowhere, which cannot be read"),
        ("maml --data omniglot --part large", "--part is 'large'; expected one of background, .*small1"),
        ("maml --data cifar-fs --part small1", "--part is 'small1'; expected one of train, validation, test"),
        ("maml --data glyphs --part small1", "--part is 'small1', but glyphs has no parts"),
        ("maml --data sinusoid --part small1", "--part is 'small1', but sinusoid has no parts"),
        ("ridge --data harmonic --ways 3", "--ways is 3, but harmonic is regression; expected no --ways"),
        ("prototypical --data glyphs --inner-lr 0.1", "--inner-lr is given, but prototypical has no inner"),
        ("ridge --data blobs --inner-steps 3", "--inner-steps is given, but ridge has no inner loop"),
        (
            "prototypical --data sinusoid",
            "prototypical is for classification, but the tasks are regression",
        ),
        ("matching --data harmonic", "matching is for classification, but the tasks .* expected ridge"),
        ("logistic --data linear-regression", "logistic is for classification, but the tasks are"),
        ("prototypical --data glyphs --ways 401", "the dataset has 400 classes; expected at least"),
        ("maml --data glyphs --shots 20", "class 'alphabet01/character01' .*has 20 images; expected"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_training(words, message, run, tmp_path):
    refused(run("train", *words.split()), message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("algorithm", "family"),
    [
        ("bayesian-ridge", "sinusoid"),
        ("ridge", "sinusoid"),
        ("ridge", "harmonic"),
        ("ridge", "linear-regression"),
    ],
)
def test_ridge_regression_learns_curves(algorithm, family, run):
    output(run("train", algorithm, "--data", family, "--steps", 2, "--out", "here"))
    assert Path("here/fits.svg").exists()
    assert "mse" in output(run("evaluate", "here", "--episodes", 3))
    # Values are no logits, which are multiplied by a scale that is learned from 10.
    assert load_run("here").run.meta_params["head"]["scale"] == pytest.approx(1, abs=0.1)
    for option in (("--ways", 3), ("--shots", 3), ("--queries", 3), ("--folder", ".")):
        refused(run("evaluate", "here", *option), ".*are for images; expected none of them")


@pytest.mark.parametrize("algorithm", EMBEDDINGS)
def test_embedding_based_learners_train_on_vectors_of_classes(algorithm, run):
    output(run("train", algorithm, "--data", "blobs", "--steps", 2, "--out", "here"))
    assert "accuracy" in output(run("evaluate", "here", "--episodes", 3))


@pytest.mark.parametrize("words", [("--runs", "runs.zip"), ("--protocol", "omniglot-challenge")])
def test_runs_and_protocol_go_together(words, run):
    result = run("evaluate", "here", *words)
    assert result.exit_code == 2
    assert "--runs" in result.output
    assert "omniglot-challenge" in result.output
    assert "Traceback" not in result.output


def test_more_ways_than_the_network_has_outputs_are_refused(run):
    output(run("train", "reptile", "--data", "glyphs", *SMALL, "--ways", 3, "--out", "here"))
    refused(
        run("evaluate", "here", "--ways", 5, "--queries", 1, "--episodes", 1),
        "the model has 3 outputs; expected at least as many as ways, 5",
    )
