"""``python -m mltk.benchmark``: the commands without the rest of the command line."""

from mltk.benchmark import app

app()
