"""HTML in which no text is ever taken for markup: what is not marked as HTML is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mltk.plain import plain
from mltk.summary import Summary

SHORT = 12
"""So many numbers of a list are shown; of longer ones quantiles."""

LARGEST = 40
"""So many rows and columns a matrix may have to be shown."""

DEEPEST = 6
"""Levels of dicts inside each other that are shown."""


class Html(str):
    """Text that is HTML already."""


def tag(name: str, *content: str, **attributes: str | bool | None) -> Html:
    """An element: ``tag("p", "1 < 2", class_="note")``.

    Args:
        name: Of the element.
        *content: Elements; any other text is escaped.
        **attributes: ``True`` is one without a value, ``None`` and ``False`` are left out; underscores become
            hyphens.
    """
    told = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            told += f" {key}" if value is True else f' {key}="{html.escape(str(value))}"'
    inner = join(content)
    return Html(
        f"<{name}{told}>{inner}" if name in ("img", "meta", "br") else f"<{name}{told}>{inner}</{name}>"
    )


def join(content: Iterable[str]) -> Html:
    """Elements beside each other; any other text is escaped."""
    return Html("".join(each if isinstance(each, Html) else html.escape(str(each)) for each in content))


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]], *, class_: str = "") -> Html:
    """A table whose rows begin with their names; the reader may sort it.

    Args:
        caption: What it shows.
        head: Titles of the columns.
        rows: Of each row the cells; a pair ``(text, number)`` is sorted by the number.
        class_: For the style sheet.
    """
    body = []
    for row in rows:
        cells = []
        for place, cell in enumerate(row):
            text, key = cell if isinstance(cell, tuple) else (cell, None)
            if isinstance(text, int | float) and not isinstance(text, bool):
                text, key = in_words(text), text
            kind = {"scope": "row"} if place == 0 else {"class_": "number" if key is not None else None}
            known = key is not None and math.isfinite(key)
            cells.append(
                tag("td" if place else "th", text, **kind, data_sort=repr(float(key)) if known else None)
            )
        body.append(tag("tr", *cells))
    titles = [tag("th", title, scope="col") for title in head]
    whole = tag("table", tag("caption", caption), tag("thead", tag("tr", *titles)), tag("tbody", *body))
    return tag(
        "div", whole, class_=f"scroll {class_}".strip(), tabindex="0", role="group", aria_label=caption
    )


def listed(pairs: Iterable[tuple[str, str]]) -> Html:
    """Names and what is said of each."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", said)) for name, said in pairs))


def folded(title: str, *content: str) -> Html:
    """What is shown when it is asked for."""
    return tag("details", tag("summary", title), *content)


def summarised(found: Summary) -> Html:
    """The title of a result and its lines."""
    title, lines = found.summary()
    return join((tag("h4", title), listed((name.strip(), said) for name, said in lines)))


def in_words(value: Any) -> str:
    """A number, or what else stands alone."""
    if value is None or value is True or value is False:
        return {None: "–", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def shown(value: Any, name: str = "", depth: int = 0) -> Html:
    """Anything that a part of the toolkit may tell, as well as that can be shown without knowing it.

    Args:
        value: A `Summary`, what has ``to_dict()``, or something made of dicts, lists, arrays and numbers. A
            dict with ``names`` and ``matrix`` is a table of both.
        name: What it is called.
        depth: How deep it lies in others.
    """
    if isinstance(value, Html):
        return value
    if isinstance(value, Summary):
        details = [folded("Everything", shown(value.to_dict()))] if hasattr(value, "to_dict") else []
        return join((summarised(value), *details))
    value = plain(value.to_dict() if hasattr(value, "to_dict") else value)
    if depth > DEEPEST:
        return tag("span", "…")
    if isinstance(value, Mapping):
        return _of_dict(value, name, depth)
    if not isinstance(value, list):
        return tag("span", in_words(value))
    numbers = [each for each in value if isinstance(each, int | float) and not isinstance(each, bool)]
    if value and len(numbers) == len(value):
        return tag("span", ", ".join(map(in_words, value)) if len(value) <= SHORT else _spread(numbers))
    if value and all(isinstance(each, Mapping) for each in value):
        head = list(dict.fromkeys(key for each in value for key in each))
        rows = [[_cell(each.get(key), depth) for key in head] for each in value]
        return table(name.capitalize() or "Entries", [_title(key) for key in head], rows)
    if all(isinstance(each, str) or each is None for each in value) or len(numbers) == len(value):
        return tag("span", ", ".join(map(in_words, value)) or "–")
    return tag("ul", *(tag("li", shown(each, name, depth + 1)) for each in value[: 10 * SHORT]))


def matrix(caption: str, names: Sequence[str], values: Sequence[Sequence[Any]]) -> Html:
    """A table of numbers by two names, darker where they are larger; ``None`` where nothing is known."""
    known = [each for row in values for each in row if each is not None]
    low, high = min(known, default=0), max(known, default=1)
    rows = []
    for name, row in zip(names, values, strict=True):
        shades = [0 if each is None else round(10 * (each - low) / ((high - low) or 1)) for each in row]
        cells = [
            tag("span", in_words(each), class_=f"heat-{shade}")
            for each, shade in zip(row, shades, strict=True)
        ]
        rows.append([name, *((cell, each) for cell, each in zip(cells, row, strict=True))])
    return table(caption, ["", *names], rows, class_="matrix")


def _of_dict(value: Mapping[str, Any], name: str, depth: int) -> Html:
    if {"estimate", "low", "high"} <= value.keys():
        ends = [
            in_words(value[each]) if value[each] is not None else "unknown"
            for each in ("estimate", "low", "high")
        ]
        over = f" over {value['over']}" if value.get("over") else ""
        return tag("span", f"{ends[0]} [{ends[1]}, {ends[2]}]{over}")
    names, values = value.get("names"), value.get("matrix")
    if isinstance(names, list) and isinstance(values, list) and len(names) == len(values) <= LARGEST:
        rest = {key: each for key, each in value.items() if key not in ("names", "matrix")}
        below = [_of_dict(rest, name, depth)] if rest else []
        return join((matrix(_title(name or "matrix"), list(map(str, names)), values), *below))
    if value and all(
        isinstance(each, Mapping) and each.keys() == next(iter(value.values())).keys()
        for each in value.values()
    ):
        return shown([{"name": key, **each} for key, each in value.items()], name, depth)
    return listed((_title(str(key)), shown(each, str(key), depth + 1)) for key, each in value.items())


def _cell(value: Any, depth: int) -> Any:
    return (
        value
        if isinstance(value, int | float) and not isinstance(value, bool)
        else shown(value, "", depth + 1)
    )


def _spread(numbers: list[float]) -> str:
    ordered = sorted(numbers)
    least, middle, most = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    return f"{len(ordered):,} numbers from {in_words(least)} to {in_words(most)}, median {in_words(middle)}"


def _title(key: str) -> str:
    text = key.replace("_", " ").strip()
    return text[:1].upper() + text[1:]
