"""Networks in JSON: a list of layers, each with its name and its settings."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mltk import ops
from mltk.checks import check_choice
from mltk.errors import SettingError
from mltk.models import Sequential
from mltk.ops import Operation
from mltk.ops.activation import Activation


def layer_name(operation: type[Operation]) -> str:
    """The name of an operation in JSON: ``MaxPool`` is ``max_pool``."""
    if operation.__name__.isupper() or issubclass(operation, Activation):
        return operation.__name__.lower()
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation.__name__).lower()


OPERATIONS = {
    layer_name(each): each
    for each in vars(ops).values()
    if isinstance(each, type) and issubclass(each, Operation) and each is not Operation
    if not issubclass(each, ops.Loss | ops.MagicBox)
}
"""Every public operation that may be a layer, under its name."""


def describe(operation: Operation) -> dict[str, Any]:
    """An operation in JSON: its name under ``"layer"``, and every setting."""
    settings = {
        field.name: getattr(operation, field.name)
        for field in dataclasses.fields(operation)  # type: ignore[arg-type]  # every operation is a dataclass
    }
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    return {"layer": layer_name(type(operation)), **plain}


def describe_model(model: Sequential) -> list[dict[str, Any]]:
    """A model in JSON: its layers, in order; layer ``i`` has the parameters ``"i.weight"`` and so on."""
    return [describe(operation) for operation in model.layers]


def operation(description: Mapping[str, Any]) -> Operation:
    """The operation of a description.

    Raises:
        SettingError: If there is no layer of that name, or a setting is not one of its own.
    """
    name: Any = description.get("layer")
    check_choice("layer", name, OPERATIONS)
    settings = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in description.items()
        if key != "layer"
    }
    known = {field.name for field in dataclasses.fields(OPERATIONS[name])}  # type: ignore[arg-type]
    if not settings.keys() <= known:
        raise SettingError(f"layer {name!r} has no setting {', '.join(sorted(settings.keys() - known))}")
    return OPERATIONS[name](**settings)


def model(descriptions: Iterable[Mapping[str, Any]]) -> Sequential:
    """The model of a list of descriptions."""
    return Sequential(operation(description) for description in descriptions)
