"""Adapters to other libraries: parameters, episode and settings in, loss and gradients out.

The benchmark times them and the oracle judges them. A library is imported only when its adapter is used.
"""

from mltk.peers.easyfsl import EasyFSL
from mltk.peers.higher import Higher
from mltk.peers.jax import Jax
from mltk.peers.learn2learn import Learn2Learn
from mltk.peers.peer import Case, HeadPeer, Peer, Result, to_numpy
from mltk.peers.torch_alone import TorchBatched, TorchFunc, TorchLoop, TorchPrototypical
from mltk.peers.torchmeta import Torchmeta
from mltk.peers.torchopt import TorchOpt

PEERS: tuple[Peer, ...] = (
    TorchFunc(),
    TorchLoop(),
    TorchBatched(),
    Higher(),
    TorchOpt(),
    Jax(),
    Learn2Learn(),
    Torchmeta(),
)
"""All adapters of MAML, whether their library is installed or not."""

PROTOTYPICAL_PEERS: tuple[Peer, ...] = (
    TorchPrototypical(),
    TorchPrototypical("torch-channels-last", channels_last=True),
)
"""All adapters of prototypical networks."""

HEAD_PEERS: tuple[HeadPeer, ...] = (EasyFSL(),)
"""All adapters of heads."""

__all__ = ["HEAD_PEERS", "PEERS", "PROTOTYPICAL_PEERS", "Case", "HeadPeer", "Peer", "Result", "to_numpy"]
