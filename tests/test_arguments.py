"""What is passed is checked: labels are those of the classes, numbers are finite."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mltk
from mltk.arguments import check_support_labels
from mltk.errors import LabelError, NotFiniteError


@settings(max_examples=200)
@given(
    labels=st.integers(1, 4).flatmap(
        lambda tasks: st.lists(
            st.lists(st.integers(-2, 6), min_size=1, max_size=6), min_size=tasks, max_size=tasks
        )
    ),
    ways=st.none() | st.integers(1, 8),
    dtype=st.sampled_from(["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]),
)
def test_labels_pass_if_each_task_has_exactly_the_classes(labels, ways, dtype):
    examples = min(len(task) for task in labels)
    labels = [task[:examples] for task in labels]
    if dtype.startswith("u"):
        labels = [[abs(label) for label in task] for task in labels]
    wanted = ways if ways is not None else max(max(map(max, labels)), 0) + 1
    array = np.array(labels, dtype)
    if all(set(task) == set(range(wanted)) for task in labels):
        assert check_support_labels("y", array, ways) == wanted
    else:
        with pytest.raises(LabelError):
            check_support_labels("y", array, ways)


def test_an_absurd_label_takes_no_memory():
    for label in (2**62, 2**63 - 1):
        with pytest.raises(LabelError, match="has no example of class 1"):
            check_support_labels("y", np.array([[0, label]]), None)
        with pytest.raises(LabelError, match="holds the label"):
            check_support_labels("y", np.array([[0, label]]), 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y, ways: mltk.matching_loss(x, y, x, y, ways=ways),
        lambda x, y, ways: mltk.heads.matching_log_probabilities(x, y, x, ways=ways),
        lambda x, y, ways: mltk.ridge_regression(x, y, 0.1, ways=ways),
    ],
    ids=["matching_loss", "matching_log_probabilities", "ridge_regression"],
)
def test_public_functions_of_heads_refuse_labels(backend64, call):
    x = backend64.asarray(np.random.default_rng(0).normal(size=(1, 3, 2)))
    call(x, backend64.asarray(np.array([[0, 2, 1]])), None)
    for labels, ways, message in (
        ([[0, 2, 2]], None, "has no example of class 1"),
        ([[0, 1, 1]], 3, "has no example of class 2"),
        ([[0, 1, 3]], 3, "holds the label 3"),
        ([[0, 1, -1]], 3, "holds the label -1"),
        ([[0, 1, -1]], None, "holds the label -1"),
    ):
        with pytest.raises(LabelError, match=message):
            call(x, backend64.asarray(np.array(labels)), ways)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_are_finite_where_their_sum_is_not_and_infinities_do_not_cancel(library, dtype):
    backend = mltk.backend(library, dtype=dtype)
    large = np.full((1, 3, 2), 0.9 * np.finfo(dtype).max)
    y = np.zeros((1, 3, 1))

    def episode(x):
        x, targets = backend.asarray(x), backend.asarray(y)
        return mltk.Episode(x, targets, x, targets)

    episode(large).validate()
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(NotFiniteError, match="support_x holds NaN or infinity"):
            episode(np.concatenate([large[:, :2], np.full((1, 1, 2), bad)], axis=1)).validate()
    with pytest.raises(NotFiniteError):
        episode(np.array([[[np.inf, -np.inf]] * 3])).validate()
