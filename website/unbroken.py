"""Hook of mkdocs: what belongs together stays on one line, such as a formula and the full stop behind it."""

from __future__ import annotations

import re

BLOCK = r"<(pre|script)\b.*?</\2>"
FORMULA = r'<span class="arithmatex">[^<]*</span>'
OPTION = r"(?<![\w-])--[a-z][\w-]*"
NAME = r"(?<=>)mltk[\w.]{26,}(?=</span>)"
NUMBER = r"[−+]?[\d.]+"
WHOLE = r'<span class="whole">\g<0></span>'


def on_post_page(output: str, **_: object) -> str:
    """Join them in the article of a page, and leave its blocks of code as they are."""
    before, mark, article = output.partition("<article")
    parts = re.split(rf"({BLOCK})", article, flags=re.DOTALL)
    parts[::3] = map(joined, parts[::3])
    del parts[2::3]
    return before + mark + "".join(parts)


def joined(text: str) -> str:
    """A formula with what follows without a space, and the words of a text, but for its names in code."""
    text = re.sub(NAME, lambda name: re.sub(r"[._](?=\w)", r"\g<0><wbr>", name[0]), text)
    text = re.sub(rf"\(?{FORMULA}(?:[.,;:!?)]+|-\w+)|\({FORMULA}", WHOLE, text)
    parts = re.split(r"(?<=<code>)([^<]*)(?=</code>)", text)
    parts[::2] = map(words, parts[::2])
    parts[1::2] = map(code, parts[1::2])
    return "".join(parts)


def words(text: str) -> str:
    """A number with its ± and per cent, and both ends of an interval."""
    text = re.sub(rf"(\[{NUMBER},) (?={NUMBER}\])", r"\1&nbsp;", text)
    return re.sub(r"(?<=\d) (?=%(?!\w)|±)|(?<=±) (?=\d)", "&nbsp;", text)


def code(text: str) -> str:
    """An option with its dashes; what is long may break behind a dot, a bracket or a bar."""
    text = re.sub(r"\S{26,}", lambda long: re.sub(r"[.(/=|](?=\w)", r"\g<0><wbr>", long[0]), text)
    return re.sub(OPTION, WHOLE, text)
