"""Checks the losses of networks before any inner step in files of test vectors, without mltk."""

import json
import sys

import numpy as np

LAYERS = {"linear": lambda x, weight, bias: x @ weight.T + bias, "tanh": np.tanh}
cases = []
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        cases += json.load(file)["cases"]
ready = [case for case in cases if case["kind"] != "must-raise" and case["settings"].get("inner_steps") == 0]
for case in ready:
    x, p = np.array(case["inputs"]["query_x"]), case["inputs"]["params"]
    for i, layer in enumerate(case["settings"]["layers"]):
        x = LAYERS[layer["layer"]](x, *[np.array(p[name]) for name in p if name.startswith(f"{i}.")])
    loss, expected = ((x - case["inputs"]["query_y"]) ** 2).mean(), case["expected"]["loss"]
    assert abs(loss - expected) <= 64 * 2**-52 * case["condition"] * expected, case["name"]
print(f"read {len(cases)} cases, checked {len(ready)}")
