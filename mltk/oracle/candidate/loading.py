"""Finding a candidate by its name: ``package.module:function``, ``path/to/file.py:function``, or a peer's."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np

from mltk.errors import MltkError, UnsupportedError
from mltk.oracle import layers
from mltk.oracle.candidate.calling import Candidate, describe
from mltk.oracle.candidate.request import Problem
from mltk.oracle.candidate.settings import Settings
from mltk.peers import HEAD_PEERS, PEERS, Case, HeadPeer, Peer

MAML_COMPUTATIONS = ("maml", "fomaml")
"""What the peers of `mltk.peers.PEERS` compute."""


class CandidateError(MltkError):
    """A candidate does not exist, cannot be imported or is no function."""


@dataclass(frozen=True)
class Ability:
    """What a candidate can be asked.

    Attributes:
        computations: The names of what it computes; ``None`` if it may be asked for everything.
        absent: Why it cannot be used here; ``None`` if it can.
    """

    computations: tuple[str, ...] | None = None
    absent: str | None = None

    def refusal(self, computation: str) -> Problem | None:
        """Why it cannot be asked for a computation."""
        if self.absent is not None:
            return Problem("unsupported", self.absent)
        if self.computations is not None and computation not in self.computations:
            return Problem("unsupported", f"computes {' and '.join(self.computations)} alone")
        return None


@dataclass(frozen=True)
class Loaded:
    """A candidate that can be called.

    Attributes:
        function_for: Its function for the computation of a name.
        folder: Where its own files are, if that is known.
        ability: What it can be asked.
        arrays: The library of the arrays that it always takes; ``None`` if it takes what it is given.
    """

    function_for: Callable[[str], Candidate]
    folder: Path | None = None
    ability: Ability = Ability()
    arrays: str | None = None


def load(name: str, computation: str = "") -> Candidate:
    """The function of a name.

    Args:
        name: As of `find`.
        computation: What a peer is asked for.

    Raises:
        CandidateError: If there is none.
    """
    return find(name).function_for(computation)


def find(name: str) -> Loaded:
    """The candidate of a name, and what it can do.

    Args:
        name: ``"package.module:function"``, ``"path/to/file.py:function"``, or the name of a peer.

    Raises:
        CandidateError: If there is none.
    """
    module_name, colon, attribute = name.rpartition(":")
    if not colon:
        known: dict[str, Peer | HeadPeer] = {peer.name: peer for peer in PEERS}
        known |= {peer.name: peer for peer in HEAD_PEERS}
        if name not in known:
            raise CandidateError(
                f"the candidate is {name!r}; expected package.module:function, path/to/file.py:function, "
                f"or one of {', '.join(known)}"
            )
        return of_peer(known[name])
    module = _module(module_name)
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            functions = [
                key
                for key, each in vars(module).items()
                if inspect.isfunction(each) and each.__module__ == module.__name__
            ]
            raise CandidateError(
                f"{module_name} has no function {attribute!r}; it has {', '.join(functions) or 'none'}"
            )
        value = getattr(value, part)
    if not callable(value):
        raise CandidateError(f"{name} is a {type(value).__name__}; expected a function")
    return of_function(value)


def of_function(function: Candidate) -> Loaded:
    """A function as a candidate."""
    return Loaded(lambda computation: function, own_folder(function))


def of_peer(peer: Peer | HeadPeer) -> Loaded:
    """An adapter to another library as a candidate."""
    if hasattr(peer, "prepare"):
        return _of_maml(cast("Peer", peer))
    return _of_head(peer)


def _of_maml(peer: Peer) -> Loaded:
    def candidate(params: dict[str, Any], data: SimpleNamespace, settings: Settings) -> Any:
        from mltk.backend import backend
        from mltk.episode import Episode

        if settings.get("adapted") is not None:
            raise UnsupportedError(f"{peer.name} adapts all parameters")
        numpy = backend("numpy", dtype=str(data.support_x.dtype))
        arrays = (data.support_x, data.support_y, data.query_x, data.query_y)
        case = Case(
            layers.model(settings["layers"]),
            settings["loss"],
            params={name: np.array(value) for name, value in params.items()},
            episode=Episode(*arrays, ways=settings["ways"], backend=numpy),
            inner_lr=settings["inner_lr"],
            inner_steps=settings["inner_steps"],
            first_order=settings["first_order"],
        )
        return peer.prepare(case)()

    ability = Ability(MAML_COMPUTATIONS, peer.available())
    return Loaded(lambda computation: candidate, own_folder(peer), ability, "numpy")


def _of_head(peer: HeadPeer) -> Loaded:
    def candidate(
        params: dict[str, Any], data: SimpleNamespace, settings: Settings, *, computation: str
    ) -> Any:
        import torch

        leaves = {"support_x": data.support_x, "query_x": data.query_x, **params}
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in leaves.items()}
        inner = {name: leaves[name] for name in params}
        outer = SimpleNamespace(
            support_x=leaves["support_x"], support_y=data.support_y, query_x=leaves["query_x"]
        )
        logits = peer.logits(computation, inner, outer, settings)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), data.query_y.flatten())
        grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        return {"logits": logits, "loss": loss, "gradients": dict(zip(leaves, grads, strict=True))}

    ability = Ability(peer.computations, peer.available())
    return Loaded(
        lambda computation: functools.partial(candidate, computation=computation),
        own_folder(peer),
        ability,
        "torch",
    )


def own_folder(function: Any) -> Path | None:
    """The folder of a candidate's own files: that of its module, or of its outermost package."""
    if isinstance(function, functools.partial):
        function = function.func
    target = inspect.unwrap(function) if callable(function) else function
    with contextlib.suppress(TypeError, OSError):
        if not (inspect.isroutine(target) or inspect.isclass(target)):
            target = type(target)
        file = Path(inspect.getfile(target)).resolve()
        folder = file.parent
        while (folder / "__init__.py").is_file():
            folder = folder.parent
        package = file.relative_to(folder).parts[0]
        return folder if package == file.name else folder / package
    return None


def _module(name: str) -> ModuleType:
    """A module by its name or its file."""
    is_file = name.endswith(".py")
    try:
        return _from_file(Path(name)) if is_file else importlib.import_module(name)
    except CandidateError:
        raise
    except ModuleNotFoundError as error:
        if error.name and not is_file and (name == error.name or name.startswith(f"{error.name}.")):
            raise CandidateError(
                f"there is no module {name!r}, neither installed nor in the folder {Path.cwd()}"
            ) from error
        raise CandidateError(f"{name} cannot be imported: {error}") from error
    except BaseException as error:  # a module may raise anything, SystemExit as well
        folder = Path(name).resolve().parent if is_file else Path.cwd()
        raise CandidateError(f"{name} cannot be imported: {describe(error, folder)}") from error


def _from_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise CandidateError(f"there is no file {file}")
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python file.py` does, for the modules next to it
    name = file.stem if file.stem not in sys.modules else f"candidate_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None:
        raise CandidateError(f"{file} cannot be imported: it is no file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
