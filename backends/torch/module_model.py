"""Any `torch.nn.Module` as a model of mltk, for the autograd engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.func import vmap

from mltk import tree
from mltk.contracts import Backend
from mltk.errors import SettingError, UnsupportedError
from mltk.tree import Tree

from .last_layer import last_layer
from .second_derivatives import MATHEMATICAL_ATTENTION, PLAIN_RECURRENCE, explained
from .structure import STANDARD, check_initialised, distinct, linked_copy, modules_of, tables_of
from .vectorization import Padding, Tensors, differs, known_fault

VMAP_REFUSES = ("vmap", "Batching rule")
"""What Torch writes in the errors that say a module cannot be vectorised."""


INPUT = ""
"""The name of what no parameter is."""


class FirstRun(NamedTuple):
    """What one run of a module on one task showed.

    Attributes:
        written: The constants, and `INPUT`, that the module writes into: each task needs a copy.
        fault: Why the module must not be vectorised; ``None`` if nothing speaks against it.
    """

    written: frozenset[str]
    fault: str | None


@contextmanager
def _unnoticed(x: torch.Tensor) -> Iterator[None]:
    """A run that draws no random numbers from others, and can be differentiated in inference mode, too."""
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.inference_mode(False):
        yield


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor was written to, where Torch counts that."""
    return 0 if tensor.is_inference() else tensor._version


