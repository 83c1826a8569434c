"""Who takes part: mltk itself, through the interface of the peers, and the peers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import mltk
from mltk import tree
from mltk.algorithms import MAML
from mltk.episode import Episode
from mltk.errors import BackendError, SettingError
from mltk.peers import PEERS, Case, Peer, Result


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
        old = case.episode
        backend = mltk.backend(self.backend, engine=self.engine, dtype=old.backend.dtype)
        arrays = (old.support_x, old.support_y, old.query_x, old.query_y)
        episode = Episode(*(backend.asarray(array) for array in arrays), ways=old.ways, backend=backend)
        params = tree.map(backend.asarray, tree.unflatten(case.params))
        maml = MAML(
            case.model,
            case.loss,
            inner_lr=case.inner_lr,
            inner_steps=case.inner_steps,
            first_order=case.first_order,
            checkpoint=self.checkpoint,
        )

        def meta_gradient() -> Result:
            value, grads = maml.value_and_grad(params, episode)
            return value, tree.flatten(grads)

        return meta_gradient


NUMPY = Mltk("mltk-numpy", "numpy")
TORCH = Mltk("mltk-torch-analytic", "torch")
CONTESTANTS: tuple[Peer, ...] = (
    NUMPY,
    TORCH,
    Mltk("mltk-torch-autograd", "torch", "autograd"),
    *PEERS,
)
"""Everyone who may take part, in the order of their turns."""


def choose(names: Iterable[str]) -> tuple[Peer, ...]:
    """The contestants of these names, in the order of their turns; all if no name is given.

    Raises:
        SettingError: If there is no contestant of a name.
    """
    wanted = list(names)
    known = [contestant.name for contestant in CONTESTANTS]
    for name in wanted:
        if name not in known:
            raise SettingError(f"there is no contestant {name!r}; expected one of {', '.join(known)}")
    return tuple(c for c in CONTESTANTS if not wanted or c.name in wanted)
