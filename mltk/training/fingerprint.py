"""What decides a run beside its settings: arrays, attributes and code of objects that mltk does not know.

A configuration describes mltk's own objects whole; of a user's learner, task source or module it holds a
name. A fingerprint says the rest in short lines, so that a run goes on with what it was started with, and
what differs can be named.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from mltk.training.config import registry, settings_of, to_config

Facts = dict[str, str]
"""What is known of an object, under dotted names."""

Describe = Callable[[Any, bool], Facts]
"""Called as ``describe(value, trained)``; names are relative to the value's, and may be empty."""

MOST = 32
"""Containers that hold more are described by one digest of all."""

LONGEST = 80
"""Texts that are longer are described by a digest."""

DEEPEST = 8
"""How many objects may lie within each other."""

SCALARS = (str, bytes, bool, int, float, complex, type(None))
RANDOM = ("Generator", "RandomState", "Random", "SystemRandom", "BitGenerator")

_described: dict[type, Describe] = {}


def register(kind: type, describe: Describe) -> None:
    """Let a backend describe objects of its library: its tensors and modules.

    Args:
        kind: The class; subclasses of it are described alike.
        describe: Its facts. Parameters of modules that are ``trained`` are in the checkpoint, and left out.
    """
    _described[kind] = describe


def fingerprint(name: str, value: Any, *, trained: bool = False) -> Facts:
    """Describe what a configuration does not say of an object.

    A class may define a method ``fingerprint()``, which returns a dict of texts and numbers, to say itself
    what counts. Of other objects it is all attributes, down to the arrays they hold, and the source of their
    class where it can be had, whatever its comments. Random generators and cached properties are left out.

    Args:
        name: What the object is called, such as ``"tasks"``.
        value: A learner, a task source, or anything that they hold.
        trained: Whether the parameters of modules in it are what is trained.

    Returns:
        Lines such as ``{"tasks.images": "float32 (5, 28, 28) 0c1f…"}``; none for what a configuration
        describes whole.
    """
    facts: Facts = {}
    _Walk(facts, trained).foreign_parts(name, value)
    return facts


def array_text(kind: str, shape: tuple[int, ...], content: Any) -> str:
    """One line for an array: dtype, shape and a digest of its bytes."""
    return f"{kind} {tuple(shape)} {digest(content)}"


