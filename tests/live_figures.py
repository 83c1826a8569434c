"""What the live figures are made of, for the tests of what they compute and of how they look."""

import json

import pytest


@pytest.fixture(scope="module")
def made():
    """The files that the site serves to its live figures, by name."""
    live = pytest.importorskip("live", reason="the site is built where the extra docs is installed")
    return live.made()


@pytest.fixture(scope="module")
def figures(made, tmp_path_factory):
    """What runs in the page, as a module here."""
    module = pytest.importorskip("live").figures()
    module.FOLDER = tmp_path_factory.mktemp("files")
    (module.FOLDER / "character.npz").write_bytes(made["character.npz"])
    return module


@pytest.fixture(scope="module")
def recorded(made):
    """What the figures show at first."""
    return {name: json.loads(made[f"{name}.json"]) for name in pytest.importorskip("live").ALT}
