"""The two ways in float64 to what mltk computes through a learner: analytic on NumPy, autograd on Torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mltk import tree
from mltk.backend import backend as choose_backend
from mltk.contracts import Backend
from mltk.episode import Episode
from mltk.oracle.case import Values, mapped
from mltk.oracle.computation import NUMPY, TORCH, Route
from mltk.tree import Tree

OnBackend = Callable[[Backend, Mapping[str, Any], Values], Values]
"""From a backend, the settings and the inputs of a case to its outputs, arrays of any library."""


def both(compute: OnBackend) -> dict[str, Route]:
    """The same public interface of mltk, on the hand-derived rules and on Torch's autograd."""

    def on(name: str, engine: str) -> Route:
        def route(settings: Mapping[str, Any], inputs: Values) -> Values:
            backend = choose_backend(name, dtype="float64", engine=engine)
            return mapped(backend.to_numpy, compute(backend, settings, inputs))

        return route

    return {NUMPY: on("numpy", "analytic"), TORCH: on("torch", "autograd")}


def params_of(backend: Backend, inputs: Values) -> Tree:
    """The parameters of a case, as a nested tree."""
    return tree.unflatten({name: backend.asarray(value) for name, value in inputs["params"].items()})


def episode_of(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> Episode:
    """The episode of a case, its values checked."""
    arrays = (inputs[name] for name in ("support_x", "support_y", "query_x", "query_y"))
    episode = Episode(*(backend.asarray(a) for a in arrays), ways=settings.get("ways"), backend=backend)
    return episode.validate()
