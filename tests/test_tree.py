"""Trees: the laws that hold between flattening, mapping, merging and selecting."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltk import tree
from mltk.errors import TreeError

NAMES = st.text(alphabet="abc01", min_size=1, max_size=3)
TREES = st.recursive(
    st.integers(), lambda below: st.dictionaries(NAMES, below, min_size=1, max_size=4), max_leaves=12
).filter(lambda value: isinstance(value, dict))


@settings(max_examples=50)
@given(TREES)
def test_unflatten_is_the_inverse_of_flatten(params):
    assert tree.unflatten(tree.flatten(params)) == params


@settings(max_examples=50)
@given(TREES)
def test_leaves_have_the_order_of_flatten_and_map_keeps_the_structure(params):
    assert tree.leaves(params) == list(tree.flatten(params).values())
    doubled = tree.flatten(tree.map(lambda a, b: a + b, params, params))
    assert list(doubled.items()) == [(name, 2 * leaf) for name, leaf in tree.flatten(params).items()]


@settings(max_examples=50)
@given(TREES, st.data())
def test_a_tree_is_the_merge_of_a_selection_and_the_rest(params, data):
    names = list(tree.flatten(params))
    chosen = data.draw(st.sets(st.sampled_from(names)))
    inside = tree.select(params, chosen)
    outside = tree.select(params, set(names) - chosen)
    assert set(tree.flatten(inside)) == chosen
    assert tree.merge(inside, outside) == params
    assert tree.merge(params, tree.map(lambda leaf: leaf + 1, inside)) == tree.unflatten(
        {name: leaf + (name in chosen) for name, leaf in tree.flatten(params).items()}
    )


@settings(max_examples=30)
@given(TREES)
def test_no_function_changes_its_arguments(params):
    before = copy.deepcopy(params)
    merged = tree.merge(params, tree.map(lambda leaf: leaf + 1, params))
    flat = tree.flatten(merged)
    tree.unflatten(flat)
    tree.select(params, list(flat))
    assert params == before


def test_leaves_that_the_first_tree_lacks_are_ignored():
    assert tree.map(lambda a, b: a + b, {"a": 1}, {"a": 2, "b": 3}) == {"a": 3}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"0": {"weight": np.ones(2)}}, id="leaf missing"),
        pytest.param({}, id="branch missing"),
        pytest.param({"0": np.ones(2)}, id="array for a branch"),
        pytest.param({"0": {"weight": np.ones(2), "bias": {"deep": np.ones(2)}}}, id="branch for an array"),
        pytest.param(np.ones(2), id="no tree"),
        pytest.param(None, id="nothing"),
    ],
)
def test_map_says_where_trees_differ(other):
    params = {"0": {"weight": np.ones(2), "bias": np.ones(2)}}
    with pytest.raises(TreeError, match=r"trees differ: 0"):
        tree.map(lambda a, b: a + b, params, other)


@pytest.mark.parametrize("names", [("a", "a.b"), ("a.b", "a"), ("a.b", "a.b.c")])
def test_a_name_cannot_be_a_leaf_and_a_branch(names):
    with pytest.raises(TreeError, match="a"):
        tree.unflatten(dict.fromkeys(names, 0))
