"""Settings of image datasets and their tasks."""

import warnings
from dataclasses import replace

import numpy as np
from experiments import close, shows, within
from PIL import Image
from routes import NUMPY

import mltk
from mltk.data import CIFARFS, ClassPart, Glyphs, ImageFolder, ImageTasks, Jitter, Omniglot

GLYPHS = {"alphabets": 2, "characters": 4, "drawings": 4, "image_size": 16}


def glyphs(**settings):
    return Glyphs(**GLYPHS | settings)


@shows(Glyphs, of="alphabets")
@shows(Glyphs, of="characters")
@shows(Glyphs, of="drawings")
@shows(Glyphs, of="image_size")
def how_many_drawings_of_what(kind):
    whole = glyphs()
    assert (len(set(whole.group_names)), whole.n_classes) == (2, 8)
    assert whole.images.shape == (32, 1, 16, 16)
    for name, shape in (
        ("alphabets", (48, 1, 16, 16)),
        ("characters", (40, 1, 16, 16)),
        ("drawings", (24, 1, 16, 16)),
        ("image_size", (32, 1, 20, 20)),
    ):
        value = {"alphabets": 3, "characters": 5, "drawings": 3, "image_size": 20}[name]
        assert glyphs(**{name: value}).images.shape == shape
    assert len(glyphs(alphabets=3).group_names) == 3


@shows(Glyphs, of="seed")
def other_alphabets(kind):
    assert (glyphs(seed=1).images != glyphs().images).any(axis=(1, 2, 3)).all()


@shows(Glyphs, of="difficulty")
def the_hand_is_unsteady(kind):
    unlike = []
    for difficulty in (0.0, 1.0):
        images = glyphs(difficulty=difficulty).images.reshape(8, 4, -1)
        unlike.append(images.std(axis=1).mean())
    assert unlike[1] > 1.2 * unlike[0]


@shows(Jitter, of="rotation")
@shows(Jitter, of="scale")
@shows(Jitter, of="shear")
@shows(Jitter, of="translation")
def the_largest_distortion_of_each_kind(kind):
    none = {"rotation": 0.0, "scale": 0.0, "shear": 0.0, "translation": 0.0}

    def maps(**settings):
        return kind(**none | settings).maps(4000, np.random.default_rng(0))

    matrices, moves = maps()
    close(matrices, np.broadcast_to(np.eye(2), (4000, 2, 2)))
    assert not moves.any()
    turned, _ = maps(rotation=30.0)
    within(np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0])), -30, 30)
    stretched, _ = maps(scale=0.4)
    for axis in (0, 1):
        within(np.log(stretched[:, axis, axis]), -0.4, 0.4)
    sheared, _ = maps(shear=0.3)
    within(sheared[:, 0, 1], -0.3, 0.3)
    within(sheared[:, 1, 0], -0.3, 0.3)
    within(maps(translation=5.0)[1], -5, 5)


def drawn(source, count):
    return source.sample(count, 0, NUMPY)


def tasks(**settings):
    return ImageTasks(**{"dataset": glyphs(), "ways": 3, "shots": 1, "queries": 2} | settings)


@shows(ImageTasks, of="ways")
@shows(ImageTasks, of="shots")
@shows(ImageTasks, of="queries")
def classes_and_images_of_each(kind):
    for ways, shots, queries in ((2, 1, 3), (4, 2, 1)):
        episode = drawn(tasks(ways=ways, shots=shots, queries=queries), 5)
        assert episode.ways == ways
        for y, each in ((episode.support_y, shots), (episode.query_y, queries)):
            np.testing.assert_array_equal(np.sort(y), np.repeat(np.arange(ways), each)[None].repeat(5, 0))


@shows(ImageTasks, of="dataset")
def whose_images(kind):
    for dataset in (glyphs(), glyphs(seed=1)):
        episode = drawn(tasks(dataset=dataset), 3)
        held = {image.tobytes() for image in dataset.images.astype(np.float64)}
        assert all(image.tobytes() in held for image in episode.support_x.reshape(-1, 1, 16, 16))


