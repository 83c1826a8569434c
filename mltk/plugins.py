"""Plug-ins: the backends that are installed, found by their entry points and imported when first needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from mltk.checks import did_you_mean
from mltk.errors import BackendError
from mltk.installation import DISTRIBUTION, needed_for

GROUP = "mltk.backends"
"""The entry-point group in which backends are found."""


@cache
def load(name: str) -> Callable[..., Any]:
    """Import an installed plug-in, which then serves its library's arrays and modules.

    Returns:
        The function that makes its backend.

    Raises:
        BackendError: If there is no such backend, or its library is not installed.
    """
    _keep_freed_memory()
    found = entry_points(group=GROUP)
    if name not in found.names:
        names = sorted(found.names)
        hint = did_you_mean(name, names)
        raise BackendError(f"there is no backend {name!r}; installed ones: {', '.join(names)}{hint}")
    plugin = found[name]
    with needed_for(f"the backend {name!r}", of=plugin.dist.name if plugin.dist else DISTRIBUTION):
        create: Callable[..., Any] = plugin.load()
    return create


@cache
def _keep_freed_memory() -> None:
    """Have the C library keep the memory of freed arrays for the next ones.

    By default glibc gives small amounts back to the system at once, and every meta-gradient asks for them
    again, page by page. Once it has seen a block this large come and go, it keeps twice as much.
    """
    np.empty(2**25 - 2**16, np.uint8)
