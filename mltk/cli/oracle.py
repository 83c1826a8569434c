"""The subcommands of `oracle`: test vectors, the check of other implementations, known mistakes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from mltk.checks import check_choice
from mltk.cli.choices import Dtype
from mltk.cli.exit_status import IMPOSSIBLE
from mltk.cli.out import folder_option
from mltk.errors import SettingError

if TYPE_CHECKING:
    from mltk.oracle.candidate import Command
    from mltk.oracle.case import Case
    from mltk.oracle.check import Progress

app = typer.Typer(
    help="Check other implementations against mltk, and find out what is wrong with them.",
    no_args_is_help=True,
)

WRONG = 1
"""The exit status of a wrong candidate; `IMPOSSIBLE` is that of one that cannot be checked."""


class Library(StrEnum):
    """Libraries of a candidate's arrays."""

    TORCH = "torch"
    NUMPY = "numpy"
    JAX = "jax"


Names = Annotated[
    list[str] | None,
    Option(
        "--computation", "-c", help="What it computes; may be repeated. By default maml, or what a peer has."
    ),
]


@app.command(
    epilog="Examples:\n\n"
    "mltk oracle check my_package.maml:meta_gradient\n\n"
    "mltk oracle check my_file.py:head -c prototypical --arrays numpy\n\n"
    "mltk oracle check higher -c maml -c fomaml\n\n"
    'mltk oracle check --command "node my.js" -c prototypical'
)
def check(
    candidate: Annotated[
        str | None,
        Argument(
            help="package.module:function, path/to/file.py:function, or a peer such as higher.",
            show_default=False,
        ),
    ] = None,
    command: Annotated[
        str | None, Option(help="In place of it, a program in any language that answers lines of JSON.")
    ] = None,
    computation: Names = None,
    arrays: Annotated[Library, Option(help="The library of a function's arrays.")] = Library.TORCH,
    dtype: Annotated[Dtype, Option(help="Their precision.")] = Dtype.FLOAT64,
    timeout: Annotated[float, Option(min=0.1, help="Seconds for one call.")] = 20.0,
    examples: Annotated[int, Option(min=0, help="Random cases besides the test vectors.")] = 50,
    seed: Annotated[int, Option(min=0, help="Seed of the random cases.")] = 0,
    where: Annotated[
        list[str] | None,
        Option(
            help="Only cases with a setting's value, such as loss=cross_entropy, min_steps=2 or balanced; "
            "may be repeated."
        ),
    ] = None,
    json: Annotated[bool, Option("--json/--no-json", help="Print JSON.")] = False,
) -> None:
    """Run an implementation on test vectors and random cases, and say what is wrong with it.

    `mltk oracle computations` lists what can be checked, and what a candidate is given and returns.

    The exit status is 0 if it is right, 1 if it is wrong, 2 if it cannot be checked: nothing, or the loss
    alone, was judged.
    """
    import json as json_format

    from rich.console import Console

    from mltk.errors import MltkError
    from mltk.oracle.candidate import Command
    from mltk.oracle.check import check as check_candidate
    from mltk.oracle.report_text import print_report

    if (candidate is None) == (command is None):
        raise typer.BadParameter("give either a candidate or --command", param_hint="CANDIDATE")
    asked = Command(command) if command is not None else str(candidate)
    try:
        with _progress() as progress:
            report = check_candidate(
                asked,
                computation or _default(asked),
                arrays=str(arrays),
                dtype=str(dtype),
                timeout=timeout,
                examples=examples,
                seed=seed,
                where=where or (),
                progress=progress,
            )
    except MltkError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(IMPOSSIBLE) from None
    if json:
        typer.echo(json_format.dumps(report.to_json(), indent=1, ensure_ascii=False))
    else:
        print_report(Console(), report)
    if not report.passed:
        raise typer.Exit(WRONG if report.judged else IMPOSSIBLE)


@app.command()
def computations() -> None:
    """Show what can be checked: what a candidate is given, and what it returns."""
    from rich.console import Console
    from rich.text import Text

    from mltk.oracle.computations import computations as known
    from mltk.oracle.selection import described, varying
    from mltk.oracle.vectors import stored

    console = Console()
    for each in known().values():
        console.print(Text.assemble((each.name, "bold"), f"  {each.summary}"))
        console.print(Text(f"  given    {each.signature}"), soft_wrap=True)
        for name, meaning in each.outputs.items():
            console.print(Text(f"  returns  {name}: {meaning}"), soft_wrap=True)
        for name, values in varying(stored(each.name)).items():
            console.print(Text(f"  varies   {described(name, values)}"), soft_wrap=True)


