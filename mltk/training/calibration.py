"""What a run keeps beside trained meta-parameters: the statistics that calibration gives them."""

from __future__ import annotations

import numpy as np

from mltk import tree
from mltk.contracts import Backend, Learner
from mltk.data.source import TaskSource
from mltk.errors import ShapeError
from mltk.tree import Tree


def calibrated(algorithm: Learner, meta_params: Tree, tasks: TaskSource, seed: int) -> Tree:
    """Meta-parameters that are ready for prediction: the same for the same seed of training."""
    calibrate = getattr(algorithm, "calibrate", None)
    return meta_params if calibrate is None else calibrate(meta_params, tasks, seed=seed)


def beside(meta_params: Tree, calibrated: Tree, backend: Backend) -> dict[str, np.ndarray]:
    """What calibration adds to meta-parameters or changes in them; nothing if not all of it is finite."""
    before, after = tree.flatten(meta_params), tree.flatten(calibrated)
    names = [name for name in after if after[name] is not before.get(name)]
    found = {name: backend.to_numpy(after[name]) for name in names}
    return found if all(np.isfinite(leaf).all() for leaf in found.values()) else {}


def with_calibrated(meta_params: Tree, calibrated: dict[str, np.ndarray], backend: Backend) -> Tree:
    """Meta-parameters with what `beside` has found.

    Raises:
        ShapeError: If that is of another shape than the meta-parameters.
    """
    params = tree.flatten(meta_params)
    for name, leaf in calibrated.items():
        # Statistics have the shape of the parameters beside them.
        like = params.get(name, params.get(f"{name.rpartition('.')[0]}.weight"))
        if like is not None and (tuple(like.shape) != leaf.shape or leaf.dtype.kind != "f"):
            raise ShapeError(f"{name!r} is {leaf.dtype} {leaf.shape}; expected {like.dtype} {like.shape}")
    return tree.unflatten(params | {name: backend.asarray(leaf) for name, leaf in calibrated.items()})
