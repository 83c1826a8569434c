"""How what mltk can use besides NumPy is installed."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires

DISTRIBUTION = "mltk-reference"
"""What mltk is called where packages are installed from: the name ``mltk`` is a stranger's there."""


def install_hint(package: str) -> str:
    """The command that installs a package, in the versions that mltk works with.

    Args:
        package: As the package index writes it, such as ``"torch"``.

    Returns:
        Such as ``pip install "torch>=2.6"``, which works in every folder.
    """
    try:
        found = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # the sources are on the path, and nothing was installed
        found = []
    for requirement in found:
        wanted = requirement.partition(";")[0].strip()
        if re.split(r"[^\w.-]", wanted, maxsplit=1)[0].lower() == package.lower():
            return f'pip install "{wanted}"'
    return f"pip install {package}"
