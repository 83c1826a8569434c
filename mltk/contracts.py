"""The house on one page: what its parts promise each other.

A *backend* is an array library, and its *engine* the only code that knows where derivatives come from. An
engine linearises an *objective*, which is a *model* under a loss; a *learner* asks for that in its inner and
outer loop. Whatever implements `Learner` can be trained, evaluated and compared; whatever implements
`Backend` runs them all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from mltk.checks import has
from mltk.tree import Array, Tree

if TYPE_CHECKING:
    from mltk.heads.head import Head
    from mltk.ops.kernels import Kernels
    from mltk.ops.loss import Loss

HeadPullback = Callable[[Array], tuple[Tree, Array, Array]]
"""From the cotangent of a head's outputs to those of its parameters, the support and the query embeddings."""


class Backend(Protocol):
    """One array library, set to a device, a floating dtype and a source of derivatives.

    Attributes:
        name: The library: ``"numpy"``, ``"torch"``…
        device: Where arrays live, as the library writes it.
        dtype: The floating dtype of all data, ``"float32"`` or ``"float64"``.
        xp: The Array API namespace.
        engine: Where derivatives come from.
        kernels: The fast inner computations of `mltk.ops`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102
    @property
    def xp(self) -> Any: ...  # noqa: D102
    @property
    def engine(self) -> Engine: ...  # noqa: D102
    @property
    def kernels(self) -> Kernels: ...  # noqa: D102

    def asarray(self, values: Any) -> Array:
        """Convert to an array of this backend: floating input to its dtype, integers stay integers."""

    def to_numpy(self, array: Array) -> np.ndarray:
        """Convert an array of this backend to NumPy, keeping the dtype."""

    def owns(self, array: Any) -> bool:
        """Whether this is an array of this library on this device and, if floating, of this dtype."""


class Model(Protocol):
    """What the algorithms need of a network."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Dotted name and own shape (without a task axis) of every parameter, in order."""

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """Initial parameters, as a tree of the backend's arrays."""

    def apply(self, params: Tree, x: Array) -> Array:
        """The outputs for inputs ``(T, N, *features)``; parameters with or without the task axis."""


@runtime_checkable
class Layered(Protocol):
    """A model that knows its last layer, as ``adapt_only="head"`` and ``"body"`` need."""

    def last_layer(self, x: Array | None = None) -> tuple[str, ...]:
        """Dotted names of the parameters of the layer that makes the outputs.

        Args:
            x: Inputs ``(T, N, *features)`` to find it by, where they are needed.
        """


class Objective(NamedTuple):
    """What is differentiated: the mean loss of a model's outputs, one value a task.

    Attributes:
        model: The network.
        loss: The loss of its outputs.
        factor: What gradient and Hessian, but not the value, are multiplied by: at no cost, since it enters
            at the cotangent of the value.
    """

    model: Model
    loss: Loss
    factor: float = 1.0


class Linearization(Protocol):
    """The value of an objective, its gradient and its Hessian, at one point, per task.

    Attributes:
        value: Loss per task, ``(T,)``.
        grad: Gradient per task: a tree whose leaves have a leading task axis.
    """

    value: Array
    grad: Tree

    def hvp(self, v: Tree) -> Tree:
        """The exact Hessian product, per task.

        Args:
            v: A tangent for the parameters that ``grad`` holds.

        Returns:
            The derivative of ``⟨grad, v⟩`` for *all* parameters, also those that ``grad`` leaves out.
        """


class Engine(Protocol):
    """The one question that algorithms ask of a backend's library.

    Attributes:
        name: As given to `mltk.backend`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    def linearize(
        self,
        objective: Objective,
        params: Tree,
        x: Array,
        y: Array,
        *,
        wrt: Collection[str] | None = None,
        curvature: bool = True,
    ) -> Linearization:
        """Value, gradient and Hessian of the objective on the examples ``(x, y)``.

        Args:
            objective: Model and loss.
            params: Parameters, each with or without a leading task axis.
            x: Inputs ``(T, N, *features)``.
            y: Targets ``(T, N, …)``.
            wrt: Dotted names of the parameters that the gradient is taken for; ``None`` for all.
            curvature: Whether `Linearization.hvp` will be called.
        """

    def vjp(self, model: Model, params: Tree, x: Array) -> tuple[Array, Callable[[Array], Tree]]:
        """The outputs of a model, and the function that pulls their cotangent back to the parameters."""

    def head(
        self, head: Head, p: Tree, support: Array, target: Array, query: Array
    ) -> tuple[Array, HeadPullback]:
        """The outputs of a head for the query embeddings, and the function that pulls their cotangent back.

        Args:
            head: The head.
            p: Its parameters, each with or without a leading task axis.
            support: Support embeddings ``(T, N, d)``.
            target: Their targets ``(T, N, o)``, floating.
            query: Query embeddings ``(T, M, d)``.
        """


class Learner(Protocol):
    """A meta-learner: training, evaluation and what is built on them use these four methods alone."""

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """Initial meta-parameters."""

    def adapt(self, meta_params: Tree, support_x: Array, support_y: Array) -> Any:
        """What is learned from the support sets, per task."""

    def predict(self, state: Any, query_x: Array) -> Array:
        """Logits or regression values for the query sets."""

    def value_and_grad(self, meta_params: Tree, episode: Any) -> tuple[Array, Tree]:
        """The meta-loss, a mean over tasks, and its gradient.

        Args:
            meta_params: As from `init`.
            episode: An `mltk.Episode` on the backend of the meta-parameters.

        Returns:
            A 0-d array, and a tree like ``meta_params``.
        """


Trainable = Annotated[Learner, has("value_and_grad", "mltk.algorithms.MAML(...)")]
"""What trains, checked for that."""

Predicting = Annotated[Learner, has("predict", "mltk.algorithms.MAML(...)")]
"""What predicts, likewise."""
