"""The page of the documentation that lists the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

from mltk.oracle.catalogue import SECTIONS, Family, Mistake
from mltk.oracle.catalogue.mistake import Variant
from mltk.oracle.catalogue.scale_errors import SCALES, Scale
from mltk.oracle.catalogue.training_recipes import SINGLE

INTRODUCTION = """\
# Known mistakes

What `mltk oracle check` compares wrong outputs with. Each mistake is computed exactly, so that a match agrees
to rounding error. Any of them is also found with one of the [scale errors](#scale-errors) on top, and a wrong
inner loop with a wrong meta-gradient, as `extra-step and first-order`. A mistake that is made in some cases
alone is named with these cases, and with what they have in common.
`mltk oracle mistakes NAME` prints an entry.
"""

SCALED = """\
$T$ is the number of tasks, $M$ that of the query examples of a task, $d$ that of the output features, and
$\\lambda_0$ stands for the outputs, right or wrong.
"""


def markdown() -> str:
    """The page: `mltk oracle mistakes --markdown` prints it."""
    parts = [INTRODUCTION]
    for title, files in SECTIONS.items():
        parts += [f"## {title}\n", _symbols(files[0].__doc__)]
        parts += [_entry(mistake) for file in files for mistake in file.MISTAKES]
    parts += [
        "## Precision\n",
        f"### {SINGLE.name}\n",
        f"{SINGLE.summary}\n",
        f"Usual cause: {SINGLE.cause}\n",
        "## Scale errors\n",
        SCALED,
        *(_scale(each) for each in SCALES),
    ]
    return "\n".join(parts)


def _symbols(docstring: str | None) -> str:
    """What the symbols of a file's formulas mean: its docstring without the first paragraph."""
    return (docstring or "").partition("\n\n")[2].strip() + "\n"


def _entry(mistake: Mistake) -> str:
    return "\n".join(
        [
            f"### {mistake.name}\n",
            f"{mistake.summary}\n",
            f"$${mistake.formula}$$\n",
            f"Usual cause: {mistake.cause}\n",
            *_ways(mistake),
            f"Checked in: {', '.join(mistake.computations)}.\n",
        ]
    )


def _ways(mistake: Mistake) -> Iterator[str]:
    """The ways and the fitted numbers, if there are several."""
    ways = [way.detail for way in mistake.variants if isinstance(way, Variant) and way.detail]
    numbers = [way.number for way in mistake.variants if isinstance(way, Family)]
    if ways:
        yield f"Ways: {'; '.join(ways)}.\n"
    if numbers:
        yield f"Fitted: {'; '.join(numbers)}.\n"


def _scale(scale: Scale) -> str:
    return "\n".join(
        [
            f"### {scale.name}\n",
            f"{scale.summary}\n",
            f"$${scale.formula}$$\n",
            f"Usual cause: {scale.cause}\n",
        ]
    )
