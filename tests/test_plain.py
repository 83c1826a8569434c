"""Results in the numbers and texts that JSON has."""

import json
import math
from typing import NamedTuple

import numpy as np

import mltk
from mltk.evaluation import ABTest, Entry, calibration, compare
from mltk.plain import plain

NUMPY = mltk.backend("numpy")
BLOBS = mltk.data.Blobs(ways=3, shots=1, queries=5)


class Pair(NamedTuple):
    one: object
    other: object


def test_everything_becomes_what_json_has():
    told = {
        "a": np.asarray([[1.5, np.nan]]),
        "b": (np.float64(np.inf), np.int64(3), True, None),
        "c": Pair("x", -math.inf),
    }
    wanted = {"a": [[1.5, None]], "b": [None, 3, True, None], "c": {"one": "x", "other": None}}
    assert plain(told) == wanted
    assert plain(Entry("n", 3, {})) == {"name": "n", "learner": 3, "meta_params": {}}
    assert type(plain(told)["b"][1]) is int


def test_results_are_json_whatever_is_infinite_in_them():
    learner = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
    pair = Entry("a", learner, {}), Entry("b", learner, {})
    short = ABTest(*pair, BLOBS, backend=NUMPY).run(20)
    certain = calibration(np.asarray([[[1.0, 0.0]]]), np.asarray([[1]]))
    one = mltk.evaluate(learner, {}, BLOBS, episodes=1, backend=NUMPY)
    results = [short.to_dict(), certain.to_dict(), compare(one, one).to_dict()]
    texts = [json.dumps(each, allow_nan=False) for each in results]
    assert all("null" in text for text in texts)
    assert json.loads(texts[0])["low"][0] is None
    assert json.loads(texts[0])["values"] == short.values.tolist()
