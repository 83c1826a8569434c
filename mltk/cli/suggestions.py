"""A misspelt choice of the command line gets a suggestion."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperGroup

from mltk.checks import did_you_mean

REFUSED = re.compile(r"'([^']*)' is not one of (.*)", re.DOTALL)
"""What Typer writes of a choice that does not exist."""


class SuggestingGroup(TyperGroup):
    """Commands whose errors about choices end in the choice that may have been meant."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; its arguments are read here, too."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            found = REFUSED.search(error.message)
            if found is not None:
                error.message += did_you_mean(found[1], re.findall(r"'([^']*)'", found[2]))
            raise
