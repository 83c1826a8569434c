"""The speed history: ``make bench`` appends the ratios of its runs to ``docs/speed-history.jsonl``.

``python tests/speed_history.py RUN.json …`` appends the runs that ``mltk bench … --json RUN.json`` wrote, as
one line; without arguments the lines are printed as tables. Ratios of two lines can be compared where the
processor is the same; seconds never can, so they are not kept.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HISTORY = ROOT / "docs" / "speed-history.jsonl"

BASES = {"sinusoid-maml": "mltk-numpy", "modules": "mltk"}
"""Whose time the others are divided by; mltk on Torch by hand-derived rules where nothing is said."""


def races(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each race of a run, by the title of the race."""
    name = report["benchmark"]
    if "races" in report:
        return {
            f"{name}: {race['race']}, {race['tensors']} tensors": race["rows"] for race in report["races"]
        }
    settings = ", ".join(f"{key} {value}" for key, value in report.get("settings", {}).items())
    return {f"{name}: {settings}" if settings else name: report["rows"]}


def ratios(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """How many times as long as mltk each contestant that ran took, race by race."""
    base = BASES.get(report["benchmark"], "mltk-torch-analytic")
    found = {}
    for title, rows in races(report).items():
        medians = {row["name"]: row["median"] for row in rows if row["median"]}
        if base in medians:
            found[title] = {name: round(time / medians[base], 3) for name, time in medians.items()}
    return found


def processor() -> str:
    """The name of this machine's processor, and how many cores there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = named[0] if named else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def commit() -> str:
    """The commit that is checked out, with a ``+`` if files differ; ``unknown`` outside a checkout."""
    found = []
    for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return "unknown"
        found.append(done.stdout.strip())
    changed = [line for line in found[1].splitlines() if not line.endswith(HISTORY.name)]
    return found[0] + "+" * bool(changed)


def append(runs: list[Path], history: Path = HISTORY) -> None:
    """Append the ratios of some runs as one line."""
    reports = [json.loads(path.read_text()) for path in runs]
    line = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "processor": processor(),
        "ratios": {title: found for report in reports for title, found in ratios(report).items()},
    }
    with history.open("a") as file:
        file.write(json.dumps(line) + "\n")


def table(history: Path = HISTORY) -> str:
    """All lines: for each race its contestants, with their ratios from the first line to the last."""
    text = history.read_text() if history.exists() else ""
    lines = [json.loads(line) for line in text.splitlines()]
    heads = ("date", "commit", "processor")
    printed = [f"{n}: " + "  ".join(line[head] for head in heads) for n, line in enumerate(lines, 1)]
    for title in dict.fromkeys(title for line in lines for title in line["ratios"]):
        found = [line["ratios"].get(title, {}) for line in lines]
        printed += ["", title]
        for name in dict.fromkeys(name for each in found for name in each):
            printed.append(f"  {name:28}" + "".join(f"{each.get(name, '–'):>9}" for each in found))
    return "\n".join(printed)


if __name__ == "__main__":
    if sys.argv[1:]:
        append([Path(name) for name in sys.argv[1:]])
    print(table())
