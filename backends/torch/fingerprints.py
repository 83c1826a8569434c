"""What decides the results of Torch's tensors and modules, for `mltk.training.fingerprint`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import Module
from torch.nn.parameter import is_lazy

from mltk.training.fingerprint import Facts, array_text, attributes_of, code_of, digest, fingerprint

from .module_model import ModuleModel
from .structure import HOOKS, STANDARD


def of_tensor(tensor: torch.Tensor, _trained: bool) -> Facts:
    """Dtype, shape and a digest of the values."""
    return {"": _text(tensor)}


def of_module(module: Module, trained: bool) -> Facts:
    """The kind and settings of each submodule, its code if it is the user's, and its constants.

    Constants are the buffers and the frozen parameters; of a module that is not trained, all parameters.
    """
    parameters = {name: p for name, p in module.named_parameters() if not (trained and p.requires_grad)}
    return _structure(module) | _constants({**dict(module.named_buffers()), **parameters})


def of_model(model: ModuleModel, _trained: bool) -> Facts:
    """The structure of its module, its constants, and what it takes as inputs and output."""
    facts = _structure(model._module) | _constants(model.constants)
    facts |= {} if model._output is None else {"(output)": repr(model._output)}
    return facts | fingerprint("(inputs)", model._inputs)


def _constants(tensors: Mapping[str, torch.Tensor]) -> Facts:
    return {name: _text(tensor) for name, tensor in tensors.items()}


def _structure(module: Module) -> Facts:
    facts: Facts = {}
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            facts[name] = f"{part.original_name} {digest(str(getattr(part, 'inlined_graph', '')))}"
            continue
        own = {key: value for key, value in attributes_of(part).items() if key not in STANDARD}
        settings = {key: value for key, value in own.items() if isinstance(value, bool | int | float | str)}
        words = [f"{key}={value!r}" for key, value in sorted(settings.items())]
        words += [] if part.training else ["in evaluation mode"]
        facts[name] = f"{type(part).__qualname__}({', '.join(words)})"
        beside: dict[str, Any] = {key: value for key, value in own.items() if key not in settings}
        beside |= {key: [*hooks.values()] for key in HOOKS if (hooks := vars(part)[key])}
        code = code_of(type(part))
        if code is not None:
            facts[f"{name}.code".lstrip(".")] = code
        for key, value in beside.items():
            if not isinstance(value, Module):
                facts |= fingerprint(f"{name}.{key}".lstrip("."), value, trained=True)
    return facts


def _text(tensor: torch.Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    if is_lazy(tensor) or tensor.is_meta:
        return f"{kind} without values"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"{kind} {tuple(tensor.shape)} {digest(repr(tensor.detach().cpu()))}"
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return array_text(kind, tuple(tensor.shape), flat.view(torch.uint8).numpy().data)
