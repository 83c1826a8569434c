"""What the README and the documentation show works as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest
import size
from PIL import Image
from texts import same_text
from typer.testing import CliRunner

import mltk
from mltk.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(*pages):
    """The blocks of Python, each with the page that it stands on and its number there."""
    found = [
        (str(page.relative_to(ROOT)), number, block)
        for page in pages
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
    ]
    assert found
    return [pytest.param(*block, id=f"{block[0]}-{block[1]}") for block in found]


def draw_photos(folder):
    """A folder of images for each class."""
    glyphs = mltk.data.Glyphs(alphabets=6, characters=6, drawings=5)
    images = (255 * (1 - glyphs.images[:, 0])).astype(np.uint8).reshape(36, 5, 28, 28)
    for number, of_class in enumerate(images):
        (folder / f"class{number:02}").mkdir(parents=True)
        for drawing, image in enumerate(of_class):
            Image.fromarray(image).save(folder / f"class{number:02}" / f"{drawing}.png")


@pytest.mark.parametrize(("page", "number", "block"), blocks(ROOT / "README.md"))
def test_the_readme_shows_evaluations(page, number, block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "photos" in block:
        pytest.importorskip("torch")
        draw_photos(tmp_path / "photos")
        for long, short in (("steps=300", "steps=3, episodes=20"), ("episodes=200", "episodes=20")):
            assert long in block
            block = block.replace(long, short)
    exec(compile(block, f"{page}, block {number}", "exec"), {})
    assert "95 % interval" in capsys.readouterr().out


def test_the_commands_of_the_readme_run_in_order_and_give_what_python_gives(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    python = re.search(r"```python\n(.*?)```", README, re.S)[1].replace("steps=500", "steps=9")
    exec(compile(python, "README", "exec"), {})
    said = capsys.readouterr().out
    for command in re.findall(r"^mltk .*", README.partition("On the command line")[2], re.M)[:4]:
        done = CliRunner().invoke(app, command.replace("--steps 500", "--steps 9").split()[1:])
        assert done.exit_code == 0, done.output
        if command.startswith("mltk evaluate"):
            assert done.output.splitlines()[-1] == said.splitlines()[-1]
    assert "runs/maml − runs/meta-sgd: mse" in done.output


@pytest.mark.parametrize(("page", "number", "block"), blocks(*sorted((ROOT / "docs").rglob("*.md"))))
def test_the_documentation_shows_what_runs_and_what_it_prints(
    page, number, block, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, f"{page}, block {number}", "exec"), {})
    after = (ROOT / page).read_text().partition(block)[2]
    shown = re.match(r"```\n+```text \{ \.output \}\n(.*?)```", after, re.S)
    if shown:
        assert same_text(capsys.readouterr().out, shown[1])


def written():
    """All files that people read: documentation, sources, messages, tests, set-up."""
    folders = ("mltk", "backends", "tests", "docs", "website")
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


def test_the_road_of_a_step_of_maml_is_as_long_as_the_readme_says():
    told = re.search(r"step of MAML runs through some (\d+) files with ([\d,]+) lines of code", README)
    files, lines = (int(number.replace(",", "")) for number in told.groups())
    road = size.road()
    assert abs(len(road) - files) <= 2
    assert abs(sum(map(size.code_lines, road)) - lines) <= 100
