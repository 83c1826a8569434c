"""Options that name what is written: the folder of ``--out``, and files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer


def folder(text: str) -> Path:
    """A folder by its path. An empty one, as of a variable that is not set, is not the present folder."""
    if not text:
        raise typer.BadParameter("the path is empty; expected that of a folder (. is the present one)")
    return Path(text)


def file(text: str) -> Path:
    """A file by its path, in a folder that is there: else nothing is computed, since it could not be kept."""
    path = Path(text)
    if not text or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise typer.BadParameter(f"{text!r} cannot be written; expected a file in a folder that is there")
    return path


def folder_option(help: str) -> Any:
    """An option that names the folder to write."""
    return typer.Option(parser=folder, metavar="<path>", help=help)


def file_option(help: str, *names: str) -> Any:
    """An option that names a file to write."""
    return typer.Option(*names, parser=file, metavar="<path>", help=help)
