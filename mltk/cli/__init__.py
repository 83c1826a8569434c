"""The command `mltk`."""

from __future__ import annotations

import sys
from typing import Any

from mltk.cli.exit_status import IMPOSSIBLE
from mltk.errors import MissingLibraryError
from mltk.installation import needed_for

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    try:
        with needed_for("the command line"):
            from mltk.cli import commands
    except MissingLibraryError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(IMPOSSIBLE)
    commands.main()


def __getattr__(name: str) -> Any:
    """The commands are imported when they are used: `main` must be there to say that it cannot."""
    if name != "app":
        raise AttributeError(f"module 'mltk.cli' has no attribute {name!r}")
    from mltk.cli.commands import app

    return app
