"""What the README and the documentation show works as it stands there."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(*pages):
    """The blocks of Python, each with the page that it stands on and its number there."""
    found = [
        (page.name, number, block)
        for page in pages
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
    ]
    assert found
    return [pytest.param(*block, id=f"{block[0]}-{block[1]}") for block in found]


@pytest.mark.parametrize(("page", "number", "block"), blocks(ROOT / "README.md"))
def test_the_readme_shows_evaluations(page, number, block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, f"{page}, block {number}", "exec"), {})
    assert "95 % interval" in capsys.readouterr().out


@pytest.mark.parametrize(("page", "number", "block"), blocks(*sorted((ROOT / "docs").glob("*.md"))))
def test_the_documentation_shows_what_runs(page, number, block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, f"{page}, block {number}", "exec"), {})


def written():
    """All files that people read: documentation, sources, messages, tests, set-up."""
    folders = ("mltk", "backends", "tests", "docs")
    nested = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return [path for path in (*nested, *ROOT.iterdir()) if path.suffix in {".md", ".py", ".toml", ".yml"}]


def test_no_instruction_installs_the_strangers_package_that_is_called_mltk():
    stranger = re.compile(r"(?:pip3? install|uv add|uv pip install)\b[^`\n#]*?[ \"']mltk(?![\w-])[^`\n]*")
    assert stranger.search('pip install -U "mltk[torch]"')
    assert stranger.search("pip install mltk")
    assert not stranger.search('pip install "mltk-reference[torch] @ git+URL"')
    requirement = re.compile(r"[\"']mltk\[")  # of an extra
    for path in written():
        if path.name != Path(__file__).name:
            text = path.read_text()
            assert not stranger.findall(text), path
            assert not requirement.findall(text), path


ROAD = """
import sys
import mltk
backend, tasks = mltk.backend("numpy"), mltk.data.Sinusoid(10, 10)
maml = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse", inner_steps=5)
meta, episode = maml.init(backend, 0), tasks.sample(25, 0, backend)
files = set()
sys.setprofile(lambda frame, event, argument: files.add(frame.f_globals.get("__name__", "")))
maml.value_and_grad(meta, episode)
sys.setprofile(None)
print(*(sys.modules[name].__file__ for name in files if name.startswith("mltk")))
"""


def lines_of_code(path):
    """Lines with something other than comments and docstrings."""
    text = path.read_text()
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE) and token.string.strip():
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def test_the_road_of_a_step_of_maml_is_as_long_as_the_readme_says():
    told = re.search(r"step of MAML runs through some (\d+) files with ([\d,]+) lines of code", README)
    files, lines = (int(number.replace(",", "")) for number in told.groups())
    done = subprocess.run([sys.executable, "-c", ROAD], capture_output=True, text=True, check=True)
    road = [Path(name) for name in done.stdout.split()]
    assert abs(len(road) - files) <= 3
    assert abs(sum(map(lines_of_code, road)) - lines) <= 250