@shows(ClassPart, of="dataset")
@shows(ClassPart, of="share")
@shows(ClassPart, of="kept_back")
@shows(ClassPart, of="seed")
def classes_are_kept_back(kind):
    whole = glyphs(alphabets=6, characters=3)
    for share, groups in ((0.5, 3), (1 / 3, 2)):
        part = ClassPart(whole, share=share)
        assert part.other == ClassPart(whole, share=share, kept_back=True)
        assert len(part.other.group_names) == groups
        assert set(part.other.group_names) | set(part.group_names) == set(whole.group_names)
        assert not set(part.other.group_names) & set(part.group_names)
        for each in (part, part.other):
            place = [whole.class_names.index(name) for name in each.class_names]
            expected = whole.images.reshape(18, 4, 1, 16, 16)[place].reshape(-1, 1, 16, 16)
            np.testing.assert_array_equal(each.images, expected)
            np.testing.assert_array_equal(each.take(np.arange(len(expected))), expected)
            turned = each.take(len(expected) + np.arange(len(expected)), rotations=True)
            np.testing.assert_array_equal(turned, np.rot90(expected, 1, (-2, -1)))
            assert each.class_digests == tuple(whole.class_digests[p] for p in place)
            assert each.held_out() == whole.held_out()
    assert len({ClassPart(whole, seed=seed).class_names for seed in range(6)}) > 1
    few = ClassPart(glyphs(characters=5), share=0.2)  # two groups: classes are dealt out one by one
    assert few.other.n_classes == 2
    arrays = mltk.data.Arrays(np.eye(8), np.arange(8) // 2)  # which hold nothing out themselves
    part = ClassPart(arrays, share=0.5)
    assert part.held_out() == part.other
    both = np.concatenate([part.take(np.arange(4)), part.other.take(np.arange(4))])
    np.testing.assert_array_equal(np.sort(both.argmax(axis=1)), np.arange(8))


@shows(ImageTasks, of="within")
def classes_of_one_group(kind):
    for given in ("alphabet", None):
        groups = drawn(tasks(within=given), 50).groups
        assert (groups == groups[:, :1]).all() == (given is not None)


@shows(ImageTasks, of="rotations")
def each_class_counts_as_four(kind):
    for turns in (True, False):
        source = tasks(rotations=turns)
        assert len(source.class_names) == (32 if turns else 8)
        episode = drawn(source, 30)
        assert (episode.classes.max() >= 8) == turns
        upright = glyphs().images.astype(np.float64).reshape(8, 4, 1, 16, 16)
        for image, label in zip(episode.support_x[0], episode.classes[0], strict=True):
            quarter, own = divmod(int(label), 8)
            assert any((np.rot90(one, quarter, (-2, -1)) == image).all() for one in upright[own]) or any(
                (np.rot90(one, -quarter, (-2, -1)) == image).all() for one in upright[own]
            )


@shows(ImageTasks, of="jitter")
def support_and_queries_are_distorted(kind):
    plain = drawn(tasks(), 4)
    still = drawn(tasks(jitter=Jitter(rotation=0.0, scale=0.0, shear=0.0, translation=0.0)), 4)
    moved = drawn(tasks(jitter=Jitter()), 4)
    for name in ("support_x", "query_x"):
        x, same, other = (getattr(episode, name) for episode in (plain, still, moved))
        np.testing.assert_allclose(same, x, atol=1e-6)
        assert (np.abs(other - x).max(axis=(2, 3, 4)) > 0.1).all()


def folder(path, sizes=(("a", 3), ("b", 2)), image=None):
    for name, count in sizes:
        (path / name).mkdir()
        for number in range(count):
            (image or Image.new("RGB", (9, 9), (255, 0, 0))).save(path / name / f"{number}.png")
    return path


@shows(ImageFolder, of="root")
@shows(ImageFolder, of="image_size")
@shows(ImageFolder, of="channels")
@shows(ImageFolder, of="classes")
def whose_images_in_which_form(kind, tmp_path):
    root = folder(tmp_path)
    assert kind(root, 8).images.shape == (5, 3, 8, 8)
    assert kind(root, 6, channels=1).images.shape == (5, 1, 6, 6)
    assert kind(root, 8).class_names == ("a", "b")
    assert kind(root, 8, classes=("b",)).class_names == ("b",)
    assert kind(root / "..", 8, classes=(root.name,)).images.shape[0] == 5
    assert kind(root, 8, classes=("b",)).images.shape == (2, 3, 8, 8)


@shows(ImageFolder, of="white")
def what_white_is(kind, tmp_path):
    grey = Image.fromarray(np.full((9, 9), 500, np.uint16))
    root = folder(tmp_path, image=grey)
    for white, expected in ((1000.0, 0.5), (500.0, 1.0), (None, 500 / 1023)):
        np.testing.assert_allclose(kind(root, 4, white=white).images, expected, atol=1 / 255)


@shows(ImageFolder, of="at_least")
def small_classes_are_left_out(kind, tmp_path):
    root = folder(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mltk.data.SmallClassWarning)
        assert kind(root, 4, at_least=3).class_names == ("a",)
        assert kind(root, 4, at_least=3).left_out == (("b", 2),)
    assert kind(root, 4, at_least=2).class_names == ("a", "b")


@shows(CIFARFS, of="split")
@shows(CIFARFS, of="image_size")
def which_classes_at_which_size(kind, cifar_home):
    for split, classes in (("train", 64), ("validation", 16), ("test", 20)):
        assert kind(split).n_classes == classes
    assert kind("test", 16).images.shape[1:] == (3, 16, 16)
    half = kind("test").images.reshape(-1, 3, 16, 2, 16, 2).mean((3, 5))
    np.testing.assert_allclose(kind("test", 16).images, half, atol=1 / 255)


@shows(Omniglot, of="part")
@shows(Omniglot, of="image_size")
@shows(Omniglot, of="alphabets")
@shows(Omniglot, of="split")
def which_characters_at_which_size(kind, shared_data, monkeypatch):
    monkeypatch.setenv("MLTK_DATA", str(shared_data))
    assert kind().n_classes == 964
    assert kind("small1").n_classes == 136
    assert kind(split="background-train").n_classes == 792
    greek = kind("small1", 14, alphabets=("Early_Aramaic",))
    assert set(greek.group_names) == {"Early_Aramaic"}
    assert greek.images.shape[1:] == (1, 14, 14)
    assert replace(greek, image_size=28).images.shape[1:] == (1, 28, 28)
