"""The self-test: right implementations are not accused, and deliberately wrong ones are found and named."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

from mltk.installation import needed_for

if TYPE_CHECKING:
    from rich.console import Console

    from mltk.oracle.specimens import Specimen

RIGHT = "correct"
SKIPPED = "skipped"

RANDOM_CASES = 10
"""How many random cases a correct specimen must pass besides the test vectors."""


@dataclass(frozen=True)
class Answer:
    """What the check says about a specimen.

    Attributes:
        specimen: The specimen.
        found: The mistakes and scale errors that it names, `RIGHT`, `UNKNOWN`, `SKIPPED`, or another verdict.
        text: The diagnosis, or why it was skipped.
    """

    specimen: Specimen
    found: tuple[str, ...]
    text: str

    @property
    def expected(self) -> tuple[str, ...]:
        """What it should name."""
        specimen = self.specimen
        return tuple(name for name in (specimen.mistake or RIGHT, specimen.beside, specimen.scale) if name)

    @property
    def good(self) -> bool:
        """Whether the check is right, or the specimen could not be run."""
        if self.found == (SKIPPED,):
            return True
        return set(self.found) == set(self.expected)


def claims() -> tuple[tuple[str, str], ...]:
    """Every mistake of the catalogue with every computation in which the check claims to find it."""
    from mltk.oracle.catalogue import CATALOGUE

    return tuple(dict.fromkeys((each.name, name) for each in CATALOGUE for name in each.computations))


def unproved(specimens: Iterable[Specimen]) -> tuple[tuple[str, str], ...]:
    """The claims for which there is no specimen: nothing but the catalogue itself stands behind them."""
    shown = {(each.mistake, each.computation) for each in specimens}
    return tuple(claim for claim in claims() if claim not in shown)


def examine(specimen: Specimen) -> Answer:
    """Check one specimen in this process."""
    from mltk.oracle.check import check
    from mltk.oracle.specimens import UNKNOWN
    from mltk.peers import HEAD_PEERS, PEERS

    peers: dict[str, Any] = {peer.name: peer for peer in PEERS}
    peers |= {peer.name: peer for peer in HEAD_PEERS}
    candidate = peers[specimen.candidate] if isinstance(specimen.candidate, str) else specimen.candidate
    report = check(
        candidate, [specimen.computation], examples=RANDOM_CASES if specimen.mistake is None else 0
    )
    (verdict,) = report.verdicts
    diagnosis = verdict.diagnosis
    names = tuple(dict.fromkeys(name for each in verdict.remarks for name in each.names))
    if verdict.verdict == RIGHT and specimen.mistake is not None and names:
        return Answer(specimen, names, verdict.message)  # where the truth is a convention
    if diagnosis is None or verdict.verdict != "wrong":
        return Answer(specimen, (verdict.verdict,), verdict.message)
    return Answer(specimen, diagnosis.names or (UNKNOWN,), diagnosis.text)


def examine_all(specimens: Sequence[Specimen], *, processes: int | None = None) -> Iterable[Answer]:
    """Check specimens side by side, in the order in which they are ready.

    Args:
        specimens: Which.
        processes: How many at once; ``None`` for as many as there are cores.
    """
    context = get_context("spawn")  # libraries with threads of their own do not survive a fork
    with ProcessPoolExecutor(
        os.cpu_count() if processes is None else processes, context, _one_thread
    ) as pool:
        with _deaf_to_interruption():
            found = [pool.submit(examine, specimen) for specimen in specimens]
        try:
            for future in as_completed(found):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf_to_interruption() -> Iterator[None]:
    """What is started here does not hear Ctrl-C while it imports, which would print where it was."""
    if current_thread() is not main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _one_thread() -> None:
    """The arrays are small, each core has a process, and what is imported is not searched for garbage.

    From then on Ctrl-C ends the process, without a traceback.
    """
    import torch

    import mltk.oracle.diagnosis
    import mltk.peers  # noqa: F401 - imported for what they import

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def confusion(answers: Iterable[Answer]) -> dict[str, dict[str, int]]:
    """How often each expected answer met each found one; pairs are joined by a plus sign."""
    matrix: dict[str, dict[str, int]] = {}
    for answer in answers:
        row = matrix.setdefault(" + ".join(answer.expected), {})
        found = " + ".join(answer.expected if answer.good and answer.found != (SKIPPED,) else answer.found)
        row[found] = row.get(found, 0) + 1
    return matrix


def run(specimens: Sequence[Specimen] | None = None) -> int:
    """Check specimens, print the confusion matrix, what went wrong, and which claims no specimen proves.

    Args:
        specimens: Which; ``None`` for all.

    Returns:
        0 if no right implementation is accused and every wrong one is named as it should be, else 1.

    Raises:
        MissingLibraryError: If Torch is not installed.
    """
    with needed_for("the self-test"):
        import torch  # noqa: F401 - the specimens are written in it
    from rich.console import Console
    from rich.progress import track

    from mltk.oracle.specimens import SPECIMENS, WRONG

    console, whole = Console(), specimens is None
    specimens = SPECIMENS if specimens is None else specimens
    found = track(
        examine_all(specimens), "specimens", len(specimens), console=Console(stderr=True), transient=True
    )
    order = {specimen.name: place for place, specimen in enumerate(specimens)}
    answers = sorted(found, key=lambda answer: order[answer.specimen.name])
    _print_matrix(console, answers)
    bad = [answer for answer in answers if not answer.good]
    for answer in answers:
        if answer.found == (SKIPPED,):
            console.print(f"skipped: {answer.specimen.name}: {answer.text}", soft_wrap=True, highlight=False)
    for answer in bad:
        expected, got = " + ".join(answer.expected), " + ".join(answer.found)
        console.print(
            f"[bold red]{answer.specimen.name}[/]: expected {expected}, found {got}", soft_wrap=True
        )
        console.print(answer.text, soft_wrap=True, markup=False, highlight=False)
    tried = [answer for answer in answers if answer.found != (SKIPPED,)]
    right = [answer for answer in tried if answer.specimen.mistake is None]
    wrong = [answer for answer in tried if answer.specimen.mistake is not None]
    console.print(
        f"{len(right)} correct implementations, {sum(not answer.good for answer in right)} accused; "
        f"{len(wrong)} wrong ones, {sum(answer.good for answer in wrong)} named as expected",
        highlight=False,
    )
    if whole:
        _print_unproved(console, unproved(WRONG))
    return int(bool(bad))


def _print_unproved(console: Console, missing: Sequence[tuple[str, str]]) -> None:
    """The claims of the catalogue that rest on nothing but itself."""
    for mistake, computation in missing:
        console.print(f"unproved: {mistake} in {computation}", soft_wrap=True, highlight=False)
    console.print(
        f"{len(claims())} claims (a mistake in a computation), {len(missing)} without a specimen",
        highlight=False,
    )


def _print_matrix(console: Console, answers: Sequence[Answer]) -> None:
    """The confusion matrix: a row for each expected answer, with what was found and how often.

    The matrix is nearly diagonal, and has as many columns as there are answers, so its columns that are not
    on the diagonal are listed by name.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title="What was expected, and what the check found", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("specimens make")
    for column in ("found", "missed", "skipped"):
        table.add_column(column, justify="right")
    table.add_column("found instead")
    for expected, row in confusion(answers).items():
        others = {name: count for name, count in row.items() if name not in (expected, SKIPPED)}
        table.add_row(
            expected,
            str(row.get(expected, 0)),
            str(sum(others.values())),
            str(row.get(SKIPPED, 0)),
            ", ".join(f"{name} ({count})" for name, count in others.items()),
        )
    console.print(table)
