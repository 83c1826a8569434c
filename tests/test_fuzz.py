"""Whatever happens to a file from outside, its reader says what is in it or names it.

`pytest tests/test_fuzz.py --fuzz 20000` tries more damage than the usual 300 of each kind.
"""

import contextlib
import os
import random
import sys
import tracemalloc

import numpy as np
import pytest
from fuzz_targets import TARGETS
from mutations import mutated

from mltk.messages import from_line, to_line
from mltk.oracle.candidate.calling import call
from mltk.oracle.candidate.request import Request, pack_outcome, unpack_outcome

MEMORY = 1 << 26
"""Bytes that reading one of the small files may allocate in Python and NumPy."""

LONGEST = 2000
"""Characters that an error may have."""

CALLS = 400_000
"""Functions that reading one of them may call: a measure of time that no load of the machine changes."""

COUNTED = 4
"""Of so many damages, the calls of one are counted, which takes time itself."""

FORBIDDEN = {
    "pickle.find_class",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "socket.connect",
}
CHANGING = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
}


class Watch:
    """Sees what the process does to the system while a file is read."""

    def __init__(self):
        self.active = False
        self.seen = []
        self.calls = 0
        sys.addaudithook(self.hear)  # for good: a hook cannot be removed

    def hear(self, event, arguments):
        if not self.active:
            return
        if event in FORBIDDEN or event in CHANGING:
            self.seen.append((event, arguments))
        elif event == "open":
            path, mode, flags = arguments
            writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or (mode and set(mode) & set("wax+"))
            if writing and "__pycache__" not in os.fspath(path if isinstance(path, str) else ""):
                self.seen.append((event, arguments))

    def count(self, *_):
        self.calls += 1

    @contextlib.contextmanager
    def watching(self, *, counting):
        self.seen, self.calls, self.active = [], 0, True
        sys.setprofile(self.count if counting else None)
        try:
            yield
        finally:
            sys.setprofile(None)
            self.active = False


@pytest.fixture(scope="session")
def watch():
    return Watch()


@pytest.fixture
def amount(request):
    return request.config.getoption("--fuzz")


def alike(one, other):
    """Whether two results are the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, np.ndarray | np.generic) or isinstance(other, np.ndarray | np.generic):
        return np.array_equal(one, other)
    return one == other


def attempt(target, file, watch, *, counting):
    """What a reader returns, what it raises, and the most bytes that it held."""
    found = problem = None
    tracemalloc.start()
    try:
        with watch.watching(counting=counting):
            found = target.read(file)
    except Exception as error:
        problem = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return found, problem, peak


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_damaged_file_is_read_or_named(target, amount, watch, tmp_path, monkeypatch):
    monkeypatch.setenv("MLTK_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    target.prepare(tmp_path)
    file = tmp_path / target.file
    right = file.read_bytes()
    expected = target.read(file)  # which imports what it needs, too
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*") if path != file}
    outcomes = {"same": 0, "other": 0, "refused": 0}
    for number in range(amount):
        what = f"damage {number} of {target.name}"
        file.write_bytes(mutated(right, random.Random(f"{target.name} {number}"), target.structured))
        found, error, peak = attempt(target, file, watch, counting=number % COUNTED == 0)
        if error is None:
            outcomes["same" if alike(found, expected) else "other"] += 1
        else:
            outcomes["refused"] += 1
            if not isinstance(error, target.errors):
                raise AssertionError(what) from error
            assert (target.unnamed or str(file)) in str(error), f"{what}: {error}"
            assert len(str(error)) < LONGEST, what
        assert watch.seen == [], what
        assert watch.calls < CALLS, what
        assert peak < MEMORY, f"{what} takes {peak} bytes"
    after = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*") if path != file}
    assert after == before
    assert outcomes["refused" if target.errors else "other"] > 0


PIECES = [
    lambda rng: rng.choice([0, 1, -1, 10**400, True, None, 0.5, np.nan, np.inf, 1j, "text", b"bytes"]),
    lambda rng: np.full(rng.choice([(), (2,), (3, 1), (0,)]), rng.choice([0.0, np.nan, np.inf, 1e300])),
    lambda rng: np.zeros(2, rng.choice(["f2", "f4", "f8", "c16", "i8", "?", "O", "U3", "M8[s]", "V4", "g"])),
    lambda rng: np.ma.masked_array([1.0, 2.0], [True, False]),
    lambda rng: np.broadcast_to(0.0, (10**9, 10**6)),
    lambda rng: rng.choice([object(), iter(()), int, print, Ellipsis, range(10**9), {1, 2}]),
]


def value(rng, depth=3):
    """Anything that a function might return."""
    kind = rng.randrange(6) if depth else 6
    if kind == 0:
        names = ["loss", "gradients", "w", "b", "", "losses", 3, None, (1,)]
        return {rng.choice(names): value(rng, depth - 1) for _ in range(rng.randrange(4))}
    if kind == 1:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 2:
        return tuple(value(rng, depth - 1) for _ in range(2))
    return rng.choice(PIECES)(rng)


def test_whatever_a_candidate_returns_is_judged_or_told(amount):
    asked = Request("maml", {}, {}, ("loss", "gradients"), {"loss": [], "gradients": {"w": [2], "b": [3, 1]}})
    told = set()
    for number in range(amount):
        returned = value(random.Random(f"returned {number}"))
        outcome = call(lambda *_, it=returned: it, asked, arrays="numpy", dtype="float64", folder=None)
        assert (outcome.outputs is None) != (outcome.problem is None), number
        again = unpack_outcome(from_line(to_line(pack_outcome(outcome))))
        assert again.problem == outcome.problem
        assert alike(again.outputs, outcome.outputs)
        told.add(outcome.problem and outcome.problem.kind)
    assert {None, "malformed", "wrong-names", "wrong-shapes", "not-finite"} <= told
