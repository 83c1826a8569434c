"""The reference: every public name has its place, and code stands beside its formulas."""

import inspect
import re
import textwrap
import zlib
from html import unescape
from importlib import import_module
from types import FunctionType, ModuleType

import pytest

import mltk

EXPORTING = (
    *("mltk", "mltk.algorithms", "mltk.data", "mltk.engines", "mltk.evaluation", "mltk.heads"),
    *("mltk.modules", "mltk.ops", "mltk.optim", "mltk.optim.transforms", "mltk.oracle", "mltk.pictures"),
    *("mltk.task_analysis", "mltk.task_analysis.curricula", "mltk.toolkit", "mltk.training"),
    *("mltk.compat.learn2learn", "mltk_backends.torch"),
)
WITHOUT_LIST = ("mltk.contracts", "mltk.errors", "mltk.models", "mltk.tree")  # all that they define is public


def anchors(page):
    return set(re.findall(r' id="([^"]+)"', page.read_text()))


def text_of(html):
    return unescape(re.sub(r"<[^>]*>", "", html))


def exported(package):
    if package in ("mltk_backends.torch", "mltk.compat.learn2learn"):
        pytest.importorskip("torch")
    module = import_module(package)
    if package in WITHOUT_LIST:
        return {
            name
            for name, value in vars(module).items()
            if isinstance(value, type | FunctionType)
            and value.__module__ == package
            and not name.startswith(("_", "check_"))
        }
    values = {name: getattr(module, name) for name in module.__all__}
    return {name for name, value in values.items() if not isinstance(value, ModuleType | str)}


@pytest.mark.parametrize("package", [*EXPORTING, *WITHOUT_LIST])
def test_every_public_name_has_its_place_in_the_reference(site, package):
    compressed = (site / "objects.inv").read_bytes().partition(b"zlib.\n")[2]
    listed = {line.rsplit(" ", 4)[0] for line in zlib.decompress(compressed).decode().splitlines()}
    for page in (site / "reference").glob("**/index.html"):
        listed |= anchors(page)
    assert not {f"{package}.{name}" for name in exported(package)} - listed


def test_names_in_backticks_lead_to_their_documentation(site):
    page = (site / "reference/algorithms/ridge-regression/index.html").read_text()
    assert re.search(r'<a [^>]*href="../../heads/ridge/#mltk.heads.RidgeHead"[^>]*><code>', page)


OPERATIONS = [
    name
    for name, value in vars(mltk.ops).items()
    if isinstance(value, type) and issubclass(value, mltk.ops.Operation) and not inspect.isabstract(value)
]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_four_functions_of_an_operation_stand_beside_its_formulas_as_they_run(site, name):
    operation = getattr(mltk.ops, name)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()
    words = {"re-lu": "relu", "si-lu": "silu"}.get(words, words)
    page = site / "reference" / "operations" / words / "index.html"
    beside = page.read_text().partition('<div class="beside">')[2]
    derivation, _, shown = map(text_of, beside.partition('<div class="rules">'))
    assert inspect.getdoc(operation).split()[0] in derivation
    for function in ("forward", "jvp", "vjp", "jvp_of_vjp"):
        assert f"mltk.ops.{name}.{function}" in anchors(page)
        code = textwrap.dedent(inspect.getsource(getattr(operation, function))).strip()
        assert code in shown, function


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("tanh", "def slope_tangent"),
        ("cross-entropy", "def value"),
        ("lstm", "def tangent_of_pullback"),
        ("batch-norm", "def tangent_of_pullback"),
        ("categorical", "def score_tangent"),
    ],
)
def test_what_the_four_functions_call_stands_with_them(site, name, called):
    assert called in text_of((site / "reference/operations" / name / "index.html").read_text())


def test_the_adjoint_stands_beside_the_inner_loop(site):
    page = (site / "reference/algorithms/maml/index.html").read_text()
    beside = page.partition('id="mltk.algorithms.unroll"')[2].partition('<div class="beside">')[2]
    formula, _, code = beside.partition('<div class="rules">')
    assert r"\lambda_{k+1} - \alpha H_k \lambda_{k+1}" in text_of(formula)
    assert inspect.getsource(mltk.algorithms.unroll.unroll).strip() in text_of(code)


def test_the_derivative_of_batch_norm_is_three_clicks_from_the_landing_page(site):
    page = site / "index.html"
    for folder in ("reference", "reference/operations", "reference/operations/batch-norm"):
        links = re.findall(r'<a [^>]*href="([^"#]+)"', page.read_text())
        reached = {(page.parent / link).resolve() for link in links if "://" not in link}
        assert site.resolve() / folder in reached, folder
        page = site / folder / "index.html"
    assert "mltk.ops.BatchNorm.vjp" in anchors(page)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (r"a = b", r"a = b"),
        (r"a = b, \qquad c = \frac{d, \quad e}{f}.", "a &= b, \\\\\nc &= \\frac{d, \\quad e}{f}."),
        ("a = b\n  + c\n  = d", "a &= b \\\\\n&\\quad + c \\\\\n&= d"),
        ("a = \\left( b\n  + c \\right)", "a = \\left( b\n  + c \\right)"),
    ],
)
def test_formulas_in_a_row_are_shown_one_below_another(written, shown):
    pytest.importorskip("griffe", reason="the site is built where the extra docs is installed")
    lines = import_module("docstrings").one_below_another(written).splitlines()
    if len(lines) > 1 and lines[0] == r"\begin{aligned}":
        assert lines[-1] == r"\end{aligned}"
        lines = lines[1:-1]
    assert "\n".join(lines) == shown


def without_code(page):
    return text_of(re.sub(r"<pre\b.*?</pre>", "", page.read_text(), flags=re.DOTALL))


def test_what_a_command_is_for_is_told_in_whole_and_its_examples_are_code(site):
    page = site / "reference/command-line/index.html"
    assert not re.search(r"\.\.\.\s*</(li|p)>", page.read_text())
    assert "mltk train meta-sgd" in text_of(page.read_text())
    assert "mltk train meta-sgd" not in without_code(page)


def test_what_is_returned_is_one_item_however_many_lines_it_takes(site):
    page = site / "reference/algorithms/maml/index.html"
    assert re.search(r"the others stay as\s+they are\. Beside those", without_code(page))


def test_a_page_tells_once_what_its_classes_share(site):
    page = site / "reference/data/images/index.html"
    assert "mltk.data.ImageDataset.tasks" in anchors(page)
    assert "mltk.data.Glyphs.tasks" not in anchors(page)
    assert "From ImageDataset it has" in without_code(page)