def digest(content: Any) -> str:
    """A short digest of bytes, or of a text."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


def code_of(value: Any) -> str | None:
    """A digest of the source of a user's class or function, without comments and docstrings.

    ``None`` for what belongs to an installed library or has no source at hand.
    """
    kinds = value.__mro__ if isinstance(value, type) else (value,)
    sources = [_source(kind) for kind in kinds if _is_users(kind)]
    found = [source for source in sources if source is not None]
    return digest("\n".join(found)) if found else None


class _Walk:
    """Writes down facts on the way through an object."""

    def __init__(self, facts: Facts, trained: bool) -> None:
        self._facts = facts
        self._trained = trained
        self._inside: list[int] = []

    def foreign_parts(self, name: str, value: Any) -> None:
        """Describe what a configuration does not: whatever is no setting and no object of mltk."""
        if isinstance(value, (*SCALARS, np.bool, np.number)):
            return
        if type(value) in registry().values():
            for setting in settings_of(type(value)):
                self.foreign_parts(f"{name}.{setting.name}", getattr(value, setting.name))
        elif isinstance(value, tuple | list):
            for position, item in enumerate(value):
                self.foreign_parts(f"{name}.{position}", item)
        else:
            self.describe(name, value)

    def describe(self, name: str, value: Any) -> None:
        """Describe any value."""
        if id(value) in self._inside or len(self._inside) > DEEPEST or type(value).__name__ in RANDOM:
            return
        self._inside.append(id(value))
        try:
            self._describe(name, value)
        finally:
            self._inside.pop()

    def _describe(self, name: str, value: Any) -> None:
        own = next((_described[kind] for kind in type(value).__mro__ if kind in _described), None)
        if own is not None:
            found: Mapping[str, Any] = own(value, self._trained)
            self._add(name, found)
        elif not isinstance(value, type) and callable(getattr(value, "fingerprint", None)):
            self._facts[name] = type(value).__qualname__
            self._add(name, value.fingerprint())
        elif isinstance(value, (*SCALARS, PurePath)):
            self._facts[name] = _short(repr(str(value) if isinstance(value, PurePath) else value))
        elif isinstance(value, np.ndarray | np.generic):
            self._array(name, np.asarray(value))
        elif isinstance(value, Mapping | tuple | list | set | frozenset):
            self._container(name, value)
        elif isinstance(value, FunctionType | BuiltinFunctionType | MethodType | type | ModuleType | partial):
            self._callable(name, value)
        elif type(value) in registry().values():
            self._facts[name] = _short(json.dumps(to_config(value)))
            self.foreign_parts(name, value)
        else:
            self._object(name, value)

    def _add(self, name: str, found: Mapping[str, Any]) -> None:
        for key, fact in found.items():
            self._facts[f"{name}.{key}" if key else name] = _short(str(fact))

    def _array(self, name: str, value: np.ndarray) -> None:
        if value.dtype.hasobject:
            self.describe(name, value.tolist())
            return
        flat = np.ascontiguousarray(value).reshape(-1)
        self._facts[name] = array_text(str(value.dtype), value.shape, flat.view(np.uint8).data)

    def _container(self, name: str, value: Any) -> None:
        is_map = isinstance(value, Mapping)
        items = [*value.items()] if is_map else list(enumerate(value))
        if all(isinstance(item, SCALARS) for pair in items for item in pair):
            # The order of a set differs from process to process.
            ordered = sorted(map(repr, value)) if isinstance(value, set | frozenset) else value
            self._facts[name] = _short(repr(dict(items) if is_map else ordered))
        elif len(items) <= MOST:
            for key, item in items:
                self.describe(f"{name}.{key}", item)
        else:
            inside: Facts = {}
            walk = _Walk(inside, self._trained)
            for key, item in items:
                walk.describe(str(key), item)
            self._facts[name] = f"{len(items)} items {digest(json.dumps(inside))}"

    def _callable(self, name: str, value: Any) -> None:
        if isinstance(value, partial):
            self._callable(name, value.func)
            self.describe(f"{name}.args", value.args)
            self.describe(f"{name}.keywords", value.keywords)
            return
        code = None if isinstance(value, ModuleType | BuiltinFunctionType) else code_of(value)
        known = str(getattr(value, "__qualname__", None) or getattr(value, "__name__", ""))
        self._facts[name] = known if code is None else f"{known} {code}"
        if code is not None and isinstance(value, FunctionType):
            for variable, held in inspect.getclosurevars(value).nonlocals.items():
                self.describe(f"{name}.{variable}", held)

    def _object(self, name: str, value: Any) -> None:
        kind = type(value)
        self._facts[name] = kind.__qualname__
        code = code_of(kind)
        if code is not None:
            self._facts[f"{name}.code"] = code
        attributes = attributes_of(value)
        if not attributes and code is None and " at 0x" not in (text := repr(value)):
            self._facts[name] = _short(text)
        for key, attribute in attributes.items():
            self.describe(f"{name}.{key}", attribute)


def attributes_of(value: Any) -> dict[str, Any]:
    """What an object holds, in its ``__dict__`` and its slots, but for cached properties."""
    slots = [slot for kind in type(value).__mro__ for slot in _slots(kind)]
    found = {slot: getattr(value, slot) for slot in slots if hasattr(value, slot)}
    found |= getattr(value, "__dict__", {})
    return {
        key: attribute
        for key, attribute in found.items()
        if not isinstance(getattr(type(value), key, None), cached_property) and not key.startswith("__")
    }


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}… {digest(text)}"


def _is_users(value: Any) -> bool:
    """Whether a class or function is neither mltk's nor of an installed library."""
    package = str(getattr(value, "__module__", None)).partition(".")[0]
    if package in ("mltk", "mltk_backends") or package in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    return not {"site-packages", "dist-packages"} & set(Path(file).parts)


def _source(value: Any) -> str | None:
    """What stands in the source of a class or function that decides what it does."""
    try:
        text = textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError, SyntaxError):
        return None
    try:
        tree = ast.parse(text)
    except SyntaxError:  # a lambda in the middle of a statement
        return re.sub(r"\s+", " ", text).strip()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
