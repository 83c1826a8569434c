"""The contracts of adapters, and the meta-gradient that they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import numpy as np

from mltk.episode import Episode
from mltk.errors import UnsupportedError
from mltk.installation import install_hint
from mltk.models import Sequential
from mltk.ops import BatchNorm, MaxPool, ReLU

Result = tuple[Any, dict[str, Any]]
"""A loss, and the gradient of each parameter under its dotted name, as arrays of a peer's library."""


@dataclass(frozen=True)
class Case:
    """A meta-gradient that every implementation must agree on.

    It is that of MAML (Finn et al. 2017, equation 1), or, for the peers that say so, of a learner without an
    inner loop, which ignores ``inner_lr``, ``inner_steps`` and ``first_order``.

    The dtype of the parameters and of the episode is the precision of the computation.

    Attributes:
        model: A sequence of operations that the peers know too: linear, convolution, batch norm over the
            current set, activations, max pooling, flatten.
        loss: ``"mse"`` or ``"cross_entropy"``.
        params: Initial parameters in NumPy, under their dotted names.
        episode: Tasks in NumPy.
        inner_lr: Inner step size.
        inner_steps: Gradient steps on the support set.
        first_order: Whether the Hessian products are left out.
    """

    model: Sequential
    loss: str
    _: KW_ONLY
    params: dict[str, np.ndarray]
    episode: Episode
    inner_lr: float = 0.01
    inner_steps: int = 1
    first_order: bool = False


class Peer(Protocol):
    """Another implementation of MAML, or of the learner that it names."""

    @property
    def name(self) -> str:
        """What the benchmark calls it: lower case, with hyphens."""

    def available(self) -> str | None:
        """Why it cannot be used here; ``None`` if it can."""

    def prepare(self, case: Case) -> Callable[[], Result]:
        """Convert and compile, so that only the computation is left.

        Args:
            case: The meta-gradient.

        Returns:
            A function that computes the mean query loss and its gradient anew at each call, and returns when
            they are there.

        Raises:
            UnsupportedError: If the peer cannot express the model.
        """


class Adapter:
    """What adapters share: they are available where the modules that they need can be imported.

    Attributes:
        needs: The modules.
    """

    needs: ClassVar[tuple[str, ...]] = ("torch",)

    def available(self) -> str | None:
        """See `Peer.available`."""
        return next(filter(None, map(missing, self.needs)), None)


class HeadPeer(Protocol):
    """Heads of another library: from embeddings to logits, on Torch."""

    @property
    def name(self) -> str:
        """What the oracle calls it: lower case, with hyphens."""

    @property
    def computations(self) -> tuple[str, ...]:
        """The names of the oracle's computations that it offers."""

    def available(self) -> str | None:
        """Why it cannot be used here; ``None`` if it can."""

    def logits(
        self, computation: str, params: Mapping[str, Any], data: Any, settings: Mapping[str, Any]
    ) -> Any:
        """The logits of the queries, through which gradients flow to the embeddings and the parameters.

        Who calls it makes leaves of the embeddings and the parameters, computes the loss of the logits, and
        has Torch differentiate it.

        Args:
            computation: One of `computations`.
            params: The head's parameters under their names, as Torch tensors.
            data: Has the embeddings ``support_x`` ``(T, N, d)`` and ``query_x`` ``(T, M, d)``, and the labels
                ``support_y`` ``(T, N)``.
            settings: Of the case.

        Returns:
            A Torch tensor ``(T, M, ways)``.

        Raises:
            UnsupportedError: If the library does not have what the settings ask for.
        """


def to_numpy(result: Result) -> tuple[float, dict[str, np.ndarray]]:
    """Convert the result of any peer to NumPy."""
    loss, grads = result
    return float(loss), {name: np.asarray(getattr(g, "detach", lambda g=g: g)()) for name, g in grads.items()}


def missing(module: str) -> str | None:
    """Why a module cannot be imported, and what installs it; ``None`` if it can."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            return f"not installed: {install_hint(module.partition('.')[0])}"
        return f"cannot be imported: {error}"
    except Exception as error:  # a broken installation can raise anything, and must not end a benchmark
        return f"cannot be imported: {type(error).__name__}: {error}"
    return None


def customary(model: Sequential) -> Sequential:
    """The same function with ReLU before max pooling, as the networks that users of the peers write.

    The two commute, and neither has parameters. `mltk.models.conv4` pools first, which is cheaper.

    Raises:
        UnsupportedError: If a batch norm takes the statistics of the support set, which no peer knows.
    """
    layers = list(model.layers)
    for layer in layers:
        if isinstance(layer, BatchNorm) and layer.statistics == "support":
            raise UnsupportedError('the peers have no batch norm with statistics="support"')
    for k, (layer, following) in enumerate(pairwise(model.layers)):
        if isinstance(layer, MaxPool) and isinstance(following, ReLU):
            layers[k : k + 2] = following, layer
    return Sequential(layers)
