"""Sequences of clones, updates and detachments of modules: what reaches the original parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mltk import ops, tree
from mltk.backend import backend as choose_backend
from mltk.models import mlp
from mltk.modules import Module, clone_module, detach_module, meta_grad, update_module
from mltk.oracle.candidate.settings import Settings
from mltk.oracle.case import Case, Values
from mltk.oracle.computation import NUMPY, TORCH, Computation, Draw
from mltk.oracle.computations.drawing import drawn
from mltk.oracle.computations.random_learners import episode
from mltk.oracle.definitions import modules as exact
from mltk.oracle.layers import model

Program = list[list[Any]]
"""``["clone", new, of]``, ``["update", module, batch, rate, names]`` with ``None`` for all names, and
``["detach", module]``. An update follows the gradient at the parameters as they are, on a batch."""


def on_numpy(settings: Mapping[str, Any], inputs: Values) -> Values:
    """By `mltk.Module`, without autograd; tied parameters are updated alike, and their gradients added."""
    network, groups = model(settings["layers"]), _groups(settings)
    backend = choose_backend("numpy", dtype="float64", engine="analytic")
    params = {
        name: inputs["params"][groups[name][0]]
        for name in network.shapes
        if groups[name][0] in inputs["params"]
    }
    origin = Module(network, tree.unflatten(params), backend=backend)
    names, modules, loss = list(network.shapes), {"model": origin}, settings["loss"]
    for instruction, name, *arguments in settings["program"]:
        if instruction == "clone":
            modules[name] = clone_module(modules[arguments[0]])
        elif instruction == "detach":
            detach_module(modules[name], keep_requires_grad=True)
        else:
            batch, rate, moved = arguments
            x, y = inputs["support_x"][batch], inputs["support_y"][batch]
            grads = _added(groups, dict(zip(names, modules[name].grad(loss, x, y), strict=True)))
            chosen = names if moved is None else moved
            updates = [-rate * grads[groups[key][0]] if groups[key][0] in chosen else None for key in names]
            update_module(modules[name], updates)
    x, y = inputs["query_x"], inputs["query_y"]
    total = sum(_loss(modules[name](x), y, loss) for name in settings["loss_of"])
    gradients = {name: np.zeros(shape) for name, shape in network.shapes.items()}
    for each in settings["loss_of"]:
        found = meta_grad(modules[each], loss, x, y, wrt=origin)
        gradients = {name: gradients[name] + g for name, g in zip(names, found, strict=True)}
    return {"loss": np.asarray(total), "gradients": _added(groups, gradients)}


def _groups(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each parameter the names of those that it is tied to, the first of which stands for all."""
    names = model(settings["layers"]).shapes
    return {name: next((group for group in settings["tied"] if name in group), [name]) for name in names}


def _added(groups: Mapping[str, list[str]], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The sums over tied parameters, under the names of the first ones."""
    sums: dict[str, Any] = {}
    for name, array in arrays.items():
        first = groups[name][0]
        sums[first] = sums[first] + array if first in sums else array
    return sums


def _loss(outputs: np.ndarray, y: np.ndarray, loss: str) -> Any:
    value, _ = ops.loss(loss).forward({"target": y[None]}, outputs[None])
    return value[0]


def on_torch(settings: Mapping[str, Any], inputs: Values) -> Values:
    """By a `torch.nn.Module`, whose tied parameters are one, and Torch's autograd."""
    import torch

    groups, held, loss = _groups(settings), inputs["params"], Settings(settings).loss_function()
    origin = Settings(settings).module({n: held[group[0]] for n, group in groups.items() if group[0] in held})
    for name, group in groups.items():
        layer, _, key = name.rpartition(".")
        setattr(origin.get_submodule(layer), key, origin.get_parameter(group[0]))
    data = {name: torch.tensor(array) for name, array in inputs.items() if name != "params"}
    names, modules = [name for name, _ in origin.named_parameters()], {"model": origin}
    for instruction, name, *arguments in settings["program"]:
        if instruction == "clone":
            modules[name] = clone_module(modules[arguments[0]])
        elif instruction == "detach":
            detach_module(modules[name], keep_requires_grad=True)
        else:
            batch, rate, moved = arguments
            # Aliases: what an update made of one parameter may depend on another that it left as it was.
            point = {key: p.view_as(p) for key, p in modules[name].named_parameters()}
            outputs = torch.func.functional_call(modules[name], point, (data["support_x"][batch],))
            value = loss(outputs, data["support_y"][batch])
            grads = torch.autograd.grad(value, [*point.values()], create_graph=True)
            chosen = names if moved is None else moved
            updates = [-rate * g if key in chosen else None for key, g in zip(names, grads, strict=True)]
            update_module(modules[name], updates)
    x, y = data["query_x"], data["query_y"]
    total = torch.stack([loss(modules[name](x), y) for name in settings["loss_of"]]).sum()
    parameters = [*origin.parameters()]
    gradients = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    return {
        "loss": total.detach().numpy(),
        "gradients": {name: g.numpy() for name, g in zip(names, gradients, strict=True)},
    }


def random_program(draw: Draw) -> Case:
    """A program of instructions that hypothesis draws."""
    from hypothesis import strategies as st

    program: Program = [["clone", "a", "model"]]
    names = ["a"]
    length = draw(st.integers(0, 4))
    for k in range(length):
        name = draw(st.sampled_from(names))
        instruction = draw(st.sampled_from(["update", "clone", "detach"]))
        if instruction == "clone":
            new = "bcdef"[len(names) - 1]
            program.append(["clone", new, name])
            names.append(new)
        elif instruction == "detach":
            program.append(["detach", name])
        else:
            batch, rate = draw(st.integers(0, 2)), draw(st.sampled_from([0.1, 0.5]))
            last = k == length - 1  # later ones would get what flows through the parameters that moved
            moved = draw(st.sampled_from([None, ["0.weight"], ["2.weight", "2.bias"]])) if last else None
            program.append(["update", name, batch, rate, moved])
    widths = [draw(st.integers(1, 3)) for _ in range(3)]
    case = episode(
        mlp(widths, activation=draw(st.sampled_from(["tanh", "relu", "sigmoid"]))),
        tasks=3,
        shots=draw(st.integers(1, 4)),
        queries=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 1000)),
    )
    of_loss = {key: case.settings[key] for key in ("layers", "loss")}
    inputs = {key: array[0] if key.startswith("query") else array for key, array in case.inputs.items()}
    return drawn({**of_loss, "tied": [], "program": program, "loss_of": names}, inputs)


COMPUTATIONS = (
    Computation(
        "clone-update-detach",
        "Gradients through clones and differentiable updates of modules (learn2learn: Arnold et al. 2020).",
        {
            "loss": "the sum of the query losses of the modules in loss_of",
            "gradients": "its gradient for the parameters of the original module, like params",
        },
        {NUMPY: on_numpy, TORCH: on_torch},
        exact.clone_update_detach,
        random_program,
    ),
)
