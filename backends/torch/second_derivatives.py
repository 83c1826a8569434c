"""Kernels of Torch that can be differentiated twice, and clear words where there are none."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import nn

from mltk.errors import UnsupportedError

NOT_IMPLEMENTED = re.compile(r"derivative for '?(?:aten::)?(?P<operation>\w+?)'? is not implemented")
CUDNN_RNN = "Double backwards is not supported for CuDNN RNNs"

HINTS = {
    "attention": "run the forward pass under torch.nn.attention.sdpa_kernel(SDPBackend.MATH)",
    "transformer_encoder": "call torch.backends.mha.set_fastpath_enabled(False) before the forward pass",
    "rnn": "run the forward pass under torch.backends.cudnn.flags(enabled=False)",
    "cdist": "write the distances by differences and sums, or use mltk.pairwise_sqeuclidean",
    "pdist": "write the distances by differences and sums, or use mltk.pairwise_sqeuclidean",
}
"""What helps against an operation without a second derivative, by a part of its name."""

OTHERWISE = "write it by operations that have one, or use a first-order learner (first_order=True), if any"


class Switch(NamedTuple):
    """How to get a setting, how to set it, and what is needed."""

    get: Callable[[], bool]
    put: Callable[[bool], Any]
    needed: bool


class Switches:
    """Global settings of Torch that are as we need them for as long as any thread needs them.

    They belong to the process. Saving and restoring them in each thread would change them below another
    thread that still needs them, and could leave them changed for good.
    """

    def __init__(self, *switches: Switch) -> None:
        self._switches = switches
        self._lock, self._users, self._before = Lock(), 0, [False] * len(switches)

    def __enter__(self) -> None:
        """Set them, unless another user has."""
        with self._lock:
            if self._users == 0:
                self._before = [switch.get() for switch in self._switches]
                for switch, before in zip(self._switches, self._before, strict=True):
                    if before is not switch.needed:
                        switch.put(switch.needed)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        """Set them as they were before, unless another user is left."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                for switch, before in zip(self._switches, self._before, strict=True):
                    if before is not switch.needed:
                        switch.put(before)


def _cudnn_enabled() -> bool:
    return bool(torch.backends.cudnn.enabled)


def _set_cudnn(enabled: bool) -> None:
    torch.backends.cudnn.enabled = enabled


_cuda, _mha = torch.backends.cuda, torch.backends.mha

MATHEMATICAL_ATTENTION = Switches(
    Switch(_cuda.math_sdp_enabled, _cuda.enable_math_sdp, True),
    Switch(_cuda.flash_sdp_enabled, _cuda.enable_flash_sdp, False),
    Switch(_cuda.mem_efficient_sdp_enabled, _cuda.enable_mem_efficient_sdp, False),
    Switch(_cuda.cudnn_sdp_enabled, _cuda.enable_cudnn_sdp, False),
    Switch(_mha.get_fastpath_enabled, _mha.set_fastpath_enabled, False),
)
"""A context without the fused attention kernels, which have no second (or no) derivative."""

PLAIN_RECURRENCE = Switches(Switch(_cudnn_enabled, _set_cudnn, False))
"""A context without cuDNN, whose recurrent layers have no second derivative."""


ATTENDING = (
    nn.MultiheadAttention,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)
"""Torch's modules that compute attention; those of other packages may."""


def make_twice_differentiable(modules: Iterable[nn.Module]) -> None:
    """Let calls of modules, where gradients are recorded, use kernels that can be differentiated twice."""
    for module in modules:
        recurrent = isinstance(module, nn.RNNBase)
        if recurrent or isinstance(module, ATTENDING) or not type(module).__module__.startswith("torch."):
            contexts = PLAIN_RECURRENCE if recurrent else MATHEMATICAL_ATTENTION
            vars(module)["_compiled_call_impl"] = _Call(module, contexts)


class _Call:
    """A module's call in a context, in the place where Torch keeps calls that it has compiled."""

    __slots__ = ("_context", "_module")

    def __init__(self, module: nn.Module, context: Switches) -> None:
        self._module, self._context = ref(module), context  # a cycle would keep graphs alive

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module: Any = self._module()
        if not torch.is_grad_enabled():
            return module._call_impl(*args, **kwargs)
        with self._context:
            return module._call_impl(*args, **kwargs)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn Torch's errors on derivatives that it does not have into one that names what helps.

    Args:
        what: What is differentiated, for the message.

    Raises:
        UnsupportedError: Instead of them.
    """
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        found = NOT_IMPLEMENTED.search(str(error))
        if found is None and CUDNN_RNN not in str(error):
            raise
        operation = found["operation"] if found else "_cudnn_rnn_backward"
        hint = next((hint for part, hint in HINTS.items() if part in operation), OTHERWISE)
        raise UnsupportedError(
            f"{what} needs the derivative of {operation}, which Torch does not have; {hint}"
        ) from error


def gradients(
    outputs: torch.Tensor | Sequence[torch.Tensor],
    inputs: Collection[torch.Tensor],
    cotangents: torch.Tensor | Sequence[torch.Tensor] | None = None,
    *,
    what: str,
    create_graph: bool = False,
    retain: bool = False,
) -> list[torch.Tensor]:
    """`torch.autograd.grad` with zeros for what the outputs do not depend on, and `explained` errors."""
    with explained(what):
        return list(
            torch.autograd.grad(
                outputs,
                list(inputs),
                cotangents,
                create_graph=create_graph,
                retain_graph=retain or create_graph,
                allow_unused=True,
                materialize_grads=True,
            )
        )
