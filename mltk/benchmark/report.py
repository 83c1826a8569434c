"""Tables and conclusions of a run."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mltk.benchmark.cases import CHECKPOINT_AIM, Aim
from mltk.benchmark.timing import Row

BASES = ("mltk-numpy", "mltk-torch-analytic")
"""The rows that all others are divided by."""

Columns = Mapping[str, Callable[[Row], str]]
"""The heading of each column, and what it says of a row."""


def ratio(rows: Sequence[Row], name: str, base: str) -> float | None:
    """How many times as long as ``base`` the contestant takes; ``None`` if one of them did not run."""
    medians = {row.name: row.median for row in rows}
    top, bottom = medians.get(name), medians.get(base)
    return None if top is None or bottom is None else top / bottom


def print_table(console: Console, title: str, rows: Sequence[Row], columns: Columns, **style: Any) -> None:
    """The rows that ran, fastest first."""
    table = Table(title=title, **style)
    table.add_column("implementation", no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in sorted((row for row in rows if row.seconds), key=lambda row: row.median or 0):
        table.add_row(row.name, *(text(row) for text in columns.values()))
    console.print(table)


def print_aims(console: Console, rows: Sequence[Row], aims: Sequence[Aim]) -> None:
    """Conclusions, beside what was aimed at."""
    for aim in aims:
        times = ratio(rows, aim.peer, aim.name)
        if times is not None:
            verdict = _verdict(times >= aim.times)
            console.print(
                f"{aim.name} is {times:.2f}× as fast as {aim.peer} (aim: {aim.times:g}×, {verdict})"
            )


def times_column(rows: Sequence[Row], base: str) -> Callable[[Row], str]:
    """A column: how many times as long as ``base`` each takes."""
    return lambda row: number(ratio(rows, row.name, base), "{:.2f}")


def measured(heading: str, unit: Callable[[float], float], form: str, of_quartiles: str = "") -> Columns:
    """Two columns: the median in a unit, a function of the seconds, and the quartiles, the smaller first."""

    def spread(row: Row) -> str:
        values = sorted(map(unit, row.quartiles or ()))
        return "–".join((of_quartiles or form).format(value) for value in values) or "–"

    return {heading: lambda row: number(row.median and unit(row.median), form), "quartiles": spread}


def number(value: float | None, form: str) -> str:
    """A number in a table."""
    return "–" if value is None else form.format(value)


def print_run(console: Console, title: str, rows: Sequence[Row], aims: Sequence[Aim]) -> None:
    """The table of a run, those who did not take part, disagreements, and the aims."""

    def error(row: Row) -> str:
        text = number(row.error, "{:.0e}")
        return f"[bold red]{text}[/]" if row.wrong else text

    columns: Columns = {
        **measured("median\nms", lambda seconds: 1e3 * seconds, "{:.2f}", "{:.3g}"),
        "a\nsecond": lambda row: number(row.median and 1 / row.median, "{:,.1f}"),
        **{
            f"×\n{base.removeprefix('mltk-').replace('-', chr(10))}": times_column(rows, base)
            for base in BASES
            if any(row.name == base and row.seconds for row in rows)
        },
        "error": error,
        "peak\nMB": lambda row: number(row.peak_bytes and row.peak_bytes / 1e6, "{:.1f}"),
    }
    print_table(console, title, rows, columns, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for row in rows:
        if row.skipped is not None:
            console.print(f"{row.name} takes no part: {escape(row.skipped)}")
        elif row.failed is not None:
            console.print(f"[bold red]{row.name} failed: {escape(row.failed)}[/]")
        elif row.wrong:
            console.print(
                f"[bold red]{row.name} computes another gradient: relative error {row.error:.1e} in float32, "
                f"{row.error_in_double:.1e} in float64, against mltk NumPy in float64[/]"
            )
        elif row.error_in_double is not None:
            console.print(
                f"{row.name}: in float32 rounding moved a value across a kink (error {row.error:.1e}); "
                f"in float64 the gradient agrees ({row.error_in_double:.1e})"
            )
    print_aims(console, rows, aims)


def print_checkpoint(console: Console, peaks: Mapping[bool, tuple[int | None, ...]]) -> None:
    """How peak memory grows from 1 to 20 inner steps.

    Args:
        console: Where to print.
        peaks: Bytes at 1 and at 20 inner steps, with and without checkpoints.
    """
    for checkpoint, (one, twenty) in peaks.items():
        if one and twenty:
            growth = twenty / one
            met = _verdict(growth <= CHECKPOINT_AIM)
            aim = f" (aim: at most {CHECKPOINT_AIM}×, {met})" if checkpoint else ""
            console.print(
                f"peak memory at 20 inner steps, checkpoint={checkpoint}: "
                f"{growth:.2f}× that at 1 step, {twenty / 1e6:.0f} and {one / 1e6:.0f} MB{aim}"
            )


def as_json(rows: Sequence[Row], aims: Sequence[Aim]) -> dict[str, Any]:
    """The run as data."""
    return {
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "versions": {name: _version(name) for name in ("numpy", "torch", "jax", "higher", "torchopt")},
        "rows": [asdict(row) | {"median": row.median} for row in rows],
        "aims": [{**aim._asdict(), "measured": ratio(rows, aim.peer, aim.name)} for aim in aims],
    }


def write(path: Path | None, report: Mapping[str, Any]) -> None:
    """Write a run as JSON, if a file is named."""
    if path is not None:
        path.write_text(json.dumps(report, indent=1) + "\n")


def _verdict(met: bool) -> str:
    return "[green]met[/]" if met else "[yellow]not met[/]"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
