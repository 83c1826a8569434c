"""The report of a check as text: a table, and below it what is wrong."""

from __future__ import annotations

import io
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mltk.oracle.candidate.calling import some
from mltk.oracle.verdict import CORRECT, IN_PART, SKIPPED, Report, Verdict

STYLES = {CORRECT: "green", IN_PART: "yellow", SKIPPED: "yellow"}

WIDTH = 110


def print_report(console: Console, report: Report) -> None:
    """Print a report for people."""
    console.print(Text(f"{report.candidate} ({report.arrays}, {report.dtype})", "bold"), soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("computation", no_wrap=True)
    table.add_column("cases", justify="right")
    table.add_column("verdict", no_wrap=True)
    table.add_column("worst error", justify="right")
    table.add_column("allowed", justify="right")
    for each in report.verdicts:
        table.add_row(
            each.computation,
            f"{each.rests_on} of {each.of}",
            Text(each.verdict, STYLES.get(each.verdict, "bold red")),
            _number(each.worst_error),
            _number(each.tolerance),
        )
    console.print(table)
    for each in report.verdicts:
        for line in _explanation(each):
            # As it is, so that code can be copied: no markup, no wrapping.
            console.print(Text(line), soft_wrap=True)


def to_text(report: Report) -> str:
    """A report as plain text."""
    file = io.StringIO()
    print_report(Console(file=file, width=WIDTH, color_system=None, force_terminal=False), report)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _explanation(verdict: Verdict) -> Iterator[str]:
    """What is to be said besides the table."""
    lines = list(_notes(verdict))
    if verdict.verdict != CORRECT:
        lines.insert(0, verdict.message)
    if not lines:
        return
    yield f"{verdict.computation}: {verdict.verdict}"
    yield from (f"  {line}" for text in lines for line in text.splitlines())
    if verdict.snippet is not None and verdict.smallest is not None:
        yield f"\n  The smallest failing case ({verdict.smallest.case.name}), to be run as it is:\n"
        yield verdict.snippet
    yield ""


def _notes(verdict: Verdict) -> Iterator[str]:
    if verdict.diagnosis is not None:
        yield verdict.diagnosis.text
    others = [each for each in verdict.failed if each.kind != verdict.verdict]
    for kind in dict.fromkeys(each.kind for each in others):
        names = [each.case.name for each in others if each.kind == kind]
        message = next(each.message for each in others if each.kind == kind)
        yield f"also {kind} ({some(names)}): {message}"
    if verdict.skipped and verdict.verdict != SKIPPED:
        yield f"rests on {verdict.rests_on} of {verdict.of} cases: it says that it cannot do the others"
    if verdict.never_run:
        yield f"never run: {'; '.join(verdict.never_run)}"
    if verdict.never_read:
        yield f"it never reads {', '.join(verdict.never_read)}, though the cases differ in that"
    if verdict.derived:
        yield "its gradients are those of what it returns, by Torch's autograd"
    if verdict.unjudged:
        yield f"judged: {', '.join(verdict.outputs)}; it does not return {', '.join(verdict.unjudged)}"
    for each in verdict.remarks:
        yield f"another convention, no mistake ({each.case.name}): {each.message}\n  {each.case.convention}"
    if verdict.accepted_bad_input:
        yield f"bad input that mltk refuses and it does not: {some(verdict.accepted_bad_input)}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"
