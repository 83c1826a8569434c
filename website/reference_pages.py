"""Hook of mkdocs: what the pages of the reference leave to be filled in.

In Markdown of the folder ``reference`` stand, each on a line of its own:

- ``[overview]``: a table of what the page documents; ``[overview mltk.ops]``: of all that a package exports;
- ``### +++ mltk.evaluation.conformal``: the docstring of a module, as prose, and its public names, under the
  paths that people type;
- ``[commands]``: every command of ``mltk``, with its arguments and options;
- ``::: mltk.ops.BatchNorm``, as mkdocstrings takes it. Of an operation, a distribution, a head or a transform
  the functions derived by hand stand beside the docstring, as they run, wherever they are inherited from.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import cached_property, partial
from importlib import import_module
from itertools import pairwise
from types import FunctionType, ModuleType
from typing import Any, cast

import typer
from docstrings import link, rewritten
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from mkdocs.utils.yaml import yaml_load
from mkdocs_autorefs import AutorefsPlugin
from typer.cli import get_docs_for_click

from mltk.checks import Checked
from mltk.cli import app
from mltk.heads import Head
from mltk.ops import Distribution, Operation
from mltk.optim.transforms import GradientTransform

PACKAGES = (
    *(
        "mltk.algorithms",
        "mltk",
        "mltk.heads",
        "mltk.ops",
        "mltk.optim",
        "mltk.optim.transforms",
        "mltk.data",
    ),
    *("mltk.training", "mltk.evaluation", "mltk.task_analysis"),
    "mltk.task_analysis.curricula",
    *("mltk.toolkit", "mltk.modules", "mltk.engines", "mltk.pictures", "mltk.oracle"),
    *("mltk.compat.learn2learn", "mltk_backends.torch"),
)
"""Where public names are, in the order in which a name's home is looked for."""

CONTRACTS: tuple[tuple[type, dict[str, str]], ...] = (
    (
        Operation,
        {
            "forward": "the value",
            "jvp": r"the tangent \(\dot y\)",
            "vjp": r"the cotangents \(\bar p, \bar x\)",
            "jvp_of_vjp": r"their tangents \(\dot{\bar p}, \dot{\bar x}\)",
        },
    ),
    (
        Distribution,
        {
            "log_prob": r"the value \(\ell\)",
            "jvp": r"its tangent \(\dot\ell\)",
            "vjp": r"the cotangent \(\bar x\)",
            "jvp_of_vjp": r"its tangent \(\dot{\bar x}\)",
        },
    ),
    (
        Head,
        {
            "fit": "learned from the support set",
            "predict": "outputs for the queries",
            "forward": "both, and what the pullback needs",
            "vjp": "the pullback",
        },
    ),
    (GradientTransform, {"forward": "the directions", "vjp": "the pullback"}),
)
"""The functions of a contract, in the order in which they are read, and what each gives."""

CONTRACT_CLASSES = {contract for contract, _ in CONTRACTS} | {Checked}

LEARNER = ("init", "adapt", "predict", "value_and_grad")
"""The methods of a learner, in the order in which they are called."""

METHODS = (FunctionType, classmethod, staticmethod, property, cached_property)

