"""The subcommands `report` and `dashboard`: one page about runs, as a file or served on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from mltk.cli.out import file_option
from mltk.progress import in_bytes, reporting, say
from mltk.toolkit.report.dashboard import PORT
from mltk.toolkit.report.dashboard import dashboard as served
from mltk.toolkit.report.page import report as write

Folders = Annotated[
    list[Path], Argument(metavar="DIR...", help="Run folders, or folders of them.", show_default=False)
]
Episodes = Annotated[int, Option(min=0, help="Unseen tasks that each run is evaluated on; 0 for none.")]
Seed = Annotated[int, Option(min=0, help="Seed of the tasks.")]


def report(
    folders: Folders,
    out: Annotated[Path, file_option("The page.")] = Path("report.html"),
    episodes: Episodes = 300,
    seed: Seed = 0,
) -> None:
    """Write one page about runs: how they learn, how they do on unseen tasks, and where they fail.

    Each run meets tasks like those of its training, of classes that were held out; runs on tasks of one kind
    meet the same ones, and are compared. The page needs no network and no other file.

    What is damaged is named there, and stops nothing.
    """
    with reporting(sys.stderr) as progress:
        page = write(folders, out, episodes=episodes, seed=seed, progress=progress)
    say(f"{page}: {in_bytes(page.stat().st_size)}", sys.stdout)


def dashboard(
    folders: Folders,
    host: Annotated[str, Option(help="An address of this machine for itself.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="The port; 0 for any that is free.")] = PORT,
    episodes: Episodes = 300,
    seed: Seed = 0,
) -> None:
    """Serve that page to the browsers of this machine, and follow trainings as they go on.

    Only this machine can read it, and it only reads. Runs are evaluated once they are finished.

    Ctrl-C ends it.
    """
    with served(folders, host=host, port=port, episodes=episodes, seed=seed) as server:
        say(f"{server.url} (Ctrl-C ends it)", sys.stdout)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("\nended", sys.stdout)
        finally:
            server.board.stop()
