"""The subcommands `data list` and `data get`: the files of datasets, and downloading them."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument

from mltk.cli.exit_status import INTERRUPTED

app = typer.Typer(help="See and download the files of datasets.", no_args_is_help=True)


@app.command("list")
def show() -> None:
    """Show the files that mltk can download, and which of them are here."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from mltk.data.files.fetch import data_home, present
    from mltk.data.files.registry import FILES
    from mltk.progress import in_bytes

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("here", overflow="fold")
    table.add_column("used by", overflow="fold")
    for name, file in FILES.items():
        here = present(name)
        table.add_row(name, in_bytes(file.size), here.name if here else "absent", file.purpose)
    typer.echo(f"Data folder: {data_home()} (the environment variable MLTK_DATA names another)")
    Console().print(table)


@app.command(epilog="Examples:\n\nmltk data get omniglot\n\nmltk data get omniglot-evaluation cifar-100")
def get(
    names: Annotated[
        list[str], Argument(metavar="NAME...", help="As in `mltk data list`.", show_default=False)
    ],
) -> None:
    """Download files that are not here yet.

    An interrupted download is continued. Checksums are verified.
    """
    from mltk.data.files.fetch import fetch, find, present
    from mltk.data.files.registry import look_up
    from mltk.errors import SettingError

    try:
        files = [look_up(name) for name in names]
    except SettingError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None
    for file in files:
        try:
            # What is made of a file does instead of it; a file that is here is verified by `fetch`.
            cache = present(file.name) if find(file.name) is None else None
            typer.echo(f"{file.name}: {cache or fetch(file.name)}")
        except KeyboardInterrupt:
            typer.echo("\nstopped; the same command continues the download", err=True)
            raise typer.Exit(INTERRUPTED) from None