HELD_ELSEWHERE = ("kernels", "image_kernels", "operation", "standardization")
"""Modules of operations whose functions are documented at a place of their own."""


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what a page of the reference leaves to be filled in."""
    if not page.file.src_uri.startswith("reference/"):
        return markdown
    modules = r"^(#* *)\+\+\+ (\S+)$"
    anchors = [name for _, name in re.findall(modules, markdown, flags=re.M) if is_module(name)]
    markdown = re.sub(modules, lambda found: of_module(found[2], found[1]), markdown, flags=re.M)
    documented = re.findall(r"^(?:#+ *)?::: (\S+)", markdown, flags=re.M)
    markdown = re.sub(r"^\[overview\]$", lambda _: overview(documented), markdown, flags=re.M)
    markdown = re.sub(
        r"^\[overview (\S+)\]$",
        lambda found: overview(exported(found[1])),
        markdown,
        flags=re.M,
    )
    markdown = re.sub(r"^\[commands\]$", lambda _: commands(), markdown, flags=re.M)
    autorefs = cast("AutorefsPlugin", config.plugins["autorefs"])
    for path in (*anchors, *filter(is_shadowed, documented)):
        autorefs.register_anchor(page, path)
    directive = r"^(?P<level>#* *)::: (?P<path>\S+)\n?(?P<block>(?:(?: {4}.*)?\n)*(?: {4}.*)?)"
    here = [value for value in map(found, documented) if isinstance(value, type)]
    return re.sub(directive, lambda each: documentation(each, here), markdown, flags=re.M)


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of full names in backticks, on every page."""
    elsewhere = r"<(a|autoref|pre|h\d)\b.*?</\1>"
    return re.sub(rf"{elsewhere}|<code>(?P<path>mltk(?:\.\w+)+)</code>", linked, html, flags=re.S)


def linked(found: re.Match[str]) -> str:
    """Code that is a path, as a link to its documentation, if it has any."""
    path = found["path"]
    return f'<autoref optional identifier="{path}">{found[0]}</autoref>' if path else found[0]


def exported(package: str) -> list[str]:
    """The paths of what a package exports, but for packages and the version."""
    values = vars(import_module(package))
    names = import_module(package).__all__
    return [f"{package}.{name}" for name in names if not isinstance(values.get(name), ModuleType | str)]


def of_module(name: str, level: str) -> str:
    """What a module says of itself, and directives for the public names that are defined there."""
    module = imported(name)
    if module is None:
        return ""
    parts = [f'<a id="{name}"></a>'] if is_module(name) else []
    parts += [rewritten(inspect.getdoc(module) or "", lambda each: path_in(module, each))]
    for path, value in public():
        documented = isinstance(value, type | FunctionType) and value.__module__ == name
        if documented and path == home(value):
            parts.append(f"{level}::: {path}")
    return "\n\n".join(parts) + "\n"


def path_in(module: ModuleType, name: str) -> str | None:
    """The path of what a name means in the docstring of a module."""
    if name.startswith("mltk"):
        return name
    first, _, rest = name.partition(".")
    value = getattr(module, first, None)
    if not isinstance(value, type | FunctionType):
        return None
    return f"{path_of(value)}.{rest}" if rest else path_of(value)


def public() -> Iterator[tuple[str, Any]]:
    """Path and value of every public name; a value that packages share comes under several paths."""
    for package in PACKAGES:
        for name in getattr(imported(package), "__all__", ()):
            yield f"{package}.{name}", getattr(import_module(package), name)


def imported(path: str) -> ModuleType | None:
    """The module of a path; ``None`` if there is none, or if what it needs is not installed."""
    try:
        return import_module(path)
    except ImportError:
        return None


def home(value: Any) -> str:
    """The path under which a public value is documented."""
    return next(path for path, each in public() if each is value)


def found(path: str) -> Any:
    """The value of a dotted path, as Python gives it: not the module, where a function has the same path."""
    package, _, name = path.rpartition(".")
    value = getattr(found(package), name, None) if package else None
    return imported(path) if value is None else value


def overview(paths: list[str]) -> str:
    """A table of names, each with the first line of its docstring and linked to its documentation."""
    rows = ["| name | what it is |", "| --- | --- |"]
    for path in paths:
        if is_module(path):
            continue
        says = rewritten(summary(path), lambda name: name if name.startswith("mltk.") else None)
        says = says.replace("|", r"\|")
        rows.append(f"| [`{path.rpartition('.')[2]}`][{path}] | {says} |")
    return "\n".join(rows) + "\n"


