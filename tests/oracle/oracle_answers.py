"""What implementations with a mistake, or with edited gradients, answer in the generic cases."""

import numpy as np

from mltk.oracle import vectors

DOUBLE = np.dtype(np.float64)


def generic(name):
    return [case for case in vectors.stored(name) if case.kind == "valid"]


def scaled(outputs, factor):
    return {
        key: {name: factor * g for name, g in value.items()} if isinstance(value, dict) else factor * value
        for key, value in outputs.items()
    }


def answers(way, name, *, number=None, factor=None):
    """What an implementation with a mistake returns in the generic cases."""
    results = []
    for case in generic(name):
        extra = () if number is None else (number,)
        outputs = way.outputs(case.settings, case.inputs, *extra)
        outputs = case.expected if outputs is None else outputs
        results.append((case, scaled(outputs, factor(case.settings, case.inputs) if factor else 1.0)))
    return results


def edited(edit):
    """The right answers of MAML but for what becomes of each gradient."""
    return [
        (case, {**case.expected, "gradients": {n: edit(n, g) for n, g in case.expected["gradients"].items()}})
        for case in generic("maml")
    ]


def single(value):
    """Floating numbers, in arrays or in dicts of them, rounded to single precision."""
    if isinstance(value, dict):
        return {name: single(each) for name, each in value.items()}
    value = np.asarray(value)
    return value.astype(np.float32).astype(np.float64) if value.dtype.kind == "f" else value
