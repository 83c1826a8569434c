"""Specimens: right and deliberately wrong implementations in plain Torch, which prove the diagnosis.

They are written as users write them, independently of mltk's own inner loop and of the catalogue of mistakes.
Each declares what it is by the decorator `specimen`. The self-test runs each as a candidate: the wrong ones
must be found and named, no right one accused.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from mltk.oracle.specimens.declared import DECLARED, UNKNOWN, Specimen

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")  # each declares its specimens

_BOTH = ("torch-func", "higher", "jax", "learn2learn", "torchmeta")

PEERS = {"maml": (*_BOTH, "torch-loop", "torch-batched", "torchopt"), "fomaml": _BOTH}
"""The adapters to other libraries that are specimens, for each computation."""

CORRECT: tuple[Specimen, ...] = (
    *(each for each in DECLARED.values() if each.mistake is None),
    *(Specimen(f"{name}-{peer}", name, peer) for name, peers in PEERS.items() for peer in peers),
)
"""Never to be accused."""

WRONG: tuple[Specimen, ...] = tuple(each for each in DECLARED.values() if each.mistake not in (None, UNKNOWN))
"""Each to be found and named."""

UNNAMED: tuple[Specimen, ...] = tuple(each for each in DECLARED.values() if each.mistake == UNKNOWN)
"""Each to be found, and no name given."""

SPECIMENS: tuple[Specimen, ...] = (*CORRECT, *WRONG, *UNNAMED)

__all__ = ["CORRECT", "SPECIMENS", "UNKNOWN", "UNNAMED", "WRONG", "Specimen"]
