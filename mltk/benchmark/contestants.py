"""Who takes part: mltk itself, through the interface of the peers, and the peers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import mltk
from mltk import tree
from mltk.algorithms import MAML, Prototypical
from mltk.checks import check_choice
from mltk.episode import Episode
from mltk.errors import BackendError
from mltk.optim import Adam, apply_updates
from mltk.peers import PEERS, PROTOTYPICAL_PEERS, Case, Peer, Result
from mltk.tree import Tree


@dataclass(frozen=True)
class Mltk:
    """mltk through its public interface, as a `mltk.peers.Peer`.

    Attributes:
        name: What the tables call it.
        backend: As in `mltk.backend`.
        engine: As in `mltk.backend`.
        checkpoint: As in `mltk.algorithms.MAML`.
    """

    name: str
    backend: str
    engine: str = "analytic"
    checkpoint: bool = False

    def available(self) -> str | None:
        """See `mltk.peers.Peer.available`."""
        try:
            mltk.backend(self.backend, engine=self.engine)
        except BackendError as error:
            return str(error)
        return None

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        params, episode = self._converted(case)
        loop: Any = {name: getattr(case, name) for name in ("inner_lr", "inner_steps", "first_order")}
        maml = MAML(case.model, case.loss, checkpoint=self.checkpoint, **loop)

        def meta_gradient() -> Result:
            value, grads = maml.value_and_grad(params, episode)
            return value, tree.flatten(grads)

        return meta_gradient

    def _converted(self, case: Case) -> tuple[Tree, Episode]:
        """The parameters and the episode on the backend."""
        old = case.episode
        backend = mltk.backend(self.backend, engine=self.engine, dtype=old.backend.dtype)
        return tree.map(backend.asarray, tree.unflatten(case.params)), old.to(backend)


@dataclass(frozen=True)
class MltkPrototypical(Mltk):
    """Training steps of a prototypical network, as `mltk.peers.torch_alone.TorchPrototypical`."""

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        params, episode = self._converted(case)
        learner, optimizer = Prototypical(case.model), Adam()
        memory = optimizer.init(params)

        def step() -> Result:
            nonlocal params, memory
            value, grads = learner.value_and_grad(params, episode)
            updates, memory = optimizer.update(grads, memory, params)
            params = apply_updates(params, updates)
            return value, tree.flatten(grads)

        return step


NUMPY = Mltk("mltk-numpy", "numpy")
TORCH = Mltk("mltk-torch-analytic", "torch")
MAML_CONTESTANTS: tuple[Peer, ...] = (NUMPY, TORCH, Mltk("mltk-torch-autograd", "torch", "autograd"), *PEERS)
CONTESTANTS: dict[str, tuple[Peer, ...]] = {
    "sinusoid-maml": MAML_CONTESTANTS,
    "conv4-maml": MAML_CONTESTANTS,
    "prototypical": (
        MltkPrototypical(NUMPY.name, "numpy"),
        MltkPrototypical(TORCH.name, "torch"),
        MltkPrototypical("mltk-torch-autograd", "torch", "autograd"),
        *PROTOTYPICAL_PEERS,
    ),
}
"""Everyone who may take part in a benchmark, in the order of their turns.

The first, mltk on NumPy, is in float64 the reference of the others.
"""


def choose(benchmark: str, names: Iterable[str]) -> tuple[Peer, ...]:
    """The contestants of these names, in the order of their turns; all if no name is given.

    Raises:
        SettingError: If there is no contestant of a name.
    """
    wanted = list(names)
    known = [contestant.name for contestant in CONTESTANTS[benchmark]]
    for name in wanted:
        check_choice("contestant", name, known)
    return tuple(c for c in CONTESTANTS[benchmark] if not wanted or c.name in wanted)
