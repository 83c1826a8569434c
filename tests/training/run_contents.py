"""What a run folder holds, to compare runs."""

import json

import numpy as np


def contents(folder):
    """Everything in a run folder that does not depend on the wall clock."""
    with np.load(folder / "checkpoint.npz") as arrays:
        state = {name: arrays[name] for name in arrays.files}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert line.pop("seconds") >= 0
    return state, lines, (folder / "config.toml").read_text()


def assert_same_run(found, expected):
    (found_state, *found_text), (state, *text) = contents(found), contents(expected)
    assert found_text == text
    assert found_state.keys() == state.keys()
    for name, leaf in state.items():
        np.testing.assert_array_equal(found_state[name], leaf, err_msg=name, strict=True)
