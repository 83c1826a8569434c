"""Hook of mkdocs: what the theme leaves without a name gets one, for those who listen to a page."""

from __future__ import annotations


def on_post_page(output: str, **_: object) -> str:
    """Name the search, which the theme makes a dialog without a name."""
    search = 'data-md-component="search" role="dialog"'
    return output.replace(search, f'{search} aria-label="Search"')
