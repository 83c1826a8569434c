"""What takes part in a comparison: a learner that has been trained, under a name."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mltk import tree
from mltk.backend import backend_of, check_backend
from mltk.checks import check_has
from mltk.contracts import Backend, Learner
from mltk.errors import MismatchError, SettingError
from mltk.tree import Tree


@dataclass(frozen=True)
class Entry:
    """A learner with its meta-parameters, and what tables call it.

    Attributes:
        name: What it is called.
        learner: A meta-learner; only ``adapt`` and ``predict`` are used.
        meta_params: Its meta-parameters.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.Prototypical(mltk.models.mlp([5, 3]))
        >>> entry = mltk.evaluation.Entry("narrow", learner, learner.init(mltk.backend("numpy"), seed=0))
        >>> entry.backend().name
        'numpy'
    """

    name: str
    learner: Learner
    meta_params: Tree = field(repr=False)

    def backend(self, chosen: Backend | None = None) -> Backend:
        """Where it computes: where that was chosen, or else where its meta-parameters are.

        Raises:
            SettingError: If nothing was chosen, and there are no meta-parameters to tell.
        """
        if chosen is not None:
            return chosen
        if not tree.leaves(self.meta_params):
            raise SettingError(
                f"backend is None, and the meta-parameters of {self.name} hold no array to tell; "
                "expected a backend"
            )
        return backend_of(self.meta_params)


def backend_of_all(entries: Sequence[Entry], chosen: Backend | None = None) -> Backend:
    """Where all of them compute: those without meta-parameters go along with the others.

    Raises:
        SettingError: If nothing was chosen, and none of them has meta-parameters to tell.
        MismatchError: If the meta-parameters of two of them are on different backends.
    """
    telling = [entry for entry in entries if chosen is not None or tree.leaves(entry.meta_params)]
    first, *others = telling or entries[:1]
    backend = first.backend(chosen)
    check_backend(backend)
    for entry in others:
        other = entry.backend(chosen)
        if (other.name, other.device, other.dtype) != (backend.name, backend.device, backend.dtype):
            raise MismatchError(
                f"the meta-parameters of {entry.name} are on {other.name} {other.device} {other.dtype}; "
                f"expected {backend.name} {backend.device} {backend.dtype} as for {first.name}"
            )
    return backend


def check_named(name: str, learners: Any) -> list[tuple[str, Any]]:
    """What stands under which name.

    Raises:
        SettingError: If it is no dict of at least one, or a name is no text.
    """
    if not isinstance(learners, Mapping) or not learners:
        raise SettingError(
            f"{name} is {reprlib.repr(learners)}; expected a dict of pairs (learner, meta_params), by name"
        )
    for key in learners:
        if not isinstance(key, str):
            raise SettingError(f"{name} has the name {key!r}; expected texts as names")
    return list(learners.items())


def entry_of(value: Any, name: str, *, called: str | None = None) -> Entry:
    """An entry, or a pair of a learner and its meta-parameters as one.

    Args:
        value: Either of them.
        name: What a pair is called, and errors call the argument.
        called: What an entry is called here, whatever its own name.

    Raises:
        SettingError: If it is neither.
    """
    if isinstance(value, Entry):
        return value if called is None else replace(value, name=called)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise SettingError(
            f"{name} is {type(value).__name__}; expected a pair (learner, meta_params), "
            "or an entry of an evaluator"
        )
    learner, meta_params = value
    check_has(f"the learner of {name}", learner, "predict", "mltk.algorithms.MAML(...)")
    return Entry(name, learner, meta_params)