def summary(path: str) -> str:
    """The first line of a docstring; of other values, of the text that stands below them in their module."""
    value = found(path)
    if isinstance(value, type | FunctionType | ModuleType) or callable(value):
        text = inspect.getdoc(value) or ""
        if isinstance(value, type | FunctionType | ModuleType):
            return text.partition("\n")[0]
    module, _, name = path.rpartition(".")
    body = ast.parse(inspect.getsource(import_module(module))).body
    for each in body:
        if isinstance(each, ast.ImportFrom) and each.module and name in {alias.name for alias in each.names}:
            return summary(f"{each.module}.{name}")
    for statement, below in pairwise(body):
        if (
            isinstance(statement, ast.Assign | ast.AnnAssign)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and name in ast.unparse(statement).partition("=")[0]
        ):
            return str(below.value.value).partition("\n")[0]
    return ""


def documentation(directive: re.Match[str], here: Sequence[type] = ()) -> str:
    """A directive of mkdocstrings, with what the documented object needs to be shown well.

    What a class has from one that is documented ``here``, on the same page, is named and not told again.
    """
    path, block = directive["path"], directive["block"]
    value = found(path)
    settings: dict[str, Any] = yaml_load(textwrap.dedent(block)) or {}
    options: dict[str, Any] = settings.setdefault("options", {})
    anchor = also = ""
    if is_shadowed(path):
        anchor = f'<a id="{path}"></a>\n\n'
        options |= {"heading": path, "toc_label": value.__name__}
        path = f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, type):
        extra = options.setdefault("extra", {})
        shown: list[dict[str, str]] = []
        for contract, functions in CONTRACTS:
            if issubclass(value, contract) and not inspect.isabstract(value):
                options.setdefault("members", [])
                shown = extra["beside"] = rules(value, functions)
        extra["bases"] = [path_of(base) for base in bases(value, {rule["path"] for rule in shown})]
        if "members" not in options and all(hasattr(value, name) for name in LEARNER):
            options |= {"members": members(value), "group_by_category": False}
        bases_here = [base for base in value.__mro__[1:] if base in here]
        if bases_here and "members" not in options:
            options["inherited_members"] = False
            also = f"\n{inherited(value, bases_here)}\n"
    if options.get("members") == []:
        options["inherited_members"] = False
    beside = options.get("extra", {}).get("beside", [])
    if beside and isinstance(beside[0], str):
        options["extra"]["beside"] = [
            {"path": each, "name": each.rpartition(".")[2], "says": ""} for each in beside
        ]
    written = f"    {json.dumps(settings)}\n" if options else ""
    return f"{anchor}{directive['level']}::: {path}\n{written}\n{also}"


def inherited(kind: type, bases_here: list[type]) -> str:
    """A sentence for each of these bases: which methods and properties a class has from it."""
    told, sentences = set(vars(kind)), []
    for base in bases_here:
        values = {name: value for name, value in vars(base).items() if name[0] != "_" and name not in told}
        told |= set(values)
        names = [name for name, value in values.items() if isinstance(value, METHODS) and value.__doc__]
        place = path_of(base)
        if names:
            links = ", ".join(link(name, f"{place}.{{}}".format) for name in names)
            sentences.append(f"From {link(base.__name__, place.format)} it has {links}.")
    return "\n".join(sentences)


def is_module(path: str) -> bool:
    """Whether people who type a path find a module."""
    return isinstance(found(path), ModuleType)


def is_shadowed(path: str) -> bool:
    """Whether a path is that of a module, too: mkdocstrings finds the module, people the function in it."""
    return not is_module(path) and imported(path) is not None


def bases(kind: type, functions: set[str]) -> list[type]:
    """The bases of a class that define functions which are shown, or tell of settings that it leaves out."""
    told = inspect.getdoc(kind) or ""
    settings = {each.name for each in fields(kind)} if is_dataclass(kind) else set()
    untold = {name for name in settings if not re.search(rf"^ *{name}: ", told, re.M)}

    def tells(base: type) -> bool:
        defines = any(path.startswith(f"{path_of(base)}.") for path in functions)
        return defines or bool(untold & set(vars(base).get("__annotations__", ())))

    own = [base for base in kind.__mro__[1:] if base.__module__.startswith("mltk")]
    return [base for base in own if base.__doc__ and base not in CONTRACT_CLASSES and tells(base)]


