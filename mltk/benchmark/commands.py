"""The command ``mltk bench``.

A library reads its number of threads when it is loaded, so each command starts a process of its own whose
environment (``OMP_NUM_THREADS`` and its like) and, on Linux, whose set of cores say the same to all of them.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from mltk.benchmark.cases import CONV4_AIMS, PROTOTYPICAL_AIMS, SINUSOID_AIMS, Aim, build, in_double
from mltk.benchmark.contestants import CONTESTANTS, TORCH, choose
from mltk.benchmark.entrant import Remote
from mltk.benchmark.memory import CHECKPOINTED, peak_memory
from mltk.benchmark.timing import run
from mltk.errors import SettingError
from mltk.peers import to_numpy
from mltk.workers import THREADS, cores

LIMITED = "MLTK_BENCHMARK_THREADS"
"""Set in the process whose threads are limited."""

app = typer.Typer(
    help="Time mltk's meta-gradients, training and sampling, and those of every installed peer, in turn.",
    no_args_is_help=True,
)

Repeats = Annotated[int, Option(min=1, help="Samples of each implementation.")]
Threads = Annotated[int | None, Option(min=1, help="Threads of every library; default: all cores.")]
Json = Annotated[Path | None, Option(help="Write every sample to this file.")]
Only = Annotated[str | None, Option(help="Names of those who take part, with commas between.")]


@app.command("sinusoid-maml")
def sinusoid_maml(
    context: typer.Context, repeats: Repeats = 30, threads: Threads = 1, json: Json = None, only: Only = None
) -> None:
    """Second-order MAML on sinusoids: 25 tasks, 10 shots, 10 queries, network 1-40-40-1, 5 inner steps."""
    _race(context, {}, SINUSOID_AIMS)


@app.command("conv4-maml")
def conv4_maml(
    context: typer.Context,
    queries: Annotated[int, Option(min=1, help="Queries a class; the aims are for 1 and 15.")] = 15,
    repeats: Repeats = 7,
    threads: Threads = 2,
    json: Json = None,
    only: Only = None,
) -> None:
    """Second-order MAML with Conv-4 on 28×28 images: 4 tasks, 5-way, 1 shot, 64 filters, 5 inner steps."""
    _race(context, {"queries": queries}, CONV4_AIMS.get(queries, ()))


@app.command("prototypical")
def prototypical(
    context: typer.Context,
    ways: Annotated[int, Option(min=1, help="Classes a task.")] = 20,
    shots: Annotated[int, Option(min=1, help="Support images a class.")] = 1,
    queries: Annotated[int, Option(min=1, help="Query images a class.")] = 5,
    tasks: Annotated[int, Option(min=1, help="Tasks a step.")] = 1,
    repeats: Repeats = 15,
    threads: Threads = 2,
    json: Json = None,
    only: Only = None,
) -> None:
    """Training steps of a prototypical network: Conv-4 on 28×28 images, 64 filters, Adam; no sampling."""
    settings = {"ways": ways, "shots": shots, "queries": queries, "tasks": tasks}
    _race(context, settings, PROTOTYPICAL_AIMS)


@app.command("episodes")
def episodes(context: typer.Context, repeats: Repeats = 30, threads: Threads = 1, json: Json = None) -> None:
    """Sampling of tasks: 5-way, 1 shot, 15 queries, 28×28 images in memory, 32 tasks a call."""
    _limit_threads(context)
    from mltk.benchmark.episodes import execute as execute_episodes

    execute_episodes(repeats=repeats, path=json)


@app.command("modules")
def modules(context: typer.Context, repeats: Repeats = 30, threads: Threads = 1, json: Json = None) -> None:
    """Clone, update and a MAML step of Torch modules of 4, 50 and 500 tensors."""
    _limit_threads(context)
    from mltk.benchmark.modules import execute as execute_modules

    raise typer.Exit(execute_modules(repeats=repeats, path=json))


def _race(context: typer.Context, settings: dict[str, int], aims: Sequence[Aim]) -> None:
    """Run the benchmark of a command; exit with its status."""
    benchmark, options = str(context.info_name), context.params
    names = [name.strip() for name in (options["only"] or "").split(",") if name.strip()]
    try:
        choose(benchmark, names)
    except SettingError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from None
    _limit_threads(context)
    title = f"{benchmark} {' '.join(f'{k} {v}' for k, v in settings.items())}".strip()
    run = {"repeats": options["repeats"], "path": options["json"], "names": names}
    raise typer.Exit(execute(benchmark, settings, aims, title=title, **run))


def _limit_threads(context: typer.Context) -> None:
    """See that this process has the threads that were asked for; if not, run the command in one that has."""
    threads = context.params["threads"] or cores()
    if os.environ.get(LIMITED) != str(threads):
        options = {**context.params, "threads": threads}
        words = [
            word for key, value in options.items() if value is not None for word in (f"--{key}", str(value))
        ]
        environment = os.environ | dict.fromkeys((LIMITED, *THREADS), str(threads))
        command = [sys.executable, "-m", "mltk.benchmark", str(context.info_name), *words]
        raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def execute(
    benchmark: str,
    settings: dict[str, int],
    aims: Sequence[Aim],
    *,
    title: str,
    repeats: int,
    path: Path | None,
    names: Sequence[str],
) -> int:
    """Compare, time, measure memory and print; the exit status is 1 if a gradient is wrong."""
    from rich.console import Console

    from mltk.benchmark.report import as_json, print_checkpoint, print_run, write

    console = Console()
    with console.status(f"timing {title}"):
        judge = CONTESTANTS[benchmark][0]
        _, reference = to_numpy(judge.prepare(in_double(build(benchmark, **settings)))())
        contestants = [contestant.name for contestant in choose(benchmark, names)]
        rows = run(contestants, lambda name: Remote(benchmark, name, settings), reference, repeats=repeats)
    with console.status("measuring memory"):
        rows = [
            dataclasses.replace(row, peak_bytes=peak_memory(benchmark, row.name, settings))
            if row.seconds
            else row
            for row in rows
        ]
    print_run(console, title, rows, aims)
    report = {"benchmark": benchmark, "settings": settings, **as_json(rows, aims)}
    if benchmark == "conv4-maml" and any(row.name == TORCH.name and row.seconds for row in rows):
        with console.status("measuring memory with checkpoints"):
            peaks = {
                contestant.checkpoint: tuple(
                    peak_memory(benchmark, contestant.name, {**settings, "inner_steps": steps})
                    for steps in (1, 20)
                )
                for contestant in (TORCH, CHECKPOINTED)
            }
        print_checkpoint(console, peaks)
        report["peak_bytes_at_1_and_20_steps"] = {f"checkpoint={kept}": p for kept, p in peaks.items()}
    write(path, report)
    return int(any(row.wrong for row in rows))
