"""Results as JSON takes them."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def plain(told: Any) -> Any:
    """The same in numbers, texts, lists and dicts; ``None`` for what is infinite or NaN.

    Args:
        told: Anything made of those, of arrays, of tuples (those whose entries have names become dicts), and
            of dataclasses.
    """
    if is_dataclass(told) and not isinstance(told, type):
        return {each.name: plain(getattr(told, each.name)) for each in fields(told)}
    if hasattr(told, "_asdict"):
        told = told._asdict()
    if isinstance(told, np.ndarray | np.generic):
        told = told.tolist()
    if isinstance(told, dict):
        return {name: plain(each) for name, each in told.items()}
    if isinstance(told, list | tuple):
        return [plain(each) for each in told]
    return None if isinstance(told, float) and not math.isfinite(told) else told