def members(kind: type) -> list[str]:
    """The documented public members of a learner but its settings, its four methods first."""
    left_out = {*LEARNER, *(each.name for each in fields(kind))} if is_dataclass(kind) else {*LEARNER}
    names = [name for name in dir(kind) if not name.startswith("_") and name not in left_out]
    names = [name for name in names if inspect.getdoc(getattr(kind, name))]
    return [*LEARNER, *sorted(names, key=lambda name: not callable(getattr(kind, name)))]


def rules(kind: type, functions: dict[str, str]) -> list[dict[str, str]]:
    """The functions of a contract as this class has them, and what of the same files they call, in turn.

    Returns:
        Of each function ``path``, where it is defined, ``name``, and ``says``, what it gives.
    """
    shown: dict[str, dict[str, str]] = {}
    for name, says in functions.items():
        function = inspect.unwrap(getattr(kind, name))
        shown[path_of(function)] = {"path": path_of(function), "name": name, "says": says}
    waiting = [inspect.unwrap(getattr(kind, name)) for name in functions]
    while waiting:
        for called in calls(waiting.pop(0), kind):
            path = path_of(called)
            if path not in shown and not getattr(called, "__isabstractmethod__", False):
                shown[path] = {"path": path, "name": called.__name__, "says": ""}
                waiting.append(called)
    own = path_of(kind)
    if issubclass(kind, Head):  # what its bases share is read last
        return sorted(shown.values(), key=lambda rule: not rule["path"].startswith(f"{own}."))
    return list(shown.values())


def path_of(function: Callable[..., Any]) -> str:
    """Where a function is defined."""
    return f"{function.__module__}.{function.__qualname__}"


def calls(function: Callable[..., Any], kind: type) -> Iterator[FunctionType]:
    """The methods of a class, and the functions of its package, that a function of it names."""
    package = kind.__module__.rpartition(".")[0]
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        called = None
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            called = getattr(kind, node.attr, None)
        elif isinstance(node, ast.Name):
            called = vars(inspect.getmodule(function)).get(node.id)
        if not isinstance(called, FunctionType) or called.__name__.startswith("check"):
            continue
        called = inspect.unwrap(called)
        folder, _, file = called.__module__.rpartition(".")
        if folder == package and file not in HELD_ELSEWHERE:
            yield called


def commands() -> str:
    """Every command of ``mltk``, as its help says: of each all that it tells, and examples as code."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="mltk")
    text = get_docs_for_click(obj=command, ctx=context, name="mltk", indent=1)
    examples = r"^(Examples?|Start with):\s+((?:mltk .*\n+)+)"
    text = re.sub(examples, lambda each: f"**{each[1]}**:\n\n{as_code(each[2])}\n\n", text, flags=re.M)
    first = dict(re.findall(r"^#+ `(mltk .+)`\n\n((?:.+\n)+)", text, flags=re.M))
    sections = re.split(r"^(#+ `(mltk.*)`)$", text, flags=re.M)
    for n in range(2, len(sections), 3):
        said = partial(uncut, first, sections[n])
        sections[n + 1] = re.sub(r"^\* `([a-z][\w-]*)`: .*\.\.\.$", said, sections[n + 1], flags=re.M)
    del sections[2::3]
    return "".join(sections)


def as_code(lines: str) -> str:
    """Commands as a block of code, a line each."""
    return "```sh\n" + re.sub(r"\n+", "\n", lines) + "```"


def uncut(first: dict[str, str], parent: str, cut: re.Match[str]) -> str:
    """An item of a list of commands with the first paragraph of the command, which its help cuts off."""
    told = " ".join(first[f"{parent} {cut[1]}"].split())
    return f"* `{cut[1]}`: {told}"
