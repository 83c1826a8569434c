"""JAX: `jit` of `vmap` of `grad`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mltk import ops
from mltk.errors import UnsupportedError
from mltk.models import Sequential
from mltk.ops import Operation
from mltk.ops.activation import ACTIVATIONS
from mltk.peers.peer import Adapter, Case, Result, customary

Array = Any


@dataclass(frozen=True)
class Jax(Adapter):
    """See `mltk.peers.Peer`."""

    needs = ("jax",)
    name: str = "jax"

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        import jax

        apply, loss = _network(case.model), _loss(case.loss)

        def loss_of(params: dict[str, Array], x: Array, y: Array) -> Array:
            return loss(apply(params, x), y)

        def query_loss(
            params: dict[str, Array], support_x: Array, support_y: Array, query_x: Array, query_y: Array
        ) -> Array:
            for _ in range(case.inner_steps):
                grads = jax.grad(loss_of)(params, support_x, support_y)
                if case.first_order:
                    grads = jax.lax.stop_gradient(grads)
                params = jax.tree.map(lambda p, g: p - case.inner_lr * g, params, grads)
            return loss_of(params, query_x, query_y)

        def mean_over_tasks(params: dict[str, Array], *tasks: Array) -> Result:
            values, grads = jax.vmap(jax.value_and_grad(query_loss), (None, 0, 0, 0, 0))(params, *tasks)
            return values.mean(), jax.tree.map(lambda g: g.mean(0), grads)

        compiled: Callable[..., Result] = jax.jit(mean_over_tasks)
        episode = case.episode
        double = episode.support_x.dtype == np.float64

        def precision() -> AbstractContextManager[Any]:
            return jax.enable_x64(True) if double else nullcontext()

        with precision():
            params = jax.tree.map(jax.numpy.asarray, case.params)
            arrays = (episode.support_x, episode.support_y, episode.query_x, episode.query_y)
            tasks = tuple(jax.numpy.asarray(array) for array in arrays)

        def meta_gradient() -> Result:
            with precision():
                result: Result = jax.block_until_ready(compiled(params, *tasks))
            return result

        meta_gradient()  # compiles
        return meta_gradient


def _loss(name: str) -> Callable[[Array, Array], Array]:
    import jax
    from jax import numpy as jnp

    def cross_entropy(outputs: Array, labels: Array) -> Array:
        log_probabilities = jax.nn.log_softmax(outputs)
        return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1).mean()

    if name == "mse":
        return lambda outputs, targets: jnp.square(outputs - targets).mean()
    return cross_entropy


def _network(model: Sequential) -> Callable[[dict[str, Array], Array], Array]:
    """The network as a function of its flat parameters and a batch of inputs ``(N, *features)``."""
    layers = [(name, _layer(operation)) for name, operation in customary(model).named_layers]

    def apply(params: dict[str, Array], x: Array) -> Array:
        for name, layer in layers:
            x = layer(partial(_parameter, params, name), x)
        return x

    return apply


def _parameter(params: dict[str, Array], layer: str, key: str) -> Array:
    return params.get(f"{layer}.{key}")


def _layer(operation: Operation) -> Callable[[Callable[[str], Array], Array], Array]:
    """One operation as a function of its parameters, by name, and its input."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    def linear(p: Callable[[str], Array], x: Array) -> Array:
        y = x @ p("weight").T
        return y if p("bias") is None else y + p("bias")

    def convolution(p: Callable[[str], Array], x: Array) -> Array:
        assert isinstance(operation, ops.Convolution)
        window = operation.window
        padding = [(border, border) for border in window.padding]
        y = lax.conv_general_dilated(x, p("weight"), window.stride, padding)
        return y if p("bias") is None else y + p("bias")[:, None, None]

    def batch_norm(p: Callable[[str], Array], x: Array) -> Array:
        assert isinstance(operation, ops.BatchNorm)
        axes = (0, *range(2, 2 + operation.spatial_axes))
        shape = (-1, *[1] * operation.spatial_axes)
        mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        standard = (x - mean) * lax.rsqrt(variance + operation.eps)
        return p("weight").reshape(shape) * standard + p("bias").reshape(shape)

    def max_pool(p: Callable[[str], Array], x: Array) -> Array:
        assert isinstance(operation, ops.MaxPool)
        window = operation.window
        padding = [(0, 0), (0, 0), *((border, border) for border in window.padding)]
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, *window.size), (1, 1, *window.stride), padding)

    functions: dict[type[Operation], Callable[[Callable[[str], Array], Array], Array]] = {
        ops.Linear: linear,
        ops.Convolution: convolution,
        ops.BatchNorm: batch_norm,
        ops.MaxPool: max_pool,
        ops.Flatten: lambda p, x: x.reshape(len(x), -1),
    }
    for name, kind in ACTIVATIONS.items():
        functions[kind] = lambda p, x, name=name: getattr(jax.nn, name)(x)  # type: ignore[misc]
    if type(operation) not in functions:
        raise UnsupportedError(f"the JAX peer has no counterpart of {operation!r}")
    return functions[type(operation)]
