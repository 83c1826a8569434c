"""The check of a candidate: test vectors, then random cases, a verdict for each computation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mltk.oracle import random_cases, vectors
from mltk.oracle.candidate import Command, Runner, runner
from mltk.oracle.candidate.calling import some
from mltk.oracle.candidate.command import snippet as command_snippet
from mltk.oracle.candidate.request import Outcome
from mltk.oracle.case import Case, Values
from mltk.oracle.computation import Computation
from mltk.oracle.computations import computation as named
from mltk.oracle.coverage import never_read, never_run
from mltk.oracle.random_cases import FATAL, size
from mltk.oracle.selection import Condition, condition
from mltk.oracle.snippet import snippet
from mltk.oracle.tolerance import disagreement, tolerance
from mltk.oracle.verdict import (
    CHANGES_INPUTS,
    CORRECT,
    FAILURES,
    IN_PART,
    KEEPS_STATE,
    SKIPPED,
    WRONG,
    Failed,
    Report,
    Verdict,
)
from mltk.peers import HeadPeer, Peer

if TYPE_CHECKING:
    from mltk.oracle.diagnosis import Diagnosis

__all__ = ["Report", "Verdict", "check"]

REPEATED = 3
"""How many cases are run twice, to see whether the second call gives the same."""

LOST = 2
"""After so many hangs and crashes the other cases of a computation are not run."""

NO_VERDICT = (WRONG, "not-finite", "raises")
"""Failures that are remarks where the truth is a convention."""

Candidate = str | Callable[..., Any] | Peer | HeadPeer | Command
"""As `mltk.oracle.candidate.runner` takes it."""

Progress = Callable[[str, int, int], None]
"""Called as ``progress(computation, cases run, cases expected)``."""


def check(
    candidate: Candidate,
    computations: Iterable[str | Computation],
    *,
    arrays: str = "torch",
    dtype: str = "float64",
    timeout: float = 20.0,
    examples: int = 50,
    seed: int = 0,
    where: Iterable[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Judge an implementation.

    Args:
        candidate: ``"package.module:function"``, ``"path/to/file.py:function"``, the name of a peer, a
            function, a peer or a `Command`. See `mltk.oracle.candidate.runner`.
        computations: What it shall compute, or the names.
        arrays: What it is given: ``"torch"``, ``"numpy"`` or ``"jax"``; a `Command` is given JSON.
        dtype: Their precision, ``"float64"`` or ``"float32"``.
        timeout: Seconds for a call.
        examples: Random cases for each computation, besides the test vectors.
        seed: Of the random cases.
        where: What a case must be to count: ``"balanced"``, or ``"loss=cross_entropy"``, ``"min_steps=2"``
            and the like, with the settings that vary.
        progress: Told how far the check is.

    Raises:
        CandidateError: If the candidate does not exist, cannot be imported or is no function.
        SettingError: If a computation or setting does not exist, or hypothesis is needed and not installed.
    """
    chosen = [named(each) if isinstance(each, str) else each for each in computations]
    wanted = tuple(where)
    conditions = [condition(each, wanted) for each in chosen]
    if examples > 0:
        random_cases.check_installed()
    given = "json" if isinstance(candidate, Command) else arrays
    with runner(candidate, arrays=arrays, dtype=dtype, timeout=timeout) as calls:
        verdicts = []
        for each, counts in zip(chosen, conditions, strict=True):
            examination = _Examination(calls, each, dtype, counts, progress)
            examination.run_vectors(examples)
            examination.run_random(examples, seed)
            verdicts.append(examination.verdict(candidate, arrays))
    return Report(_name(candidate), given, dtype, tuple(verdicts))


