"""The command `mltk`."""

from mltk.cli.commands import app, main

__all__ = ["app", "main"]
