"""Tables and conclusions of a run."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mltk.benchmark.cases import CHECKPOINT_AIM, Aim
from mltk.benchmark.timing import Row

BASES = ("mltk-numpy", "mltk-torch-analytic")
"""The rows that all others are divided by."""


def ratio(rows: Sequence[Row], name: str, base: str) -> float | None:
    """How many times as long as ``base`` the contestant takes; ``None`` if one of them did not run."""
    medians = {row.name: row.median for row in rows}
    top, bottom = medians.get(name), medians.get(base)
    return None if top is None or bottom is None else top / bottom


def print_rows(console: Console, title: str, rows: Sequence[Row], aims: Sequence[Aim]) -> None:
    """The table of a run, those who did not take part, disagreements, and the aims."""
    bases = [base for base in BASES if any(row.name == base and row.seconds for row in rows)]
    table = Table(title=title, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("implementation", no_wrap=True)
    shown = (f"×\n{base.removeprefix('mltk-').replace('-', chr(10))}" for base in bases)
    for heading in ("median\nms", "quartiles", "a\nsecond", *shown, "error", "peak\nMB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in sorted((row for row in rows if row.seconds), key=lambda row: row.median or 0):
        ratios = [_number(ratio(rows, row.name, base), "{:.2f}") for base in bases]
        spread = "–" if row.quartiles is None else "{:.3g}–{:.3g}".format(*(1e3 * q for q in row.quartiles))
        peak = None if row.peak_bytes is None else row.peak_bytes / 1e6
        error = _number(row.error, "{:.0e}")
        table.add_row(
            row.name,
            _number(1e3 * (row.median or 0), "{:.2f}"),
            spread,
            _number(1 / (row.median or math.inf), "{:,.1f}"),
            *ratios,
            f"[bold red]{error}[/]" if row.wrong else error,
            _number(peak, "{:.1f}"),
        )
    console.print(table)
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
    for aim in aims:
        print_aim(console, rows, aim)


def print_aim(console: Console, rows: Sequence[Row], aim: Aim) -> None:
    """One conclusion, beside what was aimed at."""
    times = ratio(rows, aim.peer, aim.name)
    if times is not None:
        verdict = _verdict(times >= aim.times)
        console.print(f"{aim.name} is {times:.2f}× as fast as {aim.peer} (aim: {aim.times:g}×, {verdict})")


def print_checkpoint(console: Console, peaks: dict[bool, tuple[int | None, int | None]]) -> None:
    """How peak memory grows from 1 to 20 inner steps.

    Args:
        console: Where to print.
        peaks: Bytes at 1 and at 20 inner steps, with and without checkpoints.
    """
    for checkpoint, (one, twenty) in peaks.items():
        if one and twenty:
            growth = twenty / one
            aim = (
                f" (aim: at most {CHECKPOINT_AIM}×, {_verdict(growth <= CHECKPOINT_AIM)})"
                if checkpoint
                else ""
            )
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
        "rows": [
            {
                "name": row.name,
                "skipped": row.skipped,
                "failed": row.failed,
                "error": row.error,
                "error_in_double": row.error_in_double,
                "seconds": row.seconds,
                "median": row.median,
                "peak_bytes": row.peak_bytes,
            }
            for row in rows
        ],
        "aims": [{**aim._asdict(), "measured": ratio(rows, aim.peer, aim.name)} for aim in aims],
    }


def _verdict(met: bool) -> str:
    return "[green]met[/]" if met else "[yellow]not met[/]"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
