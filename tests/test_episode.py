"""Episodes: what is accepted, and what is refused before any work is done."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import NUMPY

import mltk
from mltk.episode import joined
from mltk.errors import (
    ArrayError,
    DtypeError,
    LabelError,
    MismatchError,
    NotFiniteError,
    SettingError,
    ShapeError,
)

NAMES = ("support_x", "support_y", "query_x", "query_y")


def arrays(backend, *, tasks=2, shots=3, queries=4, features=(5,), ways=None):
    """The four arrays of a valid episode."""
    rng = np.random.default_rng(0)
    found = {}
    for part, examples in (("support", shots * (ways or 1)), ("query", queries)):
        found[f"{part}_x"] = rng.normal(size=(tasks, examples, *features))
        found[f"{part}_y"] = (
            rng.normal(size=(tasks, examples, 2))
            if ways is None
            else np.tile(np.arange(examples) % ways, (tasks, 1))
        )
    return {name: backend.asarray(found[name]) for name in NAMES}


@settings(max_examples=25)
@given(
    tasks=st.integers(1, 4),
    shots=st.integers(1, 4),
    queries=st.integers(1, 4),
    features=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    ways=st.none() | st.integers(1, 4),
)
def test_every_episode_that_fits_is_accepted(tasks, shots, queries, features, ways):
    for backend in (NUMPY, mltk.backend("torch")):
        found = arrays(backend, tasks=tasks, shots=shots, queries=queries, features=features, ways=ways)
        episode = mltk.Episode(**found, ways=ways)
        assert episode.backend == mltk.backend_of(found["support_x"])
        assert episode.validate() is episode


def test_a_given_backend_is_kept(backend64):
    assert mltk.Episode(**arrays(backend64), backend=backend64).backend is backend64


WRONG_SHAPES = [
    pytest.param(None, {"support_x": (2, 3)}, "support_x has shape (2, 3)", id="no features"),
    pytest.param(None, {"query_x": (4,)}, "query_x has shape (4,)", id="one axis"),
    pytest.param(None, {"query_x": ()}, "query_x has shape ()", id="no axis"),
    pytest.param(None, {"support_y": (2, 3)}, "support_y has shape (2, 3)", id="targets without axis"),
    pytest.param(None, {"query_y": (2, 5, 2)}, "query_y has shape (2, 5, 2)", id="more targets than inputs"),
    pytest.param(None, {"query_y": (1, 4, 2)}, "query_y has shape (1, 4, 2)", id="fewer tasks of targets"),
    pytest.param(None, {"query_x": (3, 4, 5), "query_y": (3, 4, 2)}, "query_x has 3 tasks", id="tasks"),
    pytest.param(None, {"query_x": (2, 4, 6)}, "query_x has examples of shape (6,)", id="features"),
    pytest.param(None, {"query_y": (2, 4, 1)}, "query_y has examples of shape (1,)", id="target width"),
    pytest.param(None, {"support_x": (2, 0, 5), "support_y": (2, 0, 2)}, "not empty", id="empty support"),
    pytest.param(None, {"query_x": (2, 0, 5), "query_y": (2, 0, 2)}, "not empty", id="empty query"),
    pytest.param(
        None, {name: (0, 3, 5 if name[-1] == "x" else 2) for name in NAMES}, "not empty", id="no tasks"
    ),
    pytest.param(None, {"support_y": (2, 3, 0)}, "support_y has shape (2, 3, 0)", id="targets of width 0"),
    pytest.param(3, {"support_y": (2, 9, 1)}, "support_y has shape (2, 9, 1)", id="one-hot labels"),
    pytest.param(3, {"query_y": (2, 3)}, "query_y has shape (2, 3)", id="fewer labels than inputs"),
]


@pytest.mark.parametrize(("ways", "shapes", "message"), WRONG_SHAPES)
def test_wrong_shapes_are_named(backend64, ways, shapes, message):
    found = arrays(backend64, ways=ways)
    for name, shape in shapes.items():
        dtype = np.int64 if ways is not None and name.endswith("_y") else np.float64
        found[name] = backend64.asarray(np.zeros(shape, dtype))
    with pytest.raises(ShapeError) as raised:
        mltk.Episode(**found, ways=ways)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("ways", "name", "dtype"),
    [
        (None, "support_x", np.int64),
        (None, "query_x", np.uint8),
        (None, "query_x", np.bool_),
        (None, "query_x", np.complex128),
        (None, "support_y", np.int64),
        (3, "support_x", np.uint8),
        (3, "support_y", np.float64),
        (3, "query_y", np.bool_),
    ],
)
def test_wrong_kinds_of_numbers_are_named(backend64, ways, name, dtype):
    found = arrays(backend64, ways=ways)
    found[name] = backend64.asarray(np.ones(tuple(found[name].shape), dtype))
    with pytest.raises(DtypeError, match=f"{name} has dtype .*{np.dtype(dtype).name}"):
        mltk.Episode(**found, ways=ways)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, [[[1.0]]], "array", 3.0], ids=["None", "list", "text", "number"])
@pytest.mark.parametrize("given", [True, False], ids=["backend", "no backend"])
def test_what_is_no_array_is_named(name, value, given):
    found = {**arrays(NUMPY), name: value}
    with pytest.raises(ArrayError, match=f"{name} holds a {type(value).__name__}"):
        mltk.Episode(**found, backend=NUMPY if given else None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("other", "options"),
    [("torch", {"dtype": "float64"}), ("numpy", {"dtype": "float32"})],
    ids=["backend", "dtype"],
)
def test_a_mixture_names_both_sides(name, other, options):
    other = mltk.backend(other, **options)
    found = arrays(NUMPY)
    found[name] = other.asarray(found[name])
    with pytest.raises(MismatchError) as raised:
        mltk.Episode(**found)
    for side in (NUMPY, other):
        assert f"{side.name} {side.dtype} on cpu" in str(raised.value)
    with pytest.raises(MismatchError, match=f"{name} holds an array of {other.name} {other.dtype} on cpu"):
        mltk.Episode(**found, backend=NUMPY)


def test_a_mixture_of_devices_names_both():
    cpu, meta = (mltk.backend("torch", device=device) for device in ("cpu", "meta"))
    found = arrays(cpu) | {"query_y": arrays(meta)["query_y"]}
    with pytest.raises(MismatchError, match=r"query_y .* on meta; expected .* on cpu"):
        mltk.Episode(**found)


@pytest.mark.parametrize("ways", [0, -3, 2.0, "5", True])
def test_ways_is_a_positive_integer(ways):
    with pytest.raises(SettingError, match="ways is"):
        mltk.Episode(**arrays(NUMPY, ways=3), ways=ways)


def test_a_name_is_no_backend():
    with pytest.raises(SettingError, match="backend is 'numpy'"):
        mltk.Episode(**arrays(NUMPY), backend="numpy")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_validate_finds_what_is_not_finite(backend64, name, value):
    found = arrays(backend64)
    found[name][1, 2, 0] = value
    episode = mltk.Episode(**found)
    with pytest.raises(NotFiniteError, match=f"{name} holds NaN or infinity"):
        episode.validate()


@pytest.mark.parametrize("label", [-1, 3, 100])
@pytest.mark.parametrize("name", ["support_y", "query_y"])
def test_validate_finds_labels_outside(backend64, name, label):
    found = arrays(backend64, ways=3)
    found[name][1, 2] = label
    episode = mltk.Episode(**found, ways=3)
    with pytest.raises(LabelError, match=rf"{name} holds the label {label}; expected 0\.\.2"):
        episode.validate()


def test_validate_finds_a_class_without_support(backend64):
    found = arrays(backend64, ways=3)
    found["support_y"][1] = backend64.xp.where(found["support_y"][1] == 2, 0, found["support_y"][1])
    episode = mltk.Episode(**found, ways=3)
    with pytest.raises(LabelError, match="support_y of task 1 has no example of class 2"):
        episode.validate()


def test_classes_without_queries_are_fine(backend64):
    found = arrays(backend64, ways=3)
    found["query_y"][:] = 1
    mltk.Episode(**found, ways=3).validate()


def named(backend, *, tasks=3, ways=3):
    """An episode that says what its classes and groups are."""
    classes = np.arange(tasks * ways).reshape(tasks, ways)
    found = arrays(backend, tasks=tasks, ways=ways)
    return mltk.Episode(**found, ways=ways, backend=backend, classes=classes, groups=classes // 2)


def assert_same(found, expected):
    assert (found.ways, found.backend) == (expected.ways, expected.backend)
    for name in (*NAMES, "classes", "groups"):
        np.testing.assert_array_equal(
            *(np.asarray(getattr(episode, name)) for episode in (found, expected)), strict=True
        )


def test_classes_and_groups_go_wherever_the_tasks_go(backend64):
    episode = named(backend64)
    parts = [episode.take(slice(0, 1)), episode.take(slice(1, 3))]
    assert [part.classes.tolist() for part in parts] == [[[0, 1, 2]], [[3, 4, 5], [6, 7, 8]]]
    assert [part.groups.tolist() for part in parts] == [[[0, 0, 1]], [[1, 2, 2], [3, 3, 4]]]
    assert_same(joined(parts), episode)
    assert_same(episode.to(NUMPY).to(backend64), episode)
    assert_same(replace(episode), episode)


def test_what_one_episode_does_not_say_their_union_does_not_say():
    episode = named(NUMPY)
    both = joined([episode, replace(episode, groups=None)])
    assert both.groups is None
    assert both.classes.shape == (6, 3)


def test_episodes_of_different_ways_are_not_joined_though_their_shapes_agree():
    episode = mltk.Episode(**arrays(NUMPY, ways=2, shots=6, queries=4), ways=2)
    other = mltk.Episode(**arrays(NUMPY, ways=4, shots=3, queries=4), ways=4)
    with pytest.raises(ShapeError, match="expected one form"):
        joined([episode, other])


@pytest.mark.parametrize("name", ["classes", "groups"])
@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        ([[0, 1, 2]] * 2, ArrayError, "holds a list; expected a NumPy array"),
        (np.zeros((2, 3)), DtypeError, "has dtype float64; expected integers"),
        (np.zeros((2, 3), bool), DtypeError, "has dtype bool"),
        (np.zeros((3, 3), int), ShapeError, r"has shape \(3, 3\); expected \(T, ways\) = \(2, 3\)"),
        (np.zeros(3, int), ShapeError, r"has shape \(3,\)"),
        (np.asarray([[0, 1, 2], [3, -4, 5]]), LabelError, "holds -4"),
    ],
)
def test_what_is_said_of_classes_is_checked(name, numbers, error, message):
    with pytest.raises(error, match=f"{name} {message}"):
        mltk.Episode(**arrays(NUMPY, ways=3), ways=3, **{name: numbers})


def test_regression_has_no_classes():
    with pytest.raises(SettingError, match="classes is given, but ways is None"):
        mltk.Episode(**arrays(NUMPY), classes=np.zeros((2, 1), int))