@app.command()
def vectors(
    out: Annotated[Path | None, folder_option("The folder for the files.")] = None,
    only: Annotated[list[str] | None, Option(help="A computation; may be repeated. By default all.")] = None,
    compare: Annotated[Path | None, Option(help="With --out: where the same files must be.")] = None,
    regenerate: Annotated[
        bool,
        Option(
            "--regenerate",
            help="Compute them in 50 digits instead, and again in double precision by ways that must agree.",
        ),
    ] = False,
    check: Annotated[
        bool, Option("--check", help="Write nothing: compute them so, and compare them with those of mltk.")
    ] = False,
) -> None:
    """Copy the test vectors that come with mltk, a JSON file for each computation.

    With --compare or --check, the exit status is 1 if a file differs.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from mltk.oracle.computations import computation, computations
    from mltk.oracle.vectors import copy, differences, write

    try:
        chosen = [computation(name) for name in only or computations()]
    except SettingError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from None
    if check:
        if out is not None or compare is not None or regenerate:
            raise typer.BadParameter("it goes with --only alone", param_hint="--check")
        failed = False
        for each in chosen:
            found = ", ".join(differences(each))
            failed = failed or bool(found)
            typer.echo(f"{each.name}.json {f'differs: {found}' if found else 'is as it is computed anew'}")
        raise typer.Exit(failed)
    if out is None:
        raise typer.BadParameter("give a folder, or --check", param_hint="--out")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("file", no_wrap=True)
    for title in ("cases", "bytes", "largest disagreement"):
        table.add_column(title, justify="right")
    different: list[str] = []
    files = write(chosen, out) if regenerate else copy(chosen, out)
    with _progress() as progress:
        for count, (each, path, content) in enumerate(files, 1):
            progress(each.name, count, len(chosen))
            worst = max(content["confirmed"]["largest_disagreement"].values())
            table.add_row(path.name, str(len(content["cases"])), f"{path.stat().st_size:,}", f"{worst:.0e}")
            if compare is not None and not _same(path, compare / path.name):
                different.append(path.name)
    Console().print(table)
    if different:
        typer.echo(f"error: {different[0]} is not the same in {out} and {compare}", err=True)
        raise typer.Exit(1)


@app.command()
def edit(
    computation: Annotated[str, Argument(help="Whose cases.", show_default=False)],
    add: Annotated[
        list[Path] | None,
        Option(
            exists=True,
            dir_okay=False,
            help="JSON of a new case, or of a list of them, as in a file of vectors but for outputs.",
        ),
    ] = None,
    replace: Annotated[
        list[Path] | None,
        Option(exists=True, dir_okay=False, help="The same, in place of those of the same names."),
    ] = None,
    remove: Annotated[list[str] | None, Option(help="The name of a case.")] = None,
    rename: Annotated[tuple[str, str] | None, Option(help="The old and the new name of a case.")] = None,
    folder: Annotated[Path | None, folder_option("Of the files; by default that of mltk itself.")] = None,
) -> None:
    """Change the test vectors of a computation, and compute what is expected.

    All its outputs are computed anew in 50 digits and confirmed by independent ways, or nothing is written.
    """
    from mltk.oracle.computations import computation as known
    from mltk.oracle.editing import drafts
    from mltk.oracle.editing import edit as edit_vectors

    def described(paths: list[Path] | None) -> list[Case]:
        return [case for path in paths or () for case in drafts(path.read_bytes(), str(path))]

    path, content = edit_vectors(
        known(computation),
        folder,
        add=described(add),
        replace=described(replace),
        remove=remove or (),
        rename=dict([rename]) if rename else None,
    )
    typer.echo(f"{path}: {len(content['cases'])} cases, computed in {content['confirmed']['digits']} digits")


@app.command()
def mistakes(
    name: Annotated[str | None, Argument(help="A mistake, to read all about it.")] = None,
    markdown: Annotated[bool, Option("--markdown", help="All of them, as a page.")] = False,
) -> None:
    """Show the mistakes that the check knows by name."""
    from rich.console import Console
    from rich.text import Text

    from mltk.oracle.catalogue import CATALOGUE, Mistake
    from mltk.oracle.catalogue.scale_errors import SCALES, Scale

    console = Console()
    entries: tuple[Mistake | Scale, ...] = (*CATALOGUE, *SCALES)
    if markdown:
        from mltk.oracle.catalogue.page import markdown as page

        typer.echo(page(), nl=False)
        return
    if name is None:
        for mistake in entries:
            console.print(Text.assemble((mistake.name, "bold"), f"  {mistake.summary}"))
        return
    check_choice("NAME", name, dict.fromkeys(mistake.name for mistake in entries))
    for mistake in (mistake for mistake in entries if mistake.name == name):
        for title, text in (
            ("what is computed", mistake.summary),
            ("formula", mistake.formula),
            ("usual cause", mistake.cause),
            ("happens in", ", ".join(getattr(mistake, "computations", ("everything",)))),
        ):
            console.print(Text.assemble((f"{title}: ", "bold"), text), soft_wrap=True)


@app.command()
def selftest() -> None:
    """Check the check: right implementations are not accused, and wrong ones are named."""
    from mltk.oracle.selftest import run

    raise typer.Exit(run())


def _default(candidate: str | Command) -> tuple[str, ...]:
    """What is checked if nothing is named."""
    from mltk.peers import HEAD_PEERS

    heads = {peer.name: peer.computations for peer in HEAD_PEERS}
    return heads.get(candidate, ("maml",)) if isinstance(candidate, str) else ("maml",)


def _same(path: Path, other: Path) -> bool:
    return other.is_file() and path.read_bytes() == other.read_bytes()


@contextmanager
def _progress() -> Iterator[Progress]:
    """Shows how far a command is, on a terminal alone."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True)
    bar = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    task = bar.add_task("starting", total=None)
    with bar:
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)
