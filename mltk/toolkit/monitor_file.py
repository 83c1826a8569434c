"""What a monitor keeps in the folder of a run, a line a look, and how it is read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mltk.errors import RunError
from mltk.files import open_to_append, replace_file
from mltk.outside import read_bytes, read_json, reading
from mltk.plain import plain
from mltk.toolkit.health import Alert

NAME = "monitor.jsonl"
"""What the file is called."""

LONGEST = 1 << 28
"""Bytes that it may have."""


class MonitorFile:
    """The file in a folder, which must exist, or nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / NAME
        self._mended = False

    def begin(self) -> None:
        """Forget the lines of a run that was there before.

        Raises:
            RunError: If the file cannot be written.
        """
        if self.path is not None:
            replace_file(self.path, lambda file: None)

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line, in one go: a look, or an alert under that name.

        Raises:
            OSError, RunError: If the file cannot be written.
        """
        if self.path is None:
            return
        if not self._mended and self.path.exists():
            known = read_bytes(self.path, most=LONGEST)
            whole = known[: known.rfind(b"\n") + 1]
            if whole != known:  # a kill has cut the last line short
                replace_file(self.path, lambda file: file.write(whole))
        self._mended = True
        with open_to_append(self.path, buffering=0) as file:
            file.write(f"{json.dumps(plain(dict(line)))}\n".encode())


def read_monitor(folder: str | Path) -> tuple[list[dict[str, Any]], list[Alert]]:
    """What a monitor wrote in the folder of a run: its history and its alerts, empty if there is no file.

    Of steps that were taken twice, since the run went on from an earlier checkpoint, the last ones count.

    Raises:
        RunError: If the file is damaged, but for a last line that a kill has cut short.
    """
    path = Path(folder) / NAME
    if not path.exists():
        return [], []
    history: list[dict[str, Any]] = []
    alerts = []
    with reading(path, RunError):
        for text in read_bytes(path, most=LONGEST).decode().split("\n")[:-1]:
            line = read_json(text)
            if "alert" in line:
                alerts.append(Alert(**line["alert"]))
                continue
            while history and history[-1]["step"] >= line["step"]:
                history.pop()
            history.append(line)
    return history, alerts
