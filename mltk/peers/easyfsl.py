"""`easyfsl` (Bennequin 2021): prototypical and matching networks, on embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mltk.errors import UnsupportedError
from mltk.peers.peer import Adapter


@dataclass(frozen=True)
class EasyFSL(Adapter):
    """See `mltk.peers.HeadPeer`.

    Its embeddings are the backbone's, which is the identity here. Its matching networks come with encoders of
    the whole support set, of which it has no setting; they are replaced by such as change nothing.
    """

    needs = ("torch", "easyfsl", "easyfsl.methods")
    name: str = "easyfsl"
    computations: tuple[str, ...] = ("prototypical", "matching")

    def logits(
        self, computation: str, params: Mapping[str, Any], data: Any, settings: Mapping[str, Any]
    ) -> Any:
        """See `mltk.peers.HeadPeer.logits`.

        Raises:
            UnsupportedError: For cosines to prototypes and for temperatures, which easyfsl does not have, and
                for matching networks in another precision than float32, in which its labels are.
        """
        import torch
        from easyfsl.methods import MatchingNetworks, PrototypicalNetworks

        if computation not in self.computations:
            raise UnsupportedError(f"easyfsl has no {computation}; it has {', '.join(self.computations)}")
        if params or settings["temperature"] != 1:
            raise UnsupportedError("easyfsl has no temperature")
        if computation == "prototypical":
            if settings["distance"] != "sqeuclidean":
                raise UnsupportedError("easyfsl has no prototypical networks with cosines")
            network = PrototypicalNetworks()
        else:
            if data.support_x.dtype != torch.float32:
                raise UnsupportedError("the labels of easyfsl's matching networks are always float32")
            features = data.support_x.shape[-1]
            encoders = _no_context(features)
            network = MatchingNetworks(
                feature_dimension=features, support_encoder=encoders[0], query_encoder=encoders[1]
            )
        outputs = []
        for support, labels, query in zip(data.support_x, data.support_y, data.query_x, strict=True):
            network.process_support_set(support, labels)
            outputs.append(network(query))
        return torch.stack(outputs)


def _no_context(features: int) -> tuple[Any, Any]:
    """An encoder of the support set and one of the queries, whose additions to the embeddings are zero."""
    import torch
    from torch import nn

    class Support(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return torch.cat([torch.zeros_like(x)] * 2, -1), None

    class Query(nn.Module):
        def forward(
            self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros_like(x[:, :features]), torch.zeros_like(x[:, :features])

    return Support(), Query()
