"""Fresh random cases: hypothesis finds one that a candidate fails, and shrinks it.

A drawn case is judged against the hand-derived rules on NumPy. It is thrown away where rounding errors alone
can change the outputs much: where it is badly conditioned, or lies near a kink such as a ReLU at zero.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mltk.errors import MltkError, SettingError
from mltk.installation import install_hint
from mltk.oracle.case import Case, Values, flat, mapped
from mltk.oracle.computation import Computation, Draw
from mltk.oracle.tolerance import tolerance

SECONDS = 10.0
"""How long random cases of a computation are drawn and shrunk; what was found until then is kept."""

LARGEST_TOLERANCE = 1e-2
"""Cases in which more than this would be allowed say nothing."""

LARGEST_CONDITION = 1e6
"""The same, for float64."""

LARGEST_OUTPUT = 1e12
"""Where outputs are larger, an inner loop has diverged, and single precision may overflow on the way."""

CHANGES = {"float64": (1e-7, 1e-9), "float32": (1e-5, 1e-6)}
"""For each precision, a relative change of the inputs, and how far from linear the outputs may follow it."""

FATAL = ("hangs", "crashes")
"""Problems after which nothing more is drawn."""

Judge = Callable[[Case], str | None]
"""Runs the candidate on a case with its outputs; returns in which way it fails, ``None`` if it does not."""


@dataclass(frozen=True)
class Failure:
    """A case that the candidate fails.

    Attributes:
        case: With its outputs.
        kind: In which way.
    """

    case: Case
    kind: str


def check_installed() -> None:
    """Refuse to go on without hypothesis.

    Raises:
        SettingError: If it is not installed.
    """
    try:
        import hypothesis  # noqa: F401
    except ImportError as error:
        raise SettingError(
            f"random cases need hypothesis, which is not installed: {install_hint('hypothesis')} "
            "(or examples=0, to be judged by the test vectors alone)"
        ) from error


def search(
    computation: Computation,
    judge: Judge,
    *,
    dtype: str,
    examples: int,
    seed: int,
    kind: str | None = None,
    counts: Callable[[Case], bool] = lambda case: True,
    seconds: float = SECONDS,
) -> Failure | None:
    """Look for the smallest random case that a candidate fails.

    Args:
        computation: Whose cases are drawn.
        judge: Runs the candidate.
        dtype: The candidate's precision.
        examples: How many cases are drawn until one fails.
        seed: Of the draws.
        kind: Only failures of this kind count; ``None`` for that of the first failure.
        counts: Which cases are not thrown away.
        seconds: When to stop.

    Returns:
        The failing case with the fewest numbers among those tried; ``None`` if none fails.

    Raises:
        SettingError: If hypothesis is not installed.
    """
    draw_case = computation.random
    if draw_case is None or examples < 1:
        return None
    check_installed()
    import hypothesis
    from hypothesis import strategies as st

    end = time.monotonic() + seconds
    found: list[Failure] = []

    @st.composite
    def cases(draw: Draw) -> Case:  # of its own, because hypothesis wants a name, which a partial has not
        return draw_case(draw)

    def attempt(drawn: Case) -> None:
        if time.monotonic() > end:
            raise _EnoughError
        hypothesis.assume(counts(drawn))
        case = completed(computation, drawn, dtype)
        hypothesis.assume(case is not None)
        assert case is not None
        failed = judge(case)
        if failed is None or failed != (kind or (found[0].kind if found else failed)):
            return
        found.append(Failure(case, failed))
        if failed in FATAL:
            raise _EnoughError
        raise _FailedError

    configure = hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    test = hypothesis.given(cases())(attempt)
    errors = hypothesis.errors.Flaky, hypothesis.errors.Unsatisfiable
    with _own_folder(), contextlib.suppress(_EnoughError, _FailedError, *errors):  # `found` counts
        hypothesis.seed(seed)(configure(test))()
    return min(reversed(found), key=lambda failure: size(failure.case), default=None)


@contextlib.contextmanager
def _own_folder() -> Iterator[None]:
    """Hypothesis keeps what it writes in a folder that is gone afterwards, and not where the user works."""
    from hypothesis import configuration

    before = getattr(configuration, "__hypothesis_home_directory", None)
    with tempfile.TemporaryDirectory() as folder:
        configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            configuration.set_hypothesis_home_dir(before)


def size(case: Case) -> int:
    """How many numbers a case has."""
    return sum(int(array.size) for array in flat(case.inputs).values())


def completed(computation: Computation, case: Case, dtype: str) -> Case | None:
    """A case with its outputs and condition; ``None`` if it is badly conditioned, near a kink or diverges."""
    change, nonlinear = CHANGES[dtype]
    try:
        here = computation.reference(case.settings, case.inputs)
        there, opposite = (
            computation.reference(case.settings, _moved(case.inputs, sign * change)) for sign in (1, -1)
        )
    except MltkError:  # what is drawn must be refused
        return None
    condition = 1.0
    for group in here:
        middle, after, before = (flat({group: values[group]}) for values in (here, there, opposite))
        scale = max((np.abs(array).max(initial=0.0) for array in middle.values()), default=0.0)
        if not scale:
            if any(array.any() for outputs in (after, before) for array in outputs.values()):
                return None
            continue
        if not scale <= LARGEST_OUTPUT:
            return None
        first = _largest({name: after[name] - before[name] for name in middle}) / 2
        second = _largest({name: after[name] - 2 * middle[name] + before[name] for name in middle})
        if not second <= nonlinear * scale:
            return None
        condition = max(condition, float(first / scale / change))
    condition = max(condition, computation.cancellation(case.settings, case.inputs, here))
    case = dataclasses.replace(case, expected=here, condition=condition)
    if condition > LARGEST_CONDITION or tolerance(case, np.dtype(dtype)) > LARGEST_TOLERANCE:
        return None
    return case


def _moved(inputs: Values, change: float) -> Values:
    """Inputs with each array changed by up to ``change`` of its largest number, in a fixed direction.

    An array of zeros is changed, too: it may lie on a kink.
    """
    rng = np.random.default_rng(0)

    def moved(value: np.ndarray) -> np.ndarray:
        if value.dtype.kind != "f":
            return value
        scale = np.abs(value).max(initial=0.0) or 1.0
        return value + change * scale * rng.uniform(-1, 1, value.shape)

    return mapped(moved, inputs)


def _largest(arrays: Mapping[str, np.ndarray]) -> float:
    return float(max((np.abs(array).max(initial=0.0) for array in arrays.values()), default=0.0))


class _FailedError(Exception):
    """The candidate fails a case: what hypothesis shrinks."""


class _EnoughError(BaseException):
    """Nothing more shall be drawn; hypothesis lets pass what is no `Exception`."""
