"""Clone, update and a MAML step of Torch modules with few and many tensors, by mltk and by its peers.

A network of 4, 50 or 500 tensors is small, so that what is timed is the bookkeeping of each way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mltk.benchmark import report
from mltk.benchmark.cases import SEED, Aim
from mltk.benchmark.timing import TOLERANCE, Row, relative_error, time_in_turn
from mltk.errors import MissingLibraryError
from mltk.installation import install_hint
from mltk.modules.functions import clone_module, update_module

TENSORS = (4, 50, 500)
WIDTH = 4
LR = 0.1
BOOKKEEPING = "functional_call - forward"
"""The row of what `torch.func.functional_call` costs beyond the forward pass that it calls."""

AIMS = {
    "clone": tuple(Aim("mltk", peer, 1) for peer in ("deepcopy", "learn2learn")),
    "clone and update": tuple(
        Aim("mltk", peer, 1) for peer in (BOOKKEEPING, "higher", "torchopt", "learn2learn")
    ),
    "MAML step": tuple(Aim("mltk", peer, 1) for peer in ("torch-func", "higher", "torchopt", "learn2learn")),
}
Calls = dict[str, Callable[[], Any]]


def network(tensors: int) -> Any:
    """A `torch.nn.Module` of so many tensors: residual layers, whose gradients do not vanish."""
    import torch

    class Residual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(tensors // 2))

        def forward(self, x: Any) -> Any:
            for layer in self.layers:
                x = x + 0.1 * torch.tanh(layer(x))
            return x

    torch.manual_seed(SEED)
    return Residual()


def clones(module: Any) -> Calls:
    """Who copies a module, and the call that gives its copy."""
    found: Calls = {"mltk": lambda: clone_module(module), "deepcopy": lambda: copy.deepcopy(module)}
    if learn2learn := _library("learn2learn"):
        found["learn2learn"] = lambda: learn2learn.clone_module(module)
    return found


def updates(module: Any, addends: Sequence[Any]) -> Calls:
    """Who copies a module and adds something to its parameters, and the call that gives the new module.

    For ``higher`` and ``torchopt`` these are the steps that their optimisers take around the gradient.
    """
    found: Calls = {"mltk": lambda: update_module(clone_module(module), addends)}
    if higher := _library("higher"):

        def by_higher() -> Any:
            fast = higher.monkeypatch(module, copy_initial_weights=False)
            fast.update_params([p + u for p, u in zip(fast.parameters(), addends, strict=True)])
            return fast

        found["higher"] = by_higher
    if torchopt := _library("torchopt"):

        def by_torchopt() -> Any:
            fast = torchopt.module_clone(module, by="copy")
            new = iter(torchopt.apply_updates(tuple(fast.parameters()), tuple(addends), inplace=False))
            for part in fast.modules():
                part._parameters.update(zip(part._parameters, new, strict=False))
            return fast

        found["torchopt"] = by_torchopt
    if learn2learn := _library("learn2learn"):
        found["learn2learn"] = lambda: learn2learn.update_module(learn2learn.clone_module(module), addends)
    return found


def forward_passes(module: Any) -> Calls:
    """A forward pass, plain and by `torch.func.functional_call`."""
    import torch

    x, params = torch.ones(1, WIDTH), dict(module.named_parameters())
    return {
        "forward": lambda: module(x),
        "functional_call": lambda: torch.func.functional_call(module, params, (x,)),
    }


def maml_steps(module: Any) -> Calls:
    """Who takes a MAML step, and the call that gives its meta-gradient."""
    import torch

    torch.manual_seed(SEED)
    x, y, query_x, query_y = torch.randn(4, 8, WIDTH)
    mse, origin = torch.nn.functional.mse_loss, list(module.parameters())

    def by_clone(clone: Callable[..., Any], update: Callable[..., Any]) -> Any:
        fast = clone(module)
        grads = torch.autograd.grad(mse(fast(x), y), list(fast.parameters()), create_graph=True)
        update(fast, [-LR * grad for grad in grads])
        return torch.autograd.grad(mse(fast(query_x), query_y), origin)

    def by_torch_func() -> Any:
        call, params = torch.func.functional_call, dict(module.named_parameters())
        value = mse(call(module, params, (x,)), y)
        grads = torch.autograd.grad(value, list(params.values()), create_graph=True)
        params = {name: p - LR * grad for (name, p), grad in zip(params.items(), grads, strict=True)}
        return torch.autograd.grad(mse(call(module, params, (query_x,)), query_y), origin)

    found: Calls = {"mltk": lambda: by_clone(clone_module, update_module), "torch-func": by_torch_func}
    if higher := _library("higher"):
        sgd = torch.optim.SGD(origin, lr=LR)

        def by_higher() -> Any:
            with higher.innerloop_ctx(module, sgd, copy_initial_weights=False) as (fast, optimizer):
                optimizer.step(mse(fast(x), y))
                return torch.autograd.grad(mse(fast(query_x), query_y), origin)

        found["higher"] = by_higher
    if torchopt := _library("torchopt"):

        def by_torchopt() -> Any:
            fast = torchopt.module_clone(module, by="copy")
            torchopt.MetaSGD(fast, lr=LR).step(mse(fast(x), y))
            return torch.autograd.grad(mse(fast(query_x), query_y), origin)

        found["torchopt"] = by_torchopt
    if learn2learn := _library("learn2learn"):
        found["learn2learn"] = lambda: by_clone(learn2learn.clone_module, learn2learn.update_module)
    return found


def _library(name: str) -> Any:
    """A peer, if it is installed."""
    return import_module(name) if find_spec(name) else None


def race(tensors: int, repeats: int) -> dict[str, list[Row]]:
    """Compare and time everybody on one network.

    Returns:
        Rows under the names of `AIMS`, with the error of what each computed relative to its largest entry.
    """
    import torch

    module = network(tensors)
    parameters = list(module.parameters())
    addends = [torch.randn_like(p) for p in parameters]
    races = {
        "clone": clones(module),
        "clone and update": updates(module, addends),
        "MAML step": maml_steps(module),
    }
    right = {
        "clone": parameters,
        "clone and update": [p + addend for p, addend in zip(parameters, addends, strict=True)],
        "MAML step": races["MAML step"]["torch-func"](),
    }
    errors = {
        title: {name: relative_error(_arrays(call()), _arrays(right[title])) for name, call in calls.items()}
        for title, calls in races.items()
    }
    races["clone and update"] |= forward_passes(module)
    rows = {
        title: [replace(row, error=errors[title].get(row.name)) for row in time_in_turn(calls, repeats)]
        for title, calls in races.items()
    }
    seconds = {row.name: row.seconds for row in rows["clone and update"]}
    extra = (a - b for a, b in zip(seconds["functional_call"], seconds["forward"], strict=True))
    rows["clone and update"].append(Row(BOOKKEEPING, seconds=tuple(extra)))
    return rows


def execute(*, repeats: int, path: Path | None) -> int:
    """Compare, time, print, and write every sample to a file; the exit status is 1 if a result is wrong.

    Raises:
        MissingLibraryError: If Torch is not installed.
    """
    if not find_spec("torch"):
        raise MissingLibraryError(f"the benchmark of modules needs Torch: {install_hint('torch')}")
    console = Console()
    found, wrong = [], False
    for tensors in TENSORS:
        with console.status(f"timing {tensors} tensors"):
            races = race(tensors, repeats)
        for title, rows in races.items():
            columns: report.Columns = {
                **report.measured("median µs", lambda seconds: 1e6 * seconds, "{:,.0f}"),
                "× mltk": report.times_column(rows, "mltk"),
                "error": lambda row: report.number(
                    row.error, "[bold red]{:.0e}[/]" if _wrong(row) else "{:.0e}"
                ),
            }
            report.print_table(console, f"{title}, {tensors} tensors", rows, columns)
            report.print_aims(console, rows, AIMS[title])
            wrong = wrong or any(map(_wrong, rows))
            found.append({"race": title, "tensors": tensors, **report.as_json(rows, AIMS[title])})
    report.write(path, {"benchmark": "modules", "races": found})
    return int(wrong)


def _wrong(row: Row) -> bool:
    return row.error is not None and not row.error <= TOLERANCE


def _arrays(result: Any) -> dict[str, np.ndarray]:
    """Tensors, or the parameters of a module, under their numbers."""
    tensors = result if isinstance(result, list | tuple) else list(result.parameters())
    return {str(number): tensor.detach().numpy() for number, tensor in enumerate(tensors)}
