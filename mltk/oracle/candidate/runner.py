"""How a candidate is called: as a function here, in a process of its own, or as a program."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Thread
from typing import Any, Protocol

from mltk.errors import SettingError
from mltk.oracle.candidate.calling import call, places, stack
from mltk.oracle.candidate.command import Command, CommandRunner
from mltk.oracle.candidate.conversion import check_format, converter
from mltk.oracle.candidate.loading import CandidateError, Loaded, of_function, of_peer
from mltk.oracle.candidate.process import Process
from mltk.oracle.candidate.request import Outcome, Problem, request
from mltk.oracle.case import Case
from mltk.oracle.computation import Computation
from mltk.peers import HeadPeer, Peer


class Runner(Protocol):
    """Calls a candidate; a context manager."""

    def run(self, computation: Computation, case: Case) -> Outcome:
        """What the candidate returns in a case.

        Raises:
            CandidateError: If it cannot be imported.
        """

    def restart(self) -> bool:
        """Have the candidate forget what it kept from earlier calls; whether that is possible."""

    def close(self) -> None:
        """End what was started."""

    def __enter__(self) -> Runner: ...

    def __exit__(self, *_: object) -> None: ...


def runner(
    candidate: str | Callable[..., Any] | Peer | HeadPeer | Command,
    *,
    arrays: str = "torch",
    dtype: str = "float64",
    timeout: float = 20.0,
) -> Runner:
    """Prepare the calls of a candidate.

    Args:
        candidate: ``"package.module:function"``, ``"path/to/file.py:function"`` or the name of a peer, which
            run in a process of their own; a function or peer, which runs in this process; or a `Command`, a
            program in any language.
        arrays: What it is given: ``"torch"``, ``"numpy"`` or ``"jax"``; a program is given JSON.
        dtype: Their precision, ``"float64"`` or ``"float32"``.
        timeout: Seconds for a call.

    Raises:
        CandidateError: If it does not exist, cannot be imported or is no function.
        SettingError: If an argument is none of these.
    """
    check_format(arrays, dtype)
    if not timeout > 0:
        raise SettingError(f"timeout is {timeout!r}; expected a positive number of seconds")
    if isinstance(candidate, Command):
        return CommandRunner(candidate, dtype=dtype, timeout=timeout)
    if isinstance(candidate, str):
        return Process(candidate, arrays=arrays, dtype=dtype, timeout=timeout)
    if not callable(candidate) and not hasattr(candidate, "available"):
        raise CandidateError(f"the candidate is {candidate!r}; expected a function, its name, or a peer")
    loaded = of_function(candidate) if callable(candidate) else of_peer(candidate)
    try:
        converter(arrays, dtype)
    except ImportError as error:
        raise CandidateError(f"arrays={arrays!r}: {error}") from error
    return Live(loaded, arrays=loaded.arrays or arrays, dtype=dtype, timeout=timeout)


class Live:
    """A runner for a function of this process, called in a thread so that it may hang."""

    def __init__(self, loaded: Loaded, *, arrays: str, dtype: str, timeout: float) -> None:
        self._loaded = loaded
        self._arrays, self._dtype = arrays, dtype
        self._timeout = timeout
        self._hangs = False

    def run(self, computation: Computation, case: Case) -> Outcome:
        """See `Runner.run`."""
        if (refusal := self._loaded.ability.refusal(computation.name)) is not None:
            return Outcome(None, refusal)
        if self._hangs:
            return Outcome(None, Problem("hangs", "it is not called again after it has hung"))
        done: list[Outcome | BaseException] = []

        def target() -> None:
            try:
                asked, function = request(computation, case), self._loaded.function_for(computation.name)
                form = {"arrays": self._arrays, "dtype": self._dtype}
                done.append(call(function, asked, **form, folder=self._loaded.folder))
            except BaseException as error:  # raised again in the caller's thread
                done.append(error)

        thread = Thread(target=target, daemon=True)
        thread.start()
        thread.join(self._timeout)
        if not done:
            self._hangs = True
            frames = stack(sys._current_frames().get(thread.ident or 0))
            place = places(frames, self._loaded.folder)
            return Outcome(None, Problem("hangs", f"no answer within {self._timeout:g} seconds{place}"))
        if isinstance(done[0], BaseException):
            raise done[0]
        return done[0]

    def restart(self) -> bool:
        """See `Runner.restart`."""
        return False

    def close(self) -> None:
        """See `Runner.close`."""

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        pass
