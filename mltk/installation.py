"""How what mltk can use besides NumPy is installed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires

from mltk.errors import MissingLibraryError

DISTRIBUTION = "mltk-reference"
"""What mltk is called where packages are installed from: the name ``mltk`` is a stranger's there."""

PACKAGES = {"PIL": "pillow", "mlflow": "mlflow-skinny", "sklearn": "scikit-learn"}
"""What modules are installed by, where the names differ."""


def install_hint(package: str) -> str:
    """The command that installs a package, in the versions that mltk works with.

    Args:
        package: As the package index writes it, such as ``"torch"``; or a module in it.

    Returns:
        Such as ``pip install "torch>=2.6"``, which works in every folder.
    """
    package = package.partition(".")[0]
    package = PACKAGES.get(package, package).replace("_", "-")
    try:
        found = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # the sources are on the path, and nothing was installed
        found = []
    for requirement in found:
        wanted = requirement.partition(";")[0].strip()
        if re.split(r"[^\w.-]", wanted, maxsplit=1)[0].lower() == package.lower():
            return f'pip install "{wanted}"'
    return f"pip install {package}"


@contextmanager
def needed_for(purpose: str, *, of: str = DISTRIBUTION) -> Iterator[None]:
    """Around imports: says what to install where a library is missing.

    Args:
        purpose: What cannot be done without it: ``"pictures"``.
        of: The distribution that needs it, if it is a plug-in of somebody else.

    Raises:
        MissingLibraryError: Instead of the error that a module of another library is not there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        if name in ("mltk", "mltk_backends") or name in sys.stdlib_module_names:  # nothing to install
            raise
        how = install_hint(name) if of == DISTRIBUTION else f"see the instructions of {of}"
        raise MissingLibraryError(
            f"{purpose} cannot do without {name}, which is not installed: {how}"
        ) from error
