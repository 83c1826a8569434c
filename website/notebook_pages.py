"""Hook of mkdocs: each notebook is a page of the section Learn, and its pictures are files beside it."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PICTURES = {"image/svg+xml": "svg", "image/png": "png"}
FOLDED = """<details markdown="1" class="code">
<summary>The code of this</summary>

{}

</details>"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the notebooks, in the order of their names, where the navigation says ``learn/*.md``."""
    for section in config.nav or []:
        for name, pages in section.items():
            if isinstance(pages, list) and "learn/*.md" in pages:
                at = pages.index("learn/*.md")
                found = [f"learn/{path.stem}.md" for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
                section[name] = [*pages[:at], *found, *pages[at + 1 :]]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page, and its pictures, for every notebook."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        page, pictures = as_markdown(json.loads(path.read_text()), path.stem)
        written: dict[str, str | bytes] = {f"{path.stem}.md": page, **pictures}
        for name, content in written.items():
            files.append(File.generated(config, f"learn/{name}", content=content))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Where a page says ``[tutorials]``, list them: the title of each, and its first paragraph."""
    tutorials = "\n".join(map(entry, sorted(NOTEBOOKS.glob("*.ipynb"))))
    return markdown.replace("\n[tutorials]\n", f"\n{tutorials}\n")


def entry(path: Path) -> str:
    """A tutorial as an item of a list."""
    first = "".join(json.loads(path.read_text())["cells"][0]["source"])
    title, question = re.match(r"# (.*)\n+((?:.+\n?)*)", first).groups()  # type: ignore[union-attr]
    question = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(question.split()))
    question = re.sub(r"(?<=[.?!]) [^.?!]*:$", "", question)  # what leads to a formula stays in the tutorial
    return f"{int(path.stem[:2])}. **[{title}]({path.stem}.md)**  \n    {question}\n"


def as_markdown(notebook: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page of Markdown, and the files that it shows.

    Links to other notebooks and to ``../docs`` become links to their pages. A code cell that is tagged
    ``hide-input`` is folded away. The entry ``alt`` of its metadata says in words what its picture shows.
    """
    parts, pictures = [], dict[str, bytes]()
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source = re.sub(r"\]\(([\w-]+)\.ipynb", r"](\1.md", source.replace("](../docs/", "](../"))
            parts.append(source.replace("<details>", '<details markdown="1">'))
            continue
        code = f"```python\n{source}\n```"
        hidden = "hide-input" in cell["metadata"].get("tags", [])
        parts.append(FOLDED.format(code) if hidden else code)
        for output in cell["outputs"]:
            data = output.get("data", {})
            picture = next((kind for kind in PICTURES if kind in data), None)
            if picture is not None:
                file = f"{name}-{len(pictures) + 1}.{PICTURES[picture]}"
                content = "".join(data[picture])
                pictures[file] = base64.b64decode(content) if picture == "image/png" else content.encode()
                alt = html.escape(cell["metadata"].get("alt", ""))
                parts.append(f"![{alt}]({file}){{ .output }}")
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text {{ .output }}\n{text.rstrip()}\n```")
    about = f"[This page as a notebook]({name}.ipynb){{ .md-button download }}"
    pictures[f"{name}.ipynb"] = json.dumps(notebook, indent=1, ensure_ascii=False).encode()
    return "\n\n".join([*parts, about]) + "\n", pictures
