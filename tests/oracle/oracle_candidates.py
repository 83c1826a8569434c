"""Candidates for the oracle's tests: right ones, and such as fail in every way."""

import os
import sys
import time

import numpy as np

import mltk
from mltk import tree
from mltk.oracle import layers


def right(params, data, settings):
    """MAML by mltk on NumPy, also from JAX's arrays."""
    dtype = str(np.asarray(data.support_x).dtype)
    numpy = mltk.backend("numpy", dtype=dtype)
    arrays = [np.asarray(a) for a in (data.support_x, data.support_y, data.query_x, data.query_y)]
    learner = mltk.algorithms.MAML(
        layers.model(settings["layers"]),
        settings.loss,
        inner_lr=settings.inner_lr,
        inner_steps=settings.inner_steps,
        first_order=settings.first_order,
    )
    episode = mltk.Episode(*arrays, ways=settings.ways, backend=numpy).validate()
    copies = {name: np.array(value) for name, value in params.items()}
    loss, grads = learner.value_and_grad(tree.unflatten(copies), episode)
    return loss, tree.flatten(grads)


def torch_maml(params, data, settings, create_graph=True):
    """MAML in plain Torch, one task after the other."""
    import torch
    from torch.func import functional_call

    module, loss = settings.module(params), settings.loss_function()
    start = dict(module.named_parameters())
    total = 0.0
    for support_x, support_y, query_x, query_y in zip(
        data.support_x, data.support_y, data.query_x, data.query_y, strict=True
    ):
        fast = start
        for _ in range(settings.inner_steps):
            value = loss(functional_call(module, fast, (support_x,)), support_y)
            grads = torch.autograd.grad(value, list(fast.values()), create_graph=create_graph)
            fast = {n: p - settings.inner_lr * g for (n, p), g in zip(fast.items(), grads, strict=True)}
        total = total + loss(functional_call(module, fast, (query_x,)), query_y) / len(data.support_x)
    grads = torch.autograd.grad(total, list(start.values()))
    return total, dict(zip(start, grads, strict=True))


def torch_first_order(params, data, settings):
    return torch_maml(params, data, settings, create_graph=False)


def plain_reptile(params, data, settings):
    """Reptile with Torch's SGD, which steps by the difference of the weights."""
    import torch

    if settings.inner_batch:
        raise NotImplementedError("only whole support sets")
    loss, losses, steps = settings.loss_function(), [], dict.fromkeys(params, 0)
    for support_x, support_y, query_x, query_y in zip(
        data.support_x, data.support_y, data.query_x, data.query_y, strict=True
    ):
        module = settings.module(params)
        optimizer = torch.optim.SGD(module.parameters(), lr=settings.inner_lr)
        for _ in range(settings.inner_steps):
            optimizer.zero_grad()
            loss(module(support_x), support_y).backward()
            optimizer.step()
        losses.append(loss(module(query_x), query_y).detach())
        ends = dict(module.named_parameters())
        steps = {name: steps[name] + params[name] - end.detach() for name, end in ends.items()}
    tasks = len(losses)
    return sum(losses) / tasks, {name: step / settings.inner_lr / tasks for name, step in steps.items()}


def loss_alone(params, data, settings):
    return right(params, data, settings)[0]


def as_list(params, data, settings):
    return list(right(params, data, settings))


def as_dict(params, data, settings):
    return dict(zip(("loss", "gradients"), right(params, data, settings), strict=True))


def double_loss(params, data, settings):
    loss, grads = right(params, data, settings)
    return 2 * loss, grads


def wrong_with_three_steps(params, data, settings):
    """Wrong in a single kind of case."""
    loss, grads = right(params, data, settings)
    return (2 * loss if settings.inner_steps == 3 else loss), grads


def hangs(params, data, settings):
    time.sleep(3600)


def hangs_with_a_child(params, data, settings):
    import subprocess

    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    with open(os.environ["CHILD"], "w") as file:
        file.write(str(child.pid))
    time.sleep(3600)


def exits(params, data, settings):
    print("the last words")
    sys.stdout.flush()
    os._exit(7)


def exits_in_second_case(params, data, settings):
    if settings.inner_steps == 2:
        os._exit(7)
    return right(params, data, settings)


def aborts(params, data, settings):
    os.abort()


def raises(params, data, settings):
    raise ValueError("a clear reason")


def raises_oddly(params, data, settings):
    class OddError(Exception):
        def __str__(self):
            raise RuntimeError

    raise OddError


def leaves(params, data, settings):
    sys.exit("no more")


def interrupts(params, data, settings):
    raise KeyboardInterrupt


def unsupported(params, data, settings):
    raise NotImplementedError("only by hand")


def unsupported_in_part(params, data, settings):
    if settings.inner_steps == 2:
        raise NotImplementedError("two steps are too many")
    return right(params, data, settings)


def nan(params, data, settings):
    loss, grads = right(params, data, settings)
    return loss, {name: g * np.nan for name, g in grads.items()}


def infinite_loss(params, data, settings):
    return np.inf, right(params, data, settings)[1]


def wrong_shapes(params, data, settings):
    loss, grads = right(params, data, settings)
    return loss, {name: g[None] for name, g in grads.items()}


def huge(params, data, settings):
    """4 TB, if anybody looked at the numbers."""
    return np.broadcast_to(np.float64(1), (1_000_000, 500_000)), right(params, data, settings)[1]


def wrong_names(params, data, settings):
    loss, grads = right(params, data, settings)
    return loss, {name.replace("weight", "kernel"): g for name, g in grads.items()}


def wrong_outputs(params, data, settings):
    return {"value": right(params, data, settings)[0]}


def single_precision(params, data, settings):
    loss, grads = right(params, data, settings)
    return loss, {name: g.astype(np.float32) for name, g in grads.items()}


def gradients_as_tuple(params, data, settings):
    loss, grads = right(params, data, settings)
    return loss, tuple(grads.values())


def gradient_missing(params, data, settings):
    loss, grads = right(params, data, settings)
    return loss, {**grads, "0.weight": None}


def triple(params, data, settings):
    return (*right(params, data, settings), "more")


def nothing(params, data, settings):
    right(params, data, settings)


def as_text(params, data, settings):
    return "0.5"


def changes_params(params, data, settings):
    outcome = right(params, data, settings)
    params["0.weight"] += 1
    return outcome


def replaces_params(params, data, settings):
    outcome = right(params, data, settings)
    params["0.bias"] = params["0.bias"] * 2
    del params["0.weight"]
    return outcome


def changes_data(params, data, settings):
    outcome = right(params, data, settings)
    data.query_x[:] = 0
    return outcome


STATE = {}


def drifts(params, data, settings):
    """What it returns grows from call to call."""
    STATE["calls"] = STATE.get("calls", 0) + 1
    loss, grads = right(params, data, settings)
    return loss * (1 + STATE["calls"] / 1000), grads


def keeps_the_first(params, data, settings):
    """The parameters of the first call, wherever they fit."""
    first = STATE.setdefault("params", {name: value.copy() for name, value in params.items()})
    fitting = all(first.get(name, value).shape == value.shape for name, value in params.items())
    return right(first if fitting and first.keys() == params.keys() else params, data, settings)


def prints(params, data, settings):
    print('{"id": 1, "outputs": null}' * 1000)
    os.write(1, b"\x00{}\n" * 1000)
    os.write(2, b"not text \xff\n")
    sys.stdin.read()
    os.system("echo from a child")
    return right(params, data, settings)


def changes_folder(params, data, settings):
    os.chdir("/")
    return right(params, data, settings)


not_a_function = 3
