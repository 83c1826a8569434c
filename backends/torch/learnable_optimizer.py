"""An optimiser of a `torch.nn.Module` that is itself learned, by the gradient of the next loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from mltk import tree
from mltk.checks import check_scale
from mltk.errors import MismatchError, SettingError, ShapeError
from mltk.optim.transforms import GradientTransform
from mltk.optim.transforms.gradient_transform import Guard
from mltk.tree import Tree

from .structure import Links, modules_of, relink

Tensors = dict[str, torch.Tensor]


class LearnableOptimizer(nn.Module):
    r"""Gradient descent with a transform of the gradients that learns while the model does.

    `step` takes the gradients $g_t$ that `backward` has left in the model's parameters and replaces these by

    $$\theta_{t+1} = \theta_t - \alpha f(p, g_t),$$

    with $\theta_t$ and $g_t$ as constants. The next backward pass, from a loss at $\theta_{t+1}$, reaches the
    parameters $p$ of the transform by way of the model's, and any optimiser of Torch can move them:
    hypergradient descent (Baydin et al. 2018, equation 5), with any $f$ in place of a step size. One step
    back is as far as a gradient goes, and as much as memory keeps.

    The model's parameters are new tensors after each step (attributes that refer to them follow, see
    `mltk.update_module`), and those that several submodules share stay shared. Parameters without a gradient,
    frozen ones too, stay as they are. A model that `mltk.clone_module` made is cut from its original by the
    first step.

    With a guard, no step raises the loss that `step` is given: it is shortened, and the part that is taken is
    a constant to the next backward pass.

    The parameters of this module are the transform's. Its state dict has them and what the transform
    remembers from one step to the next, but not the model.

    Args:
        model: The module to optimise; it is not a submodule of the optimiser.
        transform: One of `mltk.optim.transforms`, for all parameters that need a gradient; or a function
            that makes, for one of those parameters, a module from gradients to directions of the same shape.
        lr: $\alpha$.
        guard: A `mltk.optim.transforms.Backtrack`, whose risk sets how carefully steps are taken, for any
            transform; not beside a transform that ends with one itself. ``None`` takes each step as it is.
        seed: A seed or a generator, for what a transform of mltk draws at random.

    Raises:
        SettingError: If ``model`` is no module, has no parameter that needs a gradient, ``transform`` is
            neither of the two, ``guard`` guards nothing or is the second, or ``lr`` is no finite number of at
            least 0.
        MismatchError: If the model has several dtypes or devices, and the transform is one of mltk's.

    Examples:
        >>> import mltk
        >>> import torch
        >>> model, loss = torch.nn.Linear(1, 1), torch.nn.MSELoss()
        >>> x = torch.linspace(-1, 1, 20)[:, None]
        >>> learned = mltk.LearnableOptimizer(model, mltk.optim.transforms.Scale(), lr=0.1)
        >>> outer = torch.optim.SGD(learned.parameters(), lr=0.01)
        >>> for step in range(200):
        ...     learned.zero_grad()
        ...     outer.zero_grad()
        ...     loss(model(x), 3 * x + 1).backward()
        ...     outer.step()
        ...     learned.step()
        >>> [round(parameter.item(), 2) for parameter in model.parameters()]
        [3.0, 1.0]
    """

    def __init__(
        self,
        model: nn.Module,
        transform: GradientTransform | Callable[[torch.Tensor], nn.Module],
        lr: float = 1.0,
        *,
        guard: GradientTransform | None = None,
        seed: int | np.random.Generator = 0,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise SettingError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
        check_scale("lr", lr)
        self.lr = lr
        self._model = (model,)  # in a tuple, or it would be a submodule
        moving = self._moving()
        if not moving:
            raise SettingError(f"model, a {type(model).__name__}, has no parameter that needs a gradient")
        self._names = tuple(moving)
        self.transforms: _PerParameter | _Joint
        if isinstance(transform, GradientTransform):
            self.transforms = _Joint(transform, moving, np.random.default_rng(seed))
        else:
            self.transforms = _PerParameter(transform, moving)
        own = transform.guard if isinstance(transform, GradientTransform) else None
        self._guard = own if guard is None else getattr(guard, "guard", None)
        if guard is not None and (self._guard is None or own is not None):
            expected = (
                "Backtrack(), of mltk.optim.transforms" if own is None else "no other than the transform's"
            )
            raise SettingError(f"guard is {guard!r}; expected {expected}")
        self._keep_gradients()

    @property
    def model(self) -> nn.Module:
        """The module that is optimised."""
        return self._model[0]

    @torch.enable_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> None:
        """Replace the model's parameters by those one step on.

        Args:
            closure: The loss as the model is now, which a guard asks for, without a gradient, before the step
                and behind each part of it that it tries: ``lambda: loss(model(x), y)``.

        Raises:
            SettingError: If a guard lacks the closure, or a parameter has a gradient, or may have had one,
                that the optimiser was not made for: it was frozen then, or has been replaced since, by
                `mltk.update_module` for example.
            ShapeError: If a direction has another shape than its parameter, or the loss is not one number.
        """
        if self._guard is not None and not callable(closure):
            raise SettingError(
                f"closure is {closure!r}; expected a function that gives the loss, for the guard"
            )
        moving = self._moving()
        for name, p in moving.items():
            if not p.is_leaf and not p.retains_grad:
                raise SettingError(
                    f"{name} has been replaced since the last step, and may have lost its gradient; call "
                    "zero_grad() of the LearnableOptimizer before the backward pass"
                )
        grads = {name: p.grad.detach() for name, p in moving.items() if p.grad is not None}
        for name in grads:
            if name not in self._names:
                raise SettingError(f"{name} has a gradient, but needed none when the optimiser was made")
        steps = (
            {name: self.lr * direction for name, direction in self.transforms(grads).items()} if grads else {}
        )
        for name, step in steps.items():
            if step.shape != moving[name].shape:
                raise ShapeError(
                    f"the direction of {name} has shape {tuple(step.shape)}; expected that of the parameter, "
                    f"{tuple(moving[name].shape)}"
                )
        if self._guard is not None and steps and closure is not None:
            part = self._part(self._guard, moving, grads, steps, closure)
            steps = {name: part * step for name, step in steps.items()} if part else {}
        links: Links = {}
        for name, p in moving.items():
            new = p if p.is_leaf else p.detach().requires_grad_()
            if name in steps:
                new = p.detach() - steps[name]
            links[id(p)] = new if new.requires_grad else new.requires_grad_()
        relink(modules_of(self.model), links)
        self._keep_gradients()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of the model; those of the transform are left to its own optimiser.

        Args:
            set_to_none: Whether a gradient becomes ``None``, so that the next `step` leaves its parameter
                unless there is a new one, or zeros.
        """
        for p in self.model.parameters():
            if p.is_leaf or p.retains_grad:
                p.grad = None if set_to_none or p.grad is None else torch.zeros_like(p.grad)
        self._keep_gradients()

    @torch.no_grad()
    def _part(
        self,
        guard: Guard,
        moving: Tensors,
        grads: Tensors,
        steps: Tensors,
        closure: Callable[[], torch.Tensor],
    ) -> float:
        """The part of the steps that the guard lets through; the model is as it was."""
        modules = modules_of(self.model)

        def loss() -> torch.Tensor:
            found = torch.as_tensor(closure())
            if found.numel() != 1:
                raise ShapeError(f"closure gave shape {tuple(found.shape)}; expected one number, the loss")
            return found.detach().reshape(1)

        def after(part: torch.Tensor) -> torch.Tensor:
            there = {name: moving[name] - part.item() * step for name, step in steps.items()}
            relink(modules, {id(moving[name]): p.requires_grad_() for name, p in there.items()})
            try:
                return loss()
            finally:
                relink(modules, {id(p): moving[name] for name, p in there.items()})

        value = loss()
        slope = sum(torch.sum(grads[name] * step) for name, step in steps.items())
        return float(guard(value, torch.as_tensor(slope).reshape(1), after))

    def _moving(self) -> Tensors:
        """The parameters that need a gradient, each once."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def _keep_gradients(self) -> None:
        """Let the next backward pass leave gradients in parameters that are results of a computation."""
        for p in self._moving().values():
            if not p.is_leaf:
                p.retain_grad()


class _PerParameter(nn.ModuleList):
    """A module for each parameter."""

    def __init__(self, transform: Callable[[torch.Tensor], nn.Module], parameters: Tensors) -> None:
        if not callable(transform):
            raise SettingError(
                f"transform is {transform!r}; expected one of mltk.optim.transforms, such as Scale(), or a "
                "function from a parameter to a module"
            )
        modules = [transform(p) for p in parameters.values()]
        for name, module in zip(parameters, modules, strict=True):
            if not isinstance(module, nn.Module):
                raise SettingError(f"transform gave {module!r} for {name}; expected a torch.nn.Module")
        super().__init__(modules)
        self.places = {name: place for place, name in enumerate(parameters)}

    def forward(self, grads: Tensors) -> Tensors:
        return {name: self[self.places[name]](grad) for name, grad in grads.items()}


class _Joint(nn.Module):
    """A transform of mltk, with its learned arrays as parameters and its state as buffers."""

    def __init__(self, transform: GradientTransform, parameters: Tensors, rng: np.random.Generator) -> None:
        super().__init__()
        kinds = {(p.dtype, p.device) for p in parameters.values()}
        if len(kinds) > 1:
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise MismatchError(f"the parameters of model are {found}; expected one dtype and device")
        ((dtype, device),) = kinds
        self.transform = transform
        drawn = transform.init({name: tuple(p.shape) for name, p in parameters.items()}, rng)
        self.learned = _held(
            tree.map(lambda leaf: nn.Parameter(torch.tensor(leaf, dtype=dtype, device=device)), drawn)
        )
        start = {name: torch.zeros_like(p).detach()[None] for name, p in parameters.items()}
        self.state = _held(transform.start(tree.unflatten(start)))

    def forward(self, grads: Tensors) -> Tensors:
        learned = tree.unflatten(dict(self.learned.named_parameters()))
        state = tree.unflatten(dict(self.state.named_buffers()))
        tasks = tree.unflatten({name: grad[None] for name, grad in grads.items()})
        directions, following, _ = self.transform.forward(learned, tasks, state)
        # What is remembered of parameters without a gradient stays.
        self.state = _held(tree.map(torch.Tensor.detach, tree.merge(state, following)))
        return {name: direction[0] for name, direction in tree.flatten(directions).items()}


def _held(values: Tree) -> nn.Module:
    """A module that holds a tree of parameters or buffers under their own names."""
    holder = nn.Module()
    for name, value in values.items():
        if isinstance(value, dict):
            holder.add_module(name, _held(value))
        elif isinstance(value, nn.Parameter):
            holder.register_parameter(name, value)
        else:
            holder.register_buffer(name, value)
    return holder
