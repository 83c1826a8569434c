"""A failing case as a few lines of Python that run as they are."""

from __future__ import annotations

import importlib.util
import inspect
import pprint
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mltk.oracle.case import Case, Values
from mltk.peers import HEAD_PEERS, PEERS, HeadPeer, Peer

WIDTH = 100

HEADERS = {
    "torch": ("import torch",),
    "numpy": ("import numpy as np",),
    "jax": ("import jax", "import jax.numpy as jnp", "import numpy as np"),
}
CONSTRUCTORS = {"torch": "torch.tensor", "numpy": "np.array", "jax": "jnp.array"}
PRECISE = {"torch": "torch", "numpy": "np", "jax": "np"}
NAMESPACES = {"torch": "torch", "numpy": "np", "jax": "jnp"}

SHOW = """\
found = candidate(params, data, settings)
print("found   ", found)
print("expected", expected)
"""

REPEAT = """\
print("first call ", candidate(params, data, settings))
print("second call", candidate(params, data, settings))
"""


def snippet(
    candidate: str | Callable[..., Any] | Peer | HeadPeer,
    computation: str,
    case: Case,
    *,
    arrays: str,
    dtype: str,
    kind: str = "wrong",
    outputs: Values | None = None,
    changed: tuple[str, ...] = (),
) -> str:
    """Python code that calls a candidate in a case and prints what it returns and what is expected.

    Args:
        candidate: As `mltk.oracle.candidate.runner` takes it. For a function that cannot be imported, the
            code has a line to be completed.
        computation: Its name.
        case: With its outputs.
        arrays: The library of the inputs.
        dtype: Their precision.
        kind: The verdict: for ``"keeps-state"`` the candidate is called twice, for ``"changes-its-inputs"``
            what it changes is printed before and after.
        outputs: What the candidate returned, to show no others; ``None`` for all.
        changed: The dotted names of the inputs that it changes.
    """
    imports, assignment = _import(candidate, computation)
    libraries = {peer.name: "numpy" for peer in PEERS} | {peer.name: "torch" for peer in HEAD_PEERS}
    library = libraries.get(
        candidate if isinstance(candidate, str) else getattr(candidate, "name", ""), arrays
    )

    def number(array: np.ndarray) -> str:
        name = dtype if array.dtype.kind == "f" else "int64"
        return f"{CONSTRUCTORS[library]}({_literal(array)}, dtype={NAMESPACES[library]}.{name})"

    inputs = dict(case.inputs)
    params = inputs.pop("params", {})
    expected = {name: value for name, value in case.expected.items() if outputs is None or name in outputs}
    double = ['jax.config.update("jax_enable_x64", True)'] * (library == "jax" and dtype == "float64")
    lines = [
        "from types import SimpleNamespace\n",
        *HEADERS[library],
        "from mltk.oracle.candidate import Settings",
        *imports,
        "",
        *double,
        f"{PRECISE[library]}.set_printoptions(precision=12)\n",
        assignment,
        f"settings = Settings({_settings(case.settings)})",
        f"params = {_group(params, number)}",
        f"data = SimpleNamespace(**{_group(inputs, number)})",
    ]
    if kind == "keeps-state":
        return "\n".join([*lines, REPEAT])
    if kind == "changes-its-inputs":
        places = [_place(name, case.inputs) for name in changed]
        shown = [f'print("{{}}", "{place}", {place})' for place in places]
        return "\n".join(
            [
                *lines,
                *(line.format("before") for line in shown),
                "candidate(params, data, settings)",
                *(line.format("after ") for line in shown),
                "",
            ]
        )
    return "\n".join([*lines, f"expected = {_group(expected, _literal)}\n", SHOW])


def _import(candidate: Any, computation: str) -> tuple[list[str], str]:
    """Lines that import a candidate, and the line that gives it its name."""
    if not isinstance(candidate, str):
        found = _address(candidate) if callable(candidate) else candidate.name
        if found is None:
            title = getattr(candidate, "__name__", type(candidate).__name__)
            return [], f"candidate = ...  # {title}, which has no name that can be imported"
        candidate = found
    module, colon, attribute = candidate.rpartition(":")
    if colon and not module.endswith(".py"):
        return [f"from {module} import {attribute.partition('.')[0]}"], f"candidate = {attribute}"
    if colon:  # from whatever folder it is run
        candidate = f"{Path(module).resolve()}:{attribute}"
    arguments = repr(candidate) if colon else f"{candidate!r}, {computation!r}"
    return ["from mltk.oracle.candidate import load"], f"candidate = load({arguments})"


def _address(function: Any) -> str | None:
    """``module:function``, or ``file.py:function`` if the module cannot be imported."""
    name, module = (getattr(function, key, None) for key in ("__qualname__", "__module__"))
    if not isinstance(name, str) or not isinstance(module, str) or "<" in name:
        return None
    try:
        file = Path(inspect.getfile(function))
        spec = importlib.util.find_spec(module) if module != "__main__" else None
    except (TypeError, OSError, ValueError, ImportError):
        return None
    if spec is not None and spec.origin is not None and Path(spec.origin) == file:
        return f"{module}:{name}"
    return f"{file.resolve()}:{name}" if file.is_file() else None


def _place(name: str, inputs: Mapping[str, Any]) -> str:
    """``params["0.weight"]`` or ``data.support_x``, as an expression without double quotes."""
    group, _, rest = name.partition(".")
    if group == "params":
        return f"params.get({rest!r})"
    return f"data.{group}" if not rest else f"data.{group}.get({rest!r})"


def _group(values: Mapping[str, Any], show: Callable[[Any], str]) -> str:
    """A dict of arrays, and of dicts of them, an entry a line."""
    if not values:
        return "{}"
    entries = [
        f"    {name!r}: {_nested(_group(value, show)) if isinstance(value, Mapping) else show(value)},"
        for name, value in values.items()
    ]
    return "\n".join(["{", *entries, "}"])


def _settings(settings: Mapping[str, Any]) -> str:
    """A dict in which each layer of a network has a line."""
    entries = []
    for name, value in settings.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            items = "".join(f"        {item!r},\n" for item in value)
            entries.append(f"    {name!r}: [\n{items}    ],")
        else:
            entries.append(f"    {name!r}: {_pretty(value, 12)},")
    return "\n".join(["{", *entries, "}"])


def _nested(text: str) -> str:
    return text.replace("\n", "\n    ")


def _literal(array: np.ndarray) -> str:
    return _pretty(array.tolist(), 12)


def _pretty(value: Any, indent: int) -> str:
    """A literal, on several lines if it is long."""
    lines = pprint.pformat(value, width=WIDTH - indent, compact=True, sort_dicts=False).splitlines()
    return f"\n{' ' * indent}".join(lines)
