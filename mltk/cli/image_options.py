"""What tasks of images are tested on: options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

Ways = Annotated[int | None, Option(min=2, help="Classes a task, for images.")]
Shots = Annotated[int | None, Option(min=1, help="Support images of each class.")]
Queries = Annotated[int | None, Option(min=1, help="Query images of each class.")]
Images = Annotated[Path | None, Option("--folder", help="A folder of images to test on.", show_default=False)]
