"""`Module`: a model with its parameters that keeps gradient links by hand-derived rules, without autograd.

The functions here serve `mltk.clone_module`, `update_module`, `detach_module` and `meta_grad`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from mltk import ops, tree
from mltk.arguments import check_examples, check_params
from mltk.backend import backend_of, check_backend, check_same
from mltk.contracts import Backend, Linearization, Model, Objective
from mltk.errors import DtypeError, SettingError, ShapeError, TreeError, UnsupportedError
from mltk.models import Sequential
from mltk.modules.array import LinkedArray
from mltk.modules.tape import Node, Origin, pull_back
from mltk.ops import BatchNorm, LossLike
from mltk.tree import Array, Tree

Memo = dict[str, dict[int, tuple[LinkedArray, LinkedArray]]]
"""For each function, by their identity: linked arrays, and what became of them."""


class Module:
    r"""A model and its parameters, for one task, whose gradients keep their link to the parameters.

    The arrays of the parameters are those given, not copies, and no function of mltk changes an array in
    place; do not do so either, since the way back reads them again. That is why a clone copies nothing.

    `grad` at the parameters $\theta$ returns $g = \nabla L(\theta)$, and an update by a linear combination of
    $g$, of gradients elsewhere and of parameters gives new parameters that remember it. On the way back the
    cotangent $\bar g$ becomes $H \bar g$, with the exact Hessian $H$ of the loss at $\theta$: one Hessian
    product for all parameters of one gradient, at the time when `mltk.meta_grad` asks for it. Until then a
    gradient keeps its forward pass, as Torch's graph does, for as long as it or anything updated by it lives;
    with ``checkpoint=True`` it keeps the parameters and examples only, and the loss is linearised again.

    Copies by `copy.deepcopy` and `pickle` are originals: the same values, without links. Linked copies come
    from `mltk.clone_module`.

    Batch norms with ``statistics="batch"`` take those of the set that the module is called on, and those with
    constants beside their parameters (from `mltk.normalization.calibrate`) take these.

    Args:
        model: The network.
        params: Its parameters, each of its own shape, and constants that may stand beside them, as from
            ``model.init``.
        backend: Where the arrays live, and the engine; ``None`` finds it from ``params``, with its default
            engine.
        checkpoint: Keep no forward passes: memory does not grow with activations × updates, for the time of
            one more gradient each in `mltk.meta_grad`.

    Raises:
        SettingError: If ``model`` is no model, or ``backend`` no backend.
        TreeError: If a parameter is missing or has another shape, or one is not of the model.
        ArrayError, DtypeError: If a parameter is not a floating array.
        MismatchError: If the parameters differ in library, device or dtype from each other or the backend.
        UnsupportedError: If the engine cannot differentiate the model, or a batch norm takes its statistics
            from a support set, which a module cannot tell from others.
    """

    def __init__(
        self, model: Model, params: Tree, *, backend: Backend | None = None, checkpoint: bool = False
    ) -> None:
        if not hasattr(model, "shapes") or not hasattr(model, "apply"):
            raise SettingError(f"model is {model!r}; expected a model, as from mltk.models")
        if not isinstance(params, dict):
            raise TreeError(f"params is a {type(params).__name__}; expected a nested dict of arrays")
        if backend is None:
            backend = backend_of(params)
        check_backend(backend)
        check_params("params", params, model.shapes, backend)
        flat = tree.flatten(params)
        constants = {name: flat.pop(name) for name in [*flat] if name not in model.shapes}
        _check_model(model, backend, flat, constants)
        self._model = model
        self._backend = backend
        self._checkpoint = checkpoint
        self._constants = constants
        self._parameters = {name: LinkedArray(_plain(flat[name])).requires_grad_() for name in model.shapes}

    @property
    def model(self) -> Model:
        """The network."""
        return self._model

    @property
    def backend(self) -> Backend:
        """Where the arrays live, and the engine."""
        return self._backend

    @property
    def params(self) -> Tree:
        """The plain arrays of the parameters as they are now, with the constants beside them."""
        values = {name: p.detach() for name, p in self._parameters.items()}
        return tree.unflatten({**values, **self._constants})

    def parameters(self) -> Iterator[LinkedArray]:
        """The parameters, in the order of the model; an iterator, as in Torch."""
        return iter([*self._parameters.values()])

    def named_parameters(self) -> Iterator[tuple[str, LinkedArray]]:
        """The parameters with their dotted names, in the order of the model; an iterator, as in Torch."""
        return iter([*self._parameters.items()])

    def __call__(self, x: Array) -> Array:
        """The outputs of the model, ``(N, *features)``, as a plain array.

        Args:
            x: Inputs ``(N, *features)``.

        Raises:
            DtypeError: If the inputs are not floating.
            MismatchError: If they are of another library, device or dtype than the parameters.
            ShapeError: If they do not fit the model.
        """
        self._check_inputs(x)
        return self._model.apply(self.params, x[None])[0]

    def grad(self, loss: LossLike, x: Array, y: Array) -> list[LinkedArray | None]:
        """The gradients of a loss, linked to the parameters as they are now.

        No Hessian product is computed until `mltk.meta_grad` needs it.

        Args:
            loss: ``"mse"``, ``"cross_entropy"``, or a `mltk.ops.Loss`.
            x: Inputs ``(N, *features)``.
            y: Targets ``(N, …)``.

        Returns:
            One gradient for each of `parameters`, in their order; ``None`` for those that do not require one.

        Raises:
            SettingError: If there is no such loss.
            DtypeError: If the inputs or targets have the wrong kind of dtype.
            MismatchError: If they are of another library, device or dtype than the parameters.
            ShapeError: If they do not fit each other or the model.
        """
        linearize = self._linearization(loss, x, y)
        moving = self._moving()
        if not moving:
            return [None] * len(self._parameters)
        lin = linearize(moving, curvature=not self._checkpoint)
        # Called on the way back alone: what was linearised here and is kept, or with checkpoints a new one.
        again = partial(linearize, tuple(moving), curvature=True) if self._checkpoint else lambda: lin
        node, grads = _Gradient(again, moving), tree.flatten(lin.grad)
        return [
            LinkedArray(grads[name][0], Origin(node, name)) if name in moving else None
            for name in self._parameters
        ]

    def _moving(self) -> dict[str, Origin]:
        """Where the parameters that require a gradient come from."""
        return {name: p.source for name, p in self._parameters.items() if p.source is not None}

    def _linearization(self, loss: LossLike, x: Array, y: Array) -> Callable[..., Linearization]:
        """The function that linearises a loss, at the parameters as they are now, with respect to some."""
        self._check_inputs(x)
        check_same(self._backend, y=[y])
        objective, engine, params = Objective(self._model, ops.loss(loss)), self._backend.engine, self.params

        def linearize(names: Collection[str], *, curvature: bool) -> Linearization:
            return engine.linearize(objective, params, x[None], y[None], wrt=names, curvature=curvature)

        return linearize

    def __repr__(self) -> str:
        return f"Module({self._model!r}, {self._backend.name} {self._backend.dtype})"

    def _check_inputs(self, x: Array) -> None:
        check_same(self._backend, x=[x])
        if not self._backend.xp.isdtype(x.dtype, "real floating"):
            raise DtypeError(f"x has dtype {x.dtype}; expected floating numbers")
        check_examples(self._model, "x", x, leading=1)
        first = next(iter(self._model.shapes.values()), ())
        if x.ndim < 2 or (len(first) == 4 and x.ndim != 4):
            expected = "(N, C, H, W)" if len(first) == 4 else "(N, *features)"
            raise ShapeError(f"x has shape {tuple(x.shape)}; expected {expected}, the examples of one task")
        if 0 in x.shape:
            raise ShapeError(f"x has shape {tuple(x.shape)}; expected a set that is not empty")


class _Gradient(Node):
    """The gradients of one loss, under the names of their parameters."""

    __slots__ = ("_linearize", "_names")

    def __init__(self, linearize: Callable[[], Linearization], sources: Mapping[str, Origin]) -> None:
        super().__init__(sources.values())
        self._linearize = linearize
        self._names = tuple(sources)

    def pull_back(self, cotangents: Mapping[str, Array]) -> list[Array]:
        """See `Node.pull_back`: one product with the Hessian, which is symmetric."""
        along = tree.unflatten({name: leaf[None] for name, leaf in cotangents.items()})
        turned = tree.flatten(self._linearize().hvp(along))
        return [turned[name][0] for name in self._names]


def clone_module(module: Module, memo: Memo | None = None) -> Module:
    """See `mltk.clone_module`."""
    known = {} if memo is None else memo.setdefault("clones", {})
    clone = copy.copy(module)
    for p in module.parameters():
        if id(p) not in known:
            known[id(p)] = (p, p.clone())  # with p, whose id would else go to another object once it is gone
    clone._parameters = {name: known[id(p)][1] for name, p in module.named_parameters()}
    return clone


def update_module(module: Module, updates: Iterable[Any] | None = None, memo: Memo | None = None) -> Module:
    """See `mltk.update_module`."""
    done = {} if memo is None else memo.setdefault("updates", {})
    parameters = [*module.parameters()]
    taken = [p.update for p in parameters] if updates is None else [*updates]
    if len(taken) != len(parameters):
        raise SettingError(
            f"updates has {len(taken)} entries; expected one for each of the {len(parameters)} parameters, "
            "or None"
        )
    moved = {}
    for (name, p), update in zip(module.named_parameters(), taken, strict=True):
        moved[name] = p
        if id(p) in done:
            moved[name] = done[id(p)][1]
        elif update is not None:
            _check_update(module, name, p, update)
            moved[name] = p + update
    for p, new in zip(parameters, moved.values(), strict=True):
        if new is not p:
            done[id(p)] = (p, new)
        if updates is None:
            p.update = None
    module._parameters = moved
    return module


def detach_module(module: Module, keep_requires_grad: bool = False) -> None:
    """See `mltk.detach_module`."""
    for p in module.parameters():
        if p.requires_grad:
            p.detach_().requires_grad_(keep_requires_grad)


def meta_grad(module: Module, loss: Any, x: Array, y: Array, wrt: Any) -> list[Array]:
    """See `mltk.meta_grad`."""
    if not isinstance(wrt, Module):
        raise SettingError(f"wrt is a {type(wrt).__name__}; expected an mltk.Module, as module is one")
    linearize, moving = module._linearization(loss, x, y), module._moving()
    wanted = [None if p.source is None else p.source.node for p in wrt.parameters()]
    found: dict[Node, Array] = {}
    if moving:
        grads = tree.flatten(linearize(moving, curvature=False).grad)
        cotangents = ((source, grads[name][0]) for name, source in moving.items())
        found = pull_back(cotangents, {node for node in wanted if node is not None})
    zeros_like = wrt.backend.xp.zeros_like
    return [
        found[node] if node in found else zeros_like(p.detach())
        for p, node in zip(wrt.parameters(), wanted, strict=True)
    ]


def _check_update(module: Module, name: str, p: LinkedArray, update: Any) -> None:
    """Raise unless an update is a linked or plain array of the module's backend, of its parameter's shape."""
    if tuple(getattr(update, "shape", ("none",))) != p.shape:
        found = f"shape {tuple(update.shape)}" if hasattr(update, "shape") else f"no shape, it is {update!r}"
        raise ShapeError(f"the update of {name!r} has {found}; expected an array of shape {p.shape}")
    check_same(module.backend, updates=[update.detach() if isinstance(update, LinkedArray) else update])


def _plain(leaf: Array) -> Array:
    """An array of which no autograd keeps a record: a Torch parameter could be given."""
    return leaf.detach() if getattr(leaf, "requires_grad", False) else leaf


def _check_model(
    model: Model, backend: Backend, flat: Mapping[str, Array], constants: Mapping[str, Array]
) -> None:
    """Check what parameters alone do not show.

    Raises:
        TreeError, DtypeError, UnsupportedError: See `Module`.
    """
    shapes = getattr(model, "constant_shapes", {})
    for name, leaf in constants.items():
        if name not in shapes:
            raise TreeError(
                f"params has {name!r}, which is not of the model; expected {', '.join(model.shapes)}"
            )
        if tuple(leaf.shape) != shapes[name]:
            raise TreeError(f"params: {name!r} has shape {tuple(leaf.shape)}; expected {shapes[name]}")
    for name, leaf in {**flat, **constants}.items():
        if not backend.xp.isdtype(leaf.dtype, "real floating"):
            raise DtypeError(f"params: {name!r} has dtype {leaf.dtype}; expected {backend.dtype}")
    if not isinstance(model, Sequential):
        if backend.engine.name == "analytic":
            raise UnsupportedError(
                f"model is a {type(model).__name__}, and the analytic engine differentiates "
                'mltk.models.Sequential; expected backend=mltk.backend("torch", engine="autograd")'
            )
        return
    for name, layer in model.named_layers:
        if not isinstance(layer, BatchNorm):
            continue
        beside = [key for key in layer.constant_shapes if f"{name}.{key}" in constants]
        if len(beside) == 1:
            raise TreeError(f"params has '{name}.{beside[0]}' alone; expected running_mean and running_var")
        if layer.statistics == "support" and layer.rows is None and not beside:
            raise UnsupportedError(
                f'the batch norm "{name}" has statistics="support", and a module sees one set at a time; '
                'expected statistics="batch", or a model of mltk.normalization.with_support_rows'
            )
