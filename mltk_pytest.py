"""The pytest plugin of mltk: the fixture `mltk_oracle`.

A module of its own, because pytest imports it in every run, and `import mltk` imports NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mltk.oracle.pytest_plugin import Oracle


@pytest.fixture(scope="session")
def mltk_oracle() -> Oracle:
    """Judges your implementation: ``mltk_oracle.check("maml", my_function)``."""
    from mltk.oracle.pytest_plugin import Oracle

    return Oracle()
