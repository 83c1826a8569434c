"""`torchmeta` (Deleu et al. 2019): its modules, whose parameters are an argument, and its inner step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
