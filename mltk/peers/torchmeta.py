"""`torchmeta` (Deleu et al. 2019): its modules, whose parameters are an argument, and its inner step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

from mltk.peers.peer import Adapter, Case, Result


@dataclass(frozen=True)
class Torchmeta(Adapter):
    """See `mltk.peers.Peer`.

    Version 1.8, the last, imports names that today's torchvision no longer has; with that it is unavailable.
    """

    needs = ("torch", "torchmeta")
    name: str = "torchmeta"

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        from torchmeta.utils import gradient_update_parameters

        from mltk.peers.torch_modules import task_by_task, torch_case

        plain, loss, tasks = torch_case(case)
        module = _with_parameters_as_argument(plain)

        def query_loss(support_x: Any, support_y: Any, query_x: Any, query_y: Any) -> Any:
            params = OrderedDict(module.meta_named_parameters())
            for _ in range(case.inner_steps):
                params = gradient_update_parameters(
                    module,
                    loss(module(support_x, params=params), support_y),
                    params=params,
                    step_size=case.inner_lr,
                    first_order=case.first_order,
                )
            return loss(module(query_x, params=params), query_y)

        return task_by_task(dict(module.named_parameters()), tasks, query_loss)


def _with_parameters_as_argument(plain: Any) -> Any:
    """The same network of torchmeta's layers, where it has one of its own, holding the same numbers."""
    from torch import nn
    from torchmeta import modules

    def layer_of(layer: nn.Module) -> nn.Module:
        made: nn.Module
        match layer:
            case nn.Linear():
                made = modules.MetaLinear(layer.in_features, layer.out_features, layer.bias is not None)
            case nn.Conv2d():
                channels, window = (layer.in_channels, layer.out_channels), layer.kernel_size
                options = {"stride": layer.stride, "padding": layer.padding, "bias": layer.bias is not None}
                made = modules.MetaConv2d(*channels, window, **options)
            case nn.BatchNorm1d():
                made = modules.MetaBatchNorm1d(layer.num_features, layer.eps, track_running_stats=False)
            case nn.BatchNorm2d():
                made = modules.MetaBatchNorm2d(layer.num_features, layer.eps, track_running_stats=False)
            case nn.LayerNorm():
                made = modules.MetaLayerNorm(layer.normalized_shape, layer.eps)
            case _:
                made = layer
        return made

    module = modules.MetaSequential(*map(layer_of, plain)).to(next(plain.parameters()).dtype)
    module.load_state_dict(plain.state_dict())
    return module


def hardness_of_torchmeta(support: Any, support_y: Any, query: Any, query_y: Any, ways: int) -> Any:
    """What `torchmeta.utils.metrics.hardness_metric` gives for features at hand; ``None`` where it is not.

    The network that it fetches on every call gives them: those of the support set, then of the queries. Its
    file is loaded by itself, since the rest of version 1.8 wants an old torchvision.

    Args:
        support: Features ``(T, N, d)``, NumPy.
        support_y: Their labels ``(T, N)``.
        query: Features ``(T, M, d)``.
        query_y: Their labels ``(T, M)``.
        ways: Classes a task.

    Returns:
        The hardness ``(T,)``, NumPy.
    """
    import torch

    found = find_spec("torchmeta")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0], "utils")
    outputs = iter([torch.as_tensor(support), torch.as_tensor(query)])

    class Network(torch.nn.Module):
        def forward(self, images: Any) -> Any:
            return next(outputs)

    sources = [(folder / name).read_text() for name in ("prototype.py", "metrics.py")]
    space: dict[str, Any] = {}
    for source in sources:
        exec(source.replace("from torchmeta.utils.prototype import get_prototypes", ""), space)
    images = [torch.zeros((*labels.shape, 3, 1, 1)) for labels in (support_y, query_y)]
    sets = [(x, torch.as_tensor(y)) for x, y in zip(images, (support_y, query_y), strict=True)]
    with mock.patch.object(torch.hub, "load", return_value=Network()):
        return space["hardness_metric"](dict(zip(("train", "test"), sets, strict=True)), ways).numpy()