class _Examination:
    """A candidate is asked for one computation."""

    def __init__(
        self,
        calls: Runner,
        computation: Computation,
        dtype: str,
        counts: Condition,
        progress: Progress | None,
    ) -> None:
        self._calls, self._computation, self._dtype = calls, computation, dtype
        self._precision = np.dtype(dtype)
        self._counts, self._progress = counts, progress
        self._total = 0
        self._every: list[Case] = []
        self._ran: list[Case] = []
        self._read: set[str] | None = set()
        self._derived = False
        self._run = 0
        self._errors: list[tuple[float, float, float]] = []
        self._outputs: dict[str, None] = {}
        self._results: list[tuple[Case, Values]] = []
        self._failed: list[Failed] = []
        self._reasons: list[str] = []
        self._accepted: list[str] = []
        self._remarks: list[Failed] = []
        self._shrunk: Failed | None = None
        self._starts_right = False

    def run_vectors(self, examples: int) -> None:
        """Run every case of the test vectors."""
        cases = [each for each in vectors.stored(self._computation.name) if self._counts(each)]
        self._total = len(cases) + (examples if self._computation.random else 0)
        repeated = 0
        for case in cases:
            if sum(each.kind in FATAL for each in self._failed) >= LOST:
                return
            if case.kind == "must-raise":
                self._run_bad(case)
                continue
            outcome, failed = self._run_case(case)
            if case.convention is not None:
                if failed is None or failed.kind in NO_VERDICT:
                    self._remarks += [] if failed is None else [failed]
                    continue
            elif outcome.outputs is not None:
                self._results.append((case, outcome.outputs))
                self._starts_right |= len(self._results) == 1 and failed is None
                if repeated < REPEATED:
                    repeated += 1
                    failed = self._again(case, outcome.outputs) or failed
            if failed is not None:
                self._failed.append(failed)

    def run_random(self, examples: int, seed: int) -> None:
        """Look for a small failing case among random ones."""
        kind = self._kind()
        if kind in (*FATAL, KEEPS_STATE) or (not self._results and not self._failed):
            return
        last: dict[int, Failed] = {}

        def judge(case: Case) -> str | None:
            _, failed = self._run_case(case)
            if failed is None:
                return None
            last[id(case)] = failed
            return failed.kind

        found = random_cases.search(
            self._computation,
            judge,
            dtype=self._dtype,
            examples=examples,
            seed=seed,
            kind=kind,
            counts=self._counts,
        )
        self._shrunk = None if found is None else last[id(found.case)]

    def verdict(self, candidate: Candidate, arrays: str) -> Verdict:
        """What was found."""
        kind = self._kind() or (self._shrunk.kind if self._shrunk else None)
        smallest = self._smallest(kind)
        message = smallest.message if smallest else ""
        shown = True
        if kind not in (None, *FATAL, KEEPS_STATE) and smallest and self._right_when_first(smallest.case):
            message = (
                f"{smallest.message}\n  only after other cases: as the first call of a new process "
                f"this case is right, so the candidate keeps something from call to call"
            )
            kind, shown = KEEPS_STATE, False
        missing = tuple(
            name for name in self._computation.outputs if self._outputs and name not in self._outputs
        )
        if kind is None:
            kind = CORRECT if self._errors else SKIPPED
            message = "" if self._errors else "; ".join(dict.fromkeys(self._reasons)) or "no case was run"
            if {*self._outputs} == {"loss"} and "gradients" in missing:
                kind, message = IN_PART, "the loss is right; no gradients were returned, and none judged"
        code = self._code(candidate, arrays, smallest, kind) if smallest and shown else None
        _, error, allowed = max(self._errors, default=(0.0, None, None))
        return Verdict(
            self._computation.name,
            kind,
            self._run,
            len(self._reasons),
            message,
            error,
            allowed,
            tuple(self._outputs),
            missing,
            tuple(self._failed),
            smallest,
            code,
            self._diagnosis() if kind != KEEPS_STATE else None,
            tuple(self._accepted),
            self._named_remarks() if kind in (CORRECT, IN_PART) else (),
            len(self._ran),
            len(self._every),
            never_run(self._every, self._ran) if self._ran else (),
            never_read(self._ran, self._read) if self._read is not None else (),
            self._derived,
        )

    def _code(self, candidate: Candidate, arrays: str, failed: Failed, kind: str) -> str:
        """A failed case as a program to run."""
        if isinstance(candidate, Command):
            calls = 2 if kind == KEEPS_STATE else 1
            return command_snippet(candidate, self._computation, failed.case, self._dtype, calls=calls)
        return snippet(
            candidate,
            self._computation.name,
            failed.case,
            arrays=arrays,
            dtype=self._dtype,
            kind=kind,
            outputs=failed.outputs,
            changed=failed.changed,
        )

    def _named_remarks(self) -> tuple[Failed, ...]:
        """The remarks, with what is done there if the catalogue has a name for it."""
        results = [(each.case, each.outputs) for each in self._remarks if each.outputs is not None]
        if not results:
            return tuple(self._remarks)
        from mltk.oracle.diagnosis import diagnose

        found = diagnose(self._computation, results, self._precision).findings
        return tuple(
            replace(
                each, message=f"{each.message}; {' or '.join(f.title for f in found)}", names=found[0].names
            )
            if found and each.outputs is not None
            else each
            for each in self._remarks
        )

    def _call(self, case: Case) -> Outcome:
        outcome = self._calls.run(self._computation, case)
        ordinary = case.kind != "must-raise" and case.convention is None
        self._every += [case] * ordinary
        if outcome.problem is not None and outcome.problem.kind == "unsupported":
            self._reasons.append(outcome.problem.message)
        else:
            self._run += 1
            self._ran += [case] * ordinary
        if outcome.outputs is not None:
            self._derived |= outcome.derived
            if outcome.read is None:
                self._read = None
            elif self._read is not None:
                self._read |= {*outcome.read}
        if self._progress is not None:
            done = self._run + len(self._reasons)
            self._progress(self._computation.name, done, max(self._total, done))
        return outcome

    def _run_case(self, case: Case) -> tuple[Outcome, Failed | None]:
        """Run a case that has outputs, and judge it."""
        outcome = self._call(case)
        if outcome.problem is not None:
            if outcome.problem.kind == "unsupported":
                return outcome, None
            return outcome, Failed(case, outcome.problem.kind, outcome.problem.message)
        assert outcome.outputs is not None
        error, allowed = disagreement(outcome.outputs, case.expected), tolerance(case, self._precision)
        if case.convention is None:
            self._errors.append((error / allowed, error, allowed))
        self._outputs |= dict.fromkeys(outcome.outputs)
        if not error <= allowed:
            message = f"{self._where(outcome.outputs, case)}; at most {allowed:.1e} is allowed"
            return outcome, Failed(case, WRONG, message, outcome.outputs, outcome.changed)
        if outcome.changed:
            message = f"the call changes {some(outcome.changed)}"
            return outcome, Failed(case, CHANGES_INPUTS, message, outcome.outputs, outcome.changed)
        return outcome, None

    def _where(self, outputs: Values, case: Case) -> str:
        """How wrong each output is."""
        errors = {name: disagreement({name: value}, case.expected) for name, value in outputs.items()}
        allowed = tolerance(case, self._precision)
        return "; ".join(
            f"{name}: relative error {error:.1e}" for name, error in errors.items() if not error <= allowed
        )

    def _again(self, case: Case, first: Values) -> Failed | None:
        """Call once more: a function of its inputs returns the same."""
        second = self._calls.run(self._computation, case)
        if second.problem is not None:
            if second.problem.kind in FATAL:
                return Failed(case, second.problem.kind, second.problem.message)
            message = f"a second call with the same inputs {second.problem.kind}: {second.problem.message}"
            return Failed(case, KEEPS_STATE, message, first)
        assert second.outputs is not None
        if second.outputs.keys() == first.keys():
            difference = disagreement(second.outputs, first)
            if difference <= tolerance(case, self._precision):
                return None
            message = f"a second call with the same inputs differs by {difference:.1e}"
        else:
            message = f"a second call with the same inputs returns {', '.join(second.outputs)} instead"
        return Failed(case, KEEPS_STATE, f"{message}: something is kept between calls, or drawn", first)

    def _run_bad(self, case: Case) -> None:
        """Run a case that mltk refuses."""
        outcome = self._call(case)
        if outcome.outputs is not None:
            self._accepted.append(case.name)

    def _kind(self) -> str | None:
        """In which way the test vectors fail."""
        found = {each.kind for each in self._failed}
        return next((kind for kind in FAILURES if kind in found), None)

    def _smallest(self, kind: str | None) -> Failed | None:
        if self._shrunk is not None:
            return self._shrunk
        same = [each for each in self._failed if each.kind == kind]
        return min(same, key=lambda each: size(each.case), default=None)

    def _right_when_first(self, case: Case) -> bool:
        """Whether a failed case is right in a new process, where the first case was right, too."""
        if not self._starts_right or not self._calls.restart():
            return False
        outcome = self._calls.run(self._computation, case)
        return outcome.outputs is not None and not (
            outcome.changed
            or not disagreement(outcome.outputs, case.expected) <= tolerance(case, self._precision)
        )

    def _diagnosis(self) -> Diagnosis | None:
        """The mistake, where outputs are wrong."""
        shrunk = self._shrunk
        results = self._results
        if not any(each.kind == WRONG for each in self._failed):
            if shrunk is None or shrunk.kind != WRONG or shrunk.outputs is None:
                return None
            results = [*results, (shrunk.case, shrunk.outputs)]
        from mltk.oracle.diagnosis import diagnose

        return diagnose(
            self._computation,
            results,
            self._precision,
            lambda case: self._calls.run(self._computation, case).outputs,
        )


def _name(candidate: Any) -> str:
    if isinstance(candidate, str):
        return candidate
    if isinstance(candidate, Command):
        return candidate.text
    names = (getattr(candidate, key, None) for key in ("__qualname__", "name"))
    return next((name for name in names if isinstance(name, str)), type(candidate).__name__)
