"""What the check of a candidate says: a verdict for each computation, and the report of all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mltk.oracle.case import Case, Values, mapped

if TYPE_CHECKING:
    from mltk.oracle.diagnosis import Diagnosis

FORMAT = 1
"""The version of `Report.to_json`."""

CORRECT, WRONG, SKIPPED = "correct", "wrong", "skipped"
IN_PART = "correct-in-part"
"""The loss alone was returned, and is right; nothing is known of the gradients."""

KEEPS_STATE, CHANGES_INPUTS = "keeps-state", "changes-its-inputs"

FAILURES = (
    "hangs",
    "crashes",
    KEEPS_STATE,
    WRONG,
    "raises",
    "malformed",
    "wrong-names",
    "wrong-shapes",
    "not-finite",
    CHANGES_INPUTS,
)
"""Every way to fail; of several, the first is the verdict."""


@dataclass(frozen=True)
class Failed:
    """A case that a candidate fails.

    Attributes:
        case: With its outputs.
        kind: In which way.
        message: What was found, in words.
        outputs: What was returned, if it has the right form.
        changed: Dotted names of the inputs that were changed.
        names: Of the entries of the catalogue that give the same, for a remark.
    """

    case: Case
    kind: str
    message: str
    outputs: Values | None = None
    changed: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What is said about one computation.

    Attributes:
        computation: Its name.
        verdict: ``"correct"``, ``"correct-in-part"``, ``"skipped"``, or one of `FAILURES`.
        cases: How many were run, random ones among them.
        skipped: How many the candidate says that it cannot do.
        message: What was found, or why it was skipped.
        worst_error: The largest error, relative to what is allowed in its case; ``None`` without outputs.
        tolerance: What is allowed in that case.
        outputs: The names of what was judged.
        unjudged: The names of what the candidate never returned.
        failed: Every failed case of the test vectors.
        smallest: The smallest failed case: that of the random ones that hypothesis shrank, or of the vectors.
        snippet: Python code that runs it.
        diagnosis: Which known mistake it is, where outputs are wrong.
        accepted_bad_input: The names of cases that mltk refuses and for which the candidate gives numbers.
        remarks: Failed cases whose truth is a convention, so that the verdict does not rest on them.
        rests_on: How many cases were run that have outputs.
        of: How many there were.
        never_run: The kinds of cases that there were, and that the candidate skipped, all of them.
        never_read: The settings that differed among the cases and that the candidate never read.
        derived: Whether gradients are those of the returned loss or logits, by Torch's autograd.
    """

    computation: str
    verdict: str
    cases: int
    skipped: int
    message: str
    worst_error: float | None
    tolerance: float | None
    outputs: tuple[str, ...]
    unjudged: tuple[str, ...]
    failed: tuple[Failed, ...]
    smallest: Failed | None
    snippet: str | None
    diagnosis: Diagnosis | None
    accepted_bad_input: tuple[str, ...]
    remarks: tuple[Failed, ...] = ()
    rests_on: int = 0
    of: int = 0
    never_run: tuple[str, ...] = ()
    never_read: tuple[str, ...] = ()
    derived: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "computation": self.computation,
            "verdict": self.verdict,
            "cases": self.cases,
            "skipped": self.skipped,
            "message": self.message,
            "worst_error": _number(self.worst_error),
            "tolerance": _number(self.tolerance),
            "outputs": list(self.outputs),
            "unjudged": list(self.unjudged),
            "failed": [
                {"case": each.case.name, "kind": each.kind, "message": each.message} for each in self.failed
            ],
            "smallest": None if self.smallest is None else _case(self.smallest.case),
            "snippet": self.snippet,
            "diagnosis": None if self.diagnosis is None else self.diagnosis.to_json(),
            "accepted_bad_input": list(self.accepted_bad_input),
            "rests_on": self.rests_on,
            "of": self.of,
            "never_run": list(self.never_run),
            "never_read": list(self.never_read),
            "derived": self.derived,
            "remarks": [
                {"case": each.case.name, "convention": each.case.convention, "message": each.message}
                for each in self.remarks
            ],
        }


@dataclass(frozen=True)
class Report:
    """What is said about a candidate.

    Attributes:
        candidate: Its name.
        arrays: The library of its arrays.
        dtype: Their precision.
        verdicts: One for each computation.
    """

    candidate: str
    arrays: str
    dtype: str
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether something was judged, and nothing failed."""
        found = {each.verdict for each in self.verdicts}
        return CORRECT in found and found <= {CORRECT, SKIPPED}

    @property
    def judged(self) -> bool:
        """Whether everything was judged that decides, or something is wrong."""
        return any(each.verdict not in (SKIPPED, IN_PART) for each in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Plain data, the same for the same candidate."""
        return {
            "format": FORMAT,
            "candidate": self.candidate,
            "arrays": self.arrays,
            "dtype": self.dtype,
            "passed": self.passed,
            "verdicts": [each.to_json() for each in self.verdicts],
        }


def _case(case: Case) -> dict[str, Any]:
    return {
        "name": case.name,
        "kind": case.kind,
        "comment": case.comment,
        "settings": dict(case.settings),
        "inputs": mapped(np.ndarray.tolist, case.inputs),
        "expected": mapped(np.ndarray.tolist, case.expected),
    }


def _number(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is None or math.isfinite(value) else None
