"""What is wrong with the arguments of mltk.Module and of the functions on modules is said."""

import numpy as np
import pytest
import torch
from small_modules import MODEL, NUMPY, X, Y, module_on

import mltk
from mltk import ops
from mltk.errors import ArrayError, DtypeError, MismatchError, MltkError, SettingError, ShapeError, TreeError
from mltk.errors import UnsupportedError as Unsupported
from mltk.models import Sequential
from mltk.modules.module import Module


def params(**changes):
    flat = {**mltk.tree.flatten(MODEL.init(NUMPY, 0)), **changes}
    return mltk.tree.unflatten({name: leaf for name, leaf in flat.items() if leaf is not None})


def normed(statistics, **settings):
    return Sequential([ops.Linear(2, 3), ops.BatchNorm(3, spatial_axes=0, statistics=statistics, **settings)])


class Callable:
    shapes = MODEL.shapes

    def apply(self, params, x):
        return x


BAD = {
    "no model": (SettingError, "model is 'mlp'", lambda: Module("mlp", params())),
    "no tree": (TreeError, "params is a list", lambda: Module(MODEL, [1])),
    "missing": (TreeError, r"'0\.bias' is missing", lambda: Module(MODEL, params(**{"0.bias": None}))),
    "too much": (TreeError, r"'7\.bias'.*not of", lambda: Module(MODEL, params(**{"7.bias": np.ones(1)}))),
    "wrong shape": (
        TreeError,
        r"'0\.bias' has shape \(4,\)",
        lambda: Module(MODEL, params(**{"0.bias": np.ones(4)})),
    ),
    "mixed dtypes": (MismatchError, "float32", lambda: Module(MODEL, params(**{"0.bias": np.ones(3, "f4")}))),
    "integers": (DtypeError, r"'0\.bias'.*int", lambda: Module(MODEL, params(**{"0.bias": np.ones(3, int)}))),
    "linked": (
        ArrayError,
        "LinkedArray",
        lambda: Module(MODEL, params(**{"0.bias": list(module_on().parameters())[1]})),
    ),
    "no backend": (SettingError, "backend is 'numpy'", lambda: Module(MODEL, params(), backend="numpy")),
    "other backend": (
        MismatchError,
        "torch",
        lambda: Module(MODEL, params(), backend=mltk.backend("torch", dtype="float64")),
    ),
    "not of operations": (Unsupported, "autograd", lambda: Module(Callable(), params())),
    "support statistics": (
        Unsupported,
        'the batch norm "1".*with_support_rows',
        lambda: Module(normed("support"), normed("support").init(NUMPY, 0)),
    ),
    "x without examples": (ShapeError, r"x has shape \(2,\)", lambda: module_on()(X[0])),
    "tasks": (ShapeError, r"x has shape \(1, 5, 2\)", lambda: module_on().grad("mse", X[None], Y[None])),
    "integer x": (DtypeError, "x has dtype int", lambda: module_on()(X.astype(int))),
    "float32 x": (MismatchError, "x holds", lambda: module_on()(X.astype("f4"))),
    "x of Torch": (MismatchError, "x holds", lambda: module_on()(torch.tensor(X))),
    "y of Torch": (MismatchError, "y holds", lambda: module_on().grad("mse", X, torch.tensor(Y))),
    "no x": (ShapeError, "empty", lambda: module_on()(X[:0])),
    "features": (ShapeError, "Linear", lambda: module_on()(X[:, :1])),
    "targets": (ShapeError, "target", lambda: module_on().grad("mse", X, Y[:2])),
    "labels": (DtypeError, "labels", lambda: module_on().grad("cross_entropy", X, Y[:, 0])),
    "loss": (SettingError, "loss is 'l1'", lambda: module_on().grad("l1", X, Y)),
    "function": (
        Unsupported,
        "loss is the function <function",
        lambda: module_on().grad(lambda a, b: a, X, Y),
    ),
    "meta loss": (SettingError, "loss is 'l1'", lambda: mltk.meta_grad(m := module_on(), "l1", X, Y, wrt=m)),
    "wrt": (SettingError, "wrt is a list", lambda: mltk.meta_grad(module_on(), "mse", X, Y, wrt=[])),
    "no module": (SettingError, "module is a list", lambda: mltk.clone_module([])),
    "updates": (SettingError, "1 entries.*4", lambda: mltk.update_module(module_on(), [None])),
    "update's shape": (
        ShapeError,
        r"'0\.weight' has shape \(1,\).*\(3, 2\)",
        lambda: mltk.update_module(module_on(), [np.ones(1), None, None, None]),
    ),
    "number": (ShapeError, r"it is 0\.5", lambda: mltk.update_module(module_on(), [0.5, None, None, None])),
    "update of Torch": (
        MismatchError,
        "updates holds.*torch",
        lambda: mltk.update_module(module_on(), [torch.ones(3, 2), None, None, None]),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_name_the_argument_what_was_found_and_what_was_expected(case):
    error, match, call = BAD[case]
    with pytest.raises(MltkError, match=match) as caught:
        call()
    assert caught.type is error
