"""The backends in float64, and a head on one of them: outputs and cotangents, to compare derivations."""

import numpy as np
import pytest

import mltk
from mltk import tree

BACKENDS64 = {
    "numpy": mltk.backend("numpy", dtype="float64"),
    "torch-analytic": mltk.backend("torch", dtype="float64", engine="analytic"),
    "torch-autograd": mltk.backend("torch", dtype="float64", engine="autograd"),
}
each_backend = pytest.mark.parametrize("backend", BACKENDS64.values(), ids=BACKENDS64)


def run_head(head, backend, p, support, target, query, gy, *, convert=None):
    """The outputs of a head and all cotangents by the engine of a backend, by name, in NumPy.

    Args:
        gy: The cotangent of the outputs.
        convert: From NumPy to the arrays that the engine gets, if not those of the backend.
    """
    convert = convert or backend.asarray
    arrays = (convert(array) for array in (support, target, query))
    outputs, pullback = backend.engine.head(head, tree.map(convert, p), *arrays)
    gp, g_support, g_query = pullback(convert(gy))
    found = {"outputs": outputs, "support": g_support, "query": g_query, **tree.flatten(gp)}
    return {name: np.asarray(array) for name, array in found.items()}


def learned(head, reg_lambda):
    """Parameters of a head with a regulariser: those that it learns, and not where it starts."""
    p = {"scale": 1.7, "bias": 0.3, "log_lambda": np.log(reg_lambda)}
    return {name: np.asarray(p[name]) for name in head.shapes}
