"""The option ``--out``: a folder that is written."""

from __future__ import annotations

from pathlib import Path

import typer


def folder(text: str) -> Path:
    """A folder by its path. An empty one, as of a variable that is not set, is not the present folder."""
    if not text:
        raise typer.BadParameter("the path is empty; expected that of a folder (. is the present one)")
    return Path(text)
