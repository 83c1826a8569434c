"""Hook of mkdocs: MathJax and the fonts are served by the site itself, from the packages that carry them."""

from __future__ import annotations

import io
from pathlib import Path

import font_source_sans_pro
import mathjax
import matplotlib
from fontTools import subset
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

MATHJAX = Path(mathjax.__path__[0]) / "static" / "mathjax" / "es5"
SOURCE_SANS = Path(font_source_sans_pro.__file__).parent / "files"
DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FONTS = {
    "text": SOURCE_SANS / "SourceSansPro-Regular.ttf",
    "text-italic": SOURCE_SANS / "SourceSansPro-It.ttf",
    "text-bold": SOURCE_SANS / "SourceSansPro-Semibold.ttf",
    "code": DEJAVU / "DejaVuSansMono.ttf",
}
# Latin, Greek, super- and subscripts, arrows, mathematics, box drawing, and shapes such as check marks.
CHARACTERS = [*range(0x20, 0x250), *range(0x300, 0x400), *range(0x1D00, 0x2800)]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add MathJax with its fonts, and the fonts of the text, cut down to what is written with here."""
    math = [MATHJAX / "tex-chtml.js", *sorted((MATHJAX / "output/chtml/fonts/woff-v2").glob("*.woff"))]
    for path in math:
        name = f"assets/mathjax/{path.relative_to(MATHJAX)}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for name, path in FONTS.items():
        files.append(File.generated(config, f"assets/fonts/{name}.woff", content=cut(path)))
    return files


def cut(path: Path) -> bytes:
    """The font of this file as WOFF, with the characters of `CHARACTERS` alone."""
    options = subset.Options(flavor="woff", drop_tables=["DSIG", "FFTM"], notdef_outline=True)
    font = subset.load_font(str(path), options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=CHARACTERS)
    cutter.subset(font)
    written = io.BytesIO()
    subset.save_font(font, written, options)
    return written.getvalue()
