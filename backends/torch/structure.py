"""Walk through a `torch.nn.Module`, copy its structure, and replace what it refers to."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import is_not, itemgetter
from types import MethodType
from typing import Any
from weakref import ref

import torch
from torch.nn import Module, ParameterDict, RNNBase, UninitializedBuffer, UninitializedParameter
from torch.nn.modules.module import _WrappedHook

from mltk.errors import SettingError, UnsupportedError

Links = dict[int, Any]
"""What takes the place of an object, under the identity of that object, which somebody must keep alive."""

STANDARD = frozenset(vars(Module()))
"""The attributes of every module, which are not the user's."""

CONTAINERS = tuple(name for name, value in vars(Module()).items() if isinstance(value, dict | set))
"""Those of them that a clone must own: its parameters, buffers, submodules and hooks."""

TABLES = ("_parameters", "_buffers", "_modules")
HOOKS = tuple(name for name in CONTAINERS if name.endswith("_hooks"))
HOOKS_OF = itemgetter(*HOOKS)
SCALARS = frozenset({bool, int, float, str, type(None)})
"""Types of most attributes; they refer to nothing."""


def modules_of(module: Module) -> list[Module]:
    """A module and its submodules, each once, in the order of ``module.modules()``, only faster.

    Raises:
        UnsupportedError: If one of them is a TorchScript module.
    """
    found: dict[int, Module] = {}
    waiting: list[Module | None] = [module]
    while waiting:
        present = waiting.pop()
        if present is not None and id(present) not in found:
            found[id(present)] = present
            if present._modules:
                waiting += reversed(present._modules.values())
    if any(issubclass(kind, torch.jit.ScriptModule) for kind in set(map(type, found.values()))):
        raise UnsupportedError(
            "module is or holds a TorchScript module, whose parameters are out of Python's reach; "
            "expected modules that torch.jit has neither scripted nor traced"
        )
    return list(found.values())


def tables_of(modules: Iterable[Module], name: str) -> list[dict[str, Any]]:
    """Their tables of a name, such as ``"_parameters"``, that hold something."""
    return [table for module in modules if (table := vars(module)[name])]


def distinct(tables: Iterable[dict[str, Any]]) -> list[Any]:
    """The entries of tables, each once, in order; not ``None``."""
    found = {id(entry): entry for entry in _entries(tables)}
    found.pop(id(None), None)
    return list(found.values())


def linked_copy(
    modules: Sequence[Module], links: Links, containers: Iterable[tuple[int, str]] = ()
) -> Module:
    """A copy of the first of some modules, which are it and its submodules, on other tensors.

    Args:
        modules: As from `modules_of`; they are not changed.
        links: What takes the place of tensors.
        containers: Lists, dicts and sets that the copy shall own: the position of a module, and the name of
            its attribute.
    """
    clones = [copy_structure(module) for module in modules]
    for position, name in containers:
        vars(clones[position])[name] = vars(clones[position])[name].copy()
    links = links | dict(zip(map(id, modules), clones, strict=True))
    relink(clones, links)
    relink_hooks(clones, links)
    clone: Any
    for clone in clones:
        if "dynamo_ctx" in vars(clone):  # what torch.compile returns calls the module that it was made for
            clone._initialize()
    return clones[0]


def check_initialised(module: Module) -> None:
    """Raise `SettingError` if a parameter or buffer of a module is not initialised yet."""
    lazy = (UninitializedParameter, UninitializedBuffer)
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if isinstance(tensor, lazy):
            raise SettingError(
                f"module has {name!r}, which is not initialised; expected a module that was called once"
            )


def copy_structure(module: Module) -> Module:
    """A module with the same tensors, submodules, hooks and attributes, in containers of its own."""
    clone: Module = object.__new__(type(module))
    state = vars(module).copy()
    for name in CONTAINERS:
        state[name] = state[name].copy()
    if isinstance(module, ParameterDict):
        state["_keys"] = state["_keys"].copy()
    if "_compiled_call_impl" in state:
        del state["_compiled_call_impl"]  # it calls the original
    object.__setattr__(clone, "__dict__", state)
    return clone


def relink(modules: Sequence[Module], links: Links) -> None:
    """Replace in modules what has a replacement: in their tables and in their attributes."""
    for name in TABLES:
        tables = tables_of(modules, name)
        entries = iter([links.get(id(entry), entry) for entry in _entries(tables)])
        for table in tables:
            table.update(zip(table, entries, strict=False))  # a table takes as many entries as it has
    names: dict[type, frozenset[str]] = {}
    for module in modules:
        state, kind = vars(module), type(module)
        own = names.get(kind, frozenset())
        if len(own) + len(STANDARD) != len(state) or not own <= state.keys():
            own = names[kind] = frozenset(state.keys() - STANDARD)  # most modules of a class have the same
        for name in own:
            if type(state[name]) not in SCALARS:
                state[name] = _relinked(state[name], links)
    for module in modules:
        if isinstance(module, RNNBase):
            module._init_flat_weights()  # its list of weights, in one block of memory where CUDA wants that


def relink_hooks(modules: Iterable[Module], links: Links) -> None:
    """Replace in the hooks of modules what has a replacement."""
    for module in modules:
        if any(HOOKS_OF(vars(module))):
            for hooks in HOOKS_OF(vars(module)):
                hooks.update([(key, _rehooked(hook, links)) for key, hook in hooks.items()])


def _entries(tables: Iterable[dict[str, Any]]) -> Iterable[Any]:
    return chain.from_iterable([table.values() for table in tables])


def _rehooked(hook: Any, links: Links) -> Any:
    """A hook, or the same hook of the module that takes the place of its own."""
    if isinstance(hook, _WrappedHook) and hook.with_module:
        module, hook = _replacement(hook.module, links), copy.copy(hook)
        hook.module = module
        return hook
    return _replacement(hook, links)


def _relinked(value: Any, links: Links) -> Any:
    """A value, or what takes its place: a new list, tuple or dict if an item of it has a replacement."""
    kind = type(value)
    if kind is list or kind is tuple:
        items = [_replacement(item, links) for item in value]
        return kind(items) if any(map(is_not, items, value)) else value
    if kind is dict:
        items = [_replacement(item, links) for item in value.values()]
        return dict(zip(value, items, strict=True)) if any(map(is_not, items, value.values())) else value
    return _replacement(value, links)


def _replacement(value: Any, links: Links) -> Any:
    """What takes the place of a value: of what is linked, a bound method of it or a weak reference to it."""
    if id(value) in links:
        return links[id(value)]
    if type(value) is MethodType and id(value.__self__) in links:
        return MethodType(value.__func__, links[id(value.__self__)])
    if type(value) is ref and id(value()) in links:
        return ref(links[id(value())])
    return value
