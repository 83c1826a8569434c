"""Hook of mkdocs: what belongs together stays on one line, such as a formula and the full stop behind it."""

from __future__ import annotations

import re

FORMULA = r'<span class="arithmatex">[^<]*</span>'
OPTION = r"(?<![\w-])--[a-z][\w-]*"
WHOLE = r'<span class="whole">\g<0></span>'


def on_post_page(output: str, **_: object) -> str:
    """Join them in the article of a page, and leave its blocks of code as they are."""
    before, mark, article = output.partition("<article")
    parts = re.split(r"(<(pre|script)\b.*?</\2>)", article, flags=re.DOTALL)
    parts[::3] = map(joined, parts[::3])
    del parts[2::3]
    return before + mark + "".join(parts)


def joined(text: str) -> str:
    """A formula with what follows without a space, an option with its dashes, a number with its ± and %."""
    text = re.sub(rf"\(?{FORMULA}(?:[.,;:!?)]+|-\w+)|\({FORMULA}", WHOLE, text)
    text = re.sub(r"<code>[^<]*</code>", lambda code: re.sub(OPTION, WHOLE, code[0]), text)
    return re.sub(r"(?<=\d) (?=%(?!\w)|±)|(?<=±) (?=\d)", "&nbsp;", text)
