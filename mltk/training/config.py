"""Configurations: mltk's own frozen dataclasses as plain data for TOML, and back."""

from __future__ import annotations

import inspect
import platform
import re
from dataclasses import Field, fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

import numpy as np

from mltk import algorithms, data, models, ops, optim
from mltk.errors import RunError, UnknownClassError
from mltk.outside import reading
from mltk.version import __version__

Config = dict[str, Any]
"""Strings, numbers, booleans, lists and further configurations, under string keys."""


_named: list[ModuleType] = [algorithms, data, models, ops, optim, optim.transforms]


def register(package: ModuleType) -> None:
    """Let configurations name the public dataclasses of a package of mltk that itself imports this file."""
    _named.append(package)
    registry.cache_clear()


@cache
def registry() -> dict[str, type]:
    """The classes that a configuration may name: all public dataclasses of mltk, under their short names.

    ``"mltk.algorithms.MAML"`` is `mltk.algorithms.MAML`. Nothing else is ever imported or called because a
    file names it.
    """
    found: dict[str, type] = {}
    for module in _named:
        for name, value in vars(module).items():
            if not inspect.isclass(value) or not is_dataclass(value) or name.startswith("_"):
                continue
            if value.__module__.startswith(module.__name__):
                found[f"{module.__name__}.{name}"] = value
    return found


def to_config(value: Any) -> Any:
    """Describe an object by its class and its settings.

    Args:
        value: A public dataclass of mltk, or a setting: string, number, boolean, tuple or list of settings.

    Returns:
        Plain data: ``{"type": "mltk.optim.Adam", "learning_rate": 0.001, …}`` for a dataclass; a setting that
        is ``None`` by default and is ``None`` is left out. An object that mltk does not know is described by
        its ``repr``, for the reader: `from_config` refuses it.
    """
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.bool | np.number):
        return value.item()
    if isinstance(value, tuple | list):
        return [to_config(item) for item in value]
    if value is None:
        return {"type": "None"}
    if isinstance(value, np.ndarray):  # its values are a matter of `mltk.training.fingerprint`
        return {"type": f"array {value.dtype} {value.shape}"}
    for name, known in registry().items():
        if type(value) is known:
            settings = {field.name: getattr(value, field.name) for field in settings_of(known)}
            omitted = {field.name for field in settings_of(known) if field.default is None}
            return {"type": name} | {
                key: to_config(setting)
                for key, setting in settings.items()
                if not (setting is None and key in omitted)
            }
    # An address differs from process to process, and says nothing about the object.
    return {"type": re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))}


def from_config(config: Any) -> Any:
    """Rebuild what `to_config` described; lists become tuples.

    Raises:
        RunError: If a class is not one of mltk's own public ones, or its settings are not valid.
    """
    if isinstance(config, list):
        return tuple(from_config(item) for item in config)
    if not isinstance(config, dict):
        return config
    name = config.get("type")
    if name == "None":
        return None
    known = registry().get(name) if isinstance(name, str) else None
    if known is None:
        raise UnknownClassError(
            f"the configuration names {name!r}, no public class of mltk: it cannot be rebuilt from text"
        )
    settings = {key: from_config(setting) for key, setting in config.items() if key != "type"}
    expected = {field.name for field in settings_of(known)}
    if not settings.keys() <= expected:
        unknown = ", ".join(sorted(settings.keys() - expected))
        raise RunError(f"the configuration of {name} has unknown settings: {unknown}")
    # A text from outside may hand the constructor anything, which may then fail in any way.
    with reading(f"the configuration of {name}", RunError, damaged="is not valid"):
        return known(**settings)


def differences(old: Config, new: Config) -> list[str]:
    """One line for each setting that differs: ``"algorithm.inner_lr: 0.01 before, 0.1 now"``."""
    old_flat, new_flat = _flat(old), _flat(new)
    return [
        f"{name}: {old_flat.get(name, 'nothing')!s} before, {new_flat.get(name, 'nothing')!s} now"
        for name in sorted(old_flat.keys() | new_flat.keys())
        if (name in old_flat) != (name in new_flat) or not _same(old_flat.get(name), new_flat.get(name))
    ]


def versions(library: str) -> dict[str, str]:
    """The versions of Python, mltk, NumPy and the backend's library."""
    found = {"python": platform.python_version(), "mltk": __version__}
    for package in ("numpy", library):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _same(old: Any, new: Any) -> bool:
    """Whether two settings mean the same: 1 and 1.0 do, 1 and true do not."""
    return old == new and isinstance(old, bool) == isinstance(new, bool)


def _flat(config: Any, above: str = "") -> dict[str, Any]:
    """One level of dotted names, down through lists as well."""
    if isinstance(config, dict):
        items = list(config.items())
    elif isinstance(config, list):
        items = [(str(position), item) for position, item in enumerate(config)]
    else:
        return {above: config}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= _flat(value, f"{above}.{key}" if above else key)
    return flat


def settings_of(known: type) -> list[Field[Any]]:
    """The fields that a class's constructor takes."""
    return [field for field in fields(known) if field.init]