class ModuleModel:
    """A `torch.nn.Module` with the interface of `mltk.contracts.Model`.

    The model is the module as it was when it was wrapped: its structure and mode, its parameters, frozen or
    not, and its buffers are copied then. What is done to the module afterwards plays no part, new weights
    included: wrap it again. In turn the module is never changed. Each call runs a new copy of the structure,
    so a learner may be used by several threads, and nothing that a call leaves behind (running statistics
    that a batch norm in training mode updates, attributes that ``forward`` sets) reaches the next one. One
    that writes into its inputs gets a copy of them. Objects that are neither modules, tensors, lists, dicts
    nor sets are shared with the module.

    Parameters that several submodules share appear once, under their first name. Those with
    ``requires_grad=False`` are constants, like buffers: no learner moves them. Constants follow the dtype and
    device of the input; tasks share them, unless the module writes into them.

    All tasks run at once by `torch.func.vmap` where that gives what a loop over tasks gives. On the first
    input of each kind two copies of one task are compared with the task by itself, in value, gradient and
    Hessian product; where they differ a warning says so, and the loop runs.

    Dropout and other random layers draw from Torch's own generator, anew in each call and task. An exact
    meta-gradient with ``checkpoint=True``, which calls the module a second time, needs modules without them.

    Args:
        module: Any module whose `forward` takes one batch of inputs.
        vectorize: Run all tasks at once; ``False`` runs them one after the other, for modules that vmap
            cannot handle (recurrent ones) and for convolutions on CPUs, where it is faster.
        inputs: What the module is called on, made of one batch ``(N, *features)``: a tensor, a tuple of
            positional or a dict of keyword arguments; ``None`` for the batch itself. Several inputs travel
            in the features of one array, and are cut out of it here.
        output: Which tensor of what the module gives is its output, where that is a named tuple, an object
            with attributes or a dict (its name or key), or a tuple (its position).

    Raises:
        SettingError: If ``module`` is not a module, or not initialised, or ``inputs`` is no function.
        UnsupportedError: If it is or holds a TorchScript module.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        vectorize: bool = True,
        inputs: Callable[[torch.Tensor], Any] | None = None,
        output: str | int | None = None,
    ) -> None:
        if not isinstance(module, torch.nn.Module):
            raise SettingError(f"module is {module!r}; expected a torch.nn.Module")
        if inputs is not None and not callable(inputs):
            raise SettingError(f"inputs is {inputs!r}; expected a function of one batch, or None")
        check_initialised(module)
        self.vectorize = vectorize
        self._inputs, self._output = inputs, output
        modules = modules_of(module)
        tensors = distinct(tables_of(modules, "_parameters") + tables_of(modules, "_buffers"))
        self._moving = tuple(name for name, p in module.named_parameters() if p.requires_grad)
        self._module = linked_copy(modules, {id(t): t.detach().clone() for t in tensors})
        self._runs: dict[Any, FirstRun] = {}
        self._last: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"ModuleModel({type(self._module).__name__})"

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `mltk.contracts.Model.shapes`."""
        return {name: tuple(self._tensors[name].shape) for name in self._moving}

    @property
    def constants(self) -> Tensors:
        """The frozen parameters and buffers, under their names, as they were when the module was wrapped."""
        return {name: t.clone() for name, t in self._tensors.items() if name not in self.shapes}

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """The module's own parameters when it was wrapped, copied; the seed plays no part."""
        return tree.unflatten({name: backend.asarray(self._tensors[name].clone()) for name in self.shapes})

    def last_layer(self, x: torch.Tensor | None = None) -> tuple[str, ...]:
        """The names of the parameters of the layer that makes the outputs, found by running the module once.

        Args:
            x: Inputs ``(T, N, *features)``, of which the first task is run; not needed a second time.

        Raises:
            UnsupportedError: If there is no single such layer, or the module has not run and ``x`` is
                ``None``.
        """
        if self._last is None:
            if x is None:
                raise UnsupportedError(
                    f"the last layer of {type(self._module).__name__} is known after its first run only; "
                    "name it, as in adapt_only='classifier', or call the model's last_layer(x) before"
                )
            constants = {name: t.clone() for name, t in self._constants_for(x).items()}
            with _unnoticed(x), self._kernels(), torch.enable_grad():
                flat = {
                    name: self._tensors[name].to(x.device, x.dtype, copy=True).requires_grad_()
                    for name in self.shapes
                }
                outputs = self._call(flat, constants, x[0].detach().clone())
            self._last = last_layer(self._module, outputs, flat)
        return self._last

    def apply(self, params: Tree, x: torch.Tensor) -> torch.Tensor:
        """See `mltk.contracts.Model.apply`.

        Raises:
            UnsupportedError: If `torch.func.vmap` cannot run the module, or Torch has no derivative of it, or
                it writes into its parameters, or into its constants for some inputs only.
        """
        flat = {name: leaf for name, leaf in tree.flatten(params).items() if name in self.shapes}
        constants = self._constants_for(x)
        with self._kernels(), explained(repr(self)):
            run = self._first_run(flat, constants, x)
            held = flat | constants | {INPUT: x}
            shared = [(name, t) for name, t in held.items() if name not in run.written]
            versions = [_version(t) for _, t in shared]
            way = self._vectorized if self.vectorize and run.fault is None else self._looped
            outputs = way(flat, constants, x, run.written)
        for (name, tensor), version in zip(shared, versions, strict=True):
            if _version(tensor) != version:
                raise self._writes(name)
        return outputs

    @cached_property
    def _modules(self) -> list[torch.nn.Module]:
        """The module and its submodules, whose tables hold the tensors of `_tensors`."""
        return modules_of(self._module)

    @cached_property
    def _tensors(self) -> Tensors:
        """Parameters and buffers, under their names, as they were when the module was wrapped."""
        return dict([*self._module.named_parameters(), *self._module.named_buffers()])

    @cached_property
    def _containers(self) -> list[tuple[int, str]]:
        """The lists, dicts and sets among the attributes: the place of the module, and the name."""
        return [
            (place, name)
            for place, module in enumerate(self._modules)
            for name, value in vars(module).items()
            if name not in STANDARD and type(value) in (list, dict, set)
        ]

    @cached_property
    def _converted(self) -> dict[tuple[torch.device, torch.dtype], Tensors]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """All that is not found again from the rest: identities differ in a copy."""
        cached = {name for name, value in vars(type(self)).items() if isinstance(value, cached_property)}
        return {name: value for name, value in vars(self).items() if name not in cached}

    def _constants_for(self, x: torch.Tensor) -> Tensors:
        """The constants in the dtype and on the device of the inputs; converted once."""
        key = (x.device, x.dtype)
        if key not in self._converted:
            with torch.inference_mode(False):  # or autograd could not use them later
                self._converted[key] = {
                    name: t.to(x.device, x.dtype if t.is_floating_point() else None)
                    for name, t in self._tensors.items()
                    if name not in self.shapes
                }
        return dict(self._converted[key])

    def _kernels(self) -> ExitStack:
        """The context of a run: kernels that can be differentiated twice."""
        stack = ExitStack()
        stack.enter_context(MATHEMATICAL_ATTENTION)
        if self._recurrent:
            stack.enter_context(PLAIN_RECURRENCE)
        return stack

    @cached_property
    def _recurrent(self) -> bool:
        return any(isinstance(module, torch.nn.RNNBase) for module in self._modules)

    def _call(self, parameters: Tensors, constants: Tensors, x: torch.Tensor) -> torch.Tensor:
        """Run a new copy of the module on one task."""
        links = {id(self._tensors[name]): t for name, t in (parameters | constants).items()}
        module = linked_copy(self._modules, links, self._containers)
        inputs = x if self._inputs is None else self._inputs(x)
        if isinstance(inputs, tuple):
            return self._chosen(module(*inputs))
        return self._chosen(module(**inputs) if isinstance(inputs, dict) else module(inputs))

    def _chosen(self, found: Any) -> torch.Tensor:
        """The tensor among a module's outputs that is the output."""
        name, chosen = self._output, found
        if name is not None:
            try:
                by_key = isinstance(found, Mapping) or not isinstance(name, str)
                chosen = found[name] if by_key else getattr(found, str(name))
            except (LookupError, AttributeError, TypeError):
                chosen = None
        if not isinstance(chosen, torch.Tensor):
            names = list(found) if isinstance(found, Mapping) else getattr(found, "_fields", None)
            holds = f" with {', '.join(map(str, names))}" if names else ""
            raise UnsupportedError(
                f"{type(self._module).__name__} gives a {type(found).__name__}{holds}, and output is "
                f"{name!r}; expected a tensor, or the name of one in ModuleModel(module, output=...)"
            )
        return chosen

    def _first_run(self, flat: Tensors, constants: Tensors, x: torch.Tensor) -> FirstRun:
        """What is known of inputs of this kind; found out where nothing is."""
        kind = (x.device, x.dtype, x.shape[2:])
        if kind not in self._runs:
            with _unnoticed(x):
                first = {name: t[0] if t.ndim > len(self.shapes[name]) else t for name, t in flat.items()}
                one = {name: t.detach().clone() for name, t in first.items()}
                self._runs[kind] = self._run_once(one, constants, x[0].detach().clone())
        return self._runs[kind]

    def _run_once(self, one: Tensors, constants: Tensors, x: torch.Tensor) -> FirstRun:
        """Run the module on one task."""
        before = one | constants | {INPUT: x}
        held, padding = {name: t.clone() for name, t in before.items()}, Padding()
        with torch.no_grad(), padding:
            self._call({name: held[name] for name in one | constants}, {}, held[INPUT])
        # Batch norm does not count versions, and what is written may be what was there.
        written = frozenset(
            name for name, t in held.items() if _version(t) or not torch.equal(t, before[name])
        )
        for name in written & one.keys():
            raise self._writes(name)
        return FirstRun(written, self._fault(one, constants, x, written, padding.seen))

    def _fault(
        self, one: Tensors, constants: Tensors, x: torch.Tensor, written: frozenset[str], seen: str | None
    ) -> str | None:
        """Why not to vectorise; what was seen already is not compared."""
        if not self.vectorize:
            return None
        fault = (
            known_fault(self._modules)
            or seen
            or differs(
                lambda p, x: self._vectorized(p, constants, x, written, randomness="same"),
                lambda p, x: self._looped(p, constants, x, written),
                one,
                x,
            )
        )
        if fault is not None:
            warnings.warn(
                f"torch.func.vmap is wrong on {type(self._module).__name__}, by {fault}: its tasks run one "
                "after the other, as with ModuleModel(module, vectorize=False)",
                stacklevel=2,
            )
        return fault

    def _vectorized(
        self,
        flat: Tensors,
        constants: Tensors,
        x: torch.Tensor,
        written: frozenset[str],
        randomness: str = "different",
    ) -> torch.Tensor:
        """All tasks at once."""
        held = self._spread(constants, written, x.shape[0])
        axes = {name: 0 if t.ndim > len(self.shapes[name]) else None for name, t in flat.items()}
        own = {name: 0 if name in written else None for name in held}
        try:
            outputs: torch.Tensor = vmap(self._call, in_dims=(axes, own, 0), randomness=randomness)(
                flat, held, x.clone() if INPUT in written else x
            )
        except RuntimeError as error:
            if not any(word in str(error) for word in VMAP_REFUSES):
                raise
            raise UnsupportedError(
                f"torch.func.vmap cannot run {type(self._module).__name__}; "
                "wrap it by ModuleModel(module, vectorize=False)"
            ) from error
        return outputs

    def _looped(
        self, flat: Tensors, constants: Tensors, x: torch.Tensor, written: frozenset[str]
    ) -> torch.Tensor:
        """One task after the other."""
        held = self._spread(constants, written, x.shape[0])
        outputs = []
        for task in range(x.shape[0]):
            own = {name: t[task] if t.ndim > len(self.shapes[name]) else t for name, t in flat.items()}
            beside = {name: t[task] if name in written else t for name, t in held.items()}
            outputs.append(self._call(own, beside, x[task].clone() if INPUT in written else x[task]))
        return torch.stack(outputs)

    def _spread(self, constants: Tensors, written: frozenset[str], tasks: int) -> Tensors:
        """The constants, with a copy for each task of those that the module writes into."""
        return {
            name: t.expand(tasks, *t.shape).clone() if name in written else t for name, t in constants.items()
        }

    def _writes(self, name: str) -> UnsupportedError:
        what = "its parameter" if name in self.shapes else "for some inputs only, its constant"
        what = "some of its inputs only" if name == INPUT else f"{what} {name!r}"
        return UnsupportedError(
            f"{type(self._module).__name__} writes into {what}, so its value depends on earlier calls; "
            "expected a module that does not"
        )
