"""What mltk is called where packages are installed from, and what it says to install."""

import re
from importlib.metadata import distribution, requires, version

import mltk
from mltk import installation
from mltk.installation import DISTRIBUTION, install_hint


def test_the_version_is_that_of_the_distribution():
    assert version(DISTRIBUTION) == mltk.__version__


def test_the_distribution_is_not_the_strangers():
    assert distribution(DISTRIBUTION).name == "mltk-reference"
    for requirement in requires(DISTRIBUTION):
        assert not re.match(r"mltk(?!-reference)\b", requirement), requirement


def test_a_hint_installs_the_library_itself_in_a_version_that_works():
    assert install_hint("torch") == 'pip install "torch>=2.6"'
    assert install_hint("hypothesis") == 'pip install "hypothesis>=6.100"'


def test_a_library_that_mltk_does_not_ask_for_is_named_alone():
    assert install_hint("easyfsl") == "pip install easyfsl"
    assert install_hint("tor") == "pip install tor"


def test_a_hint_needs_no_installed_mltk(monkeypatch):
    monkeypatch.setattr(installation, "DISTRIBUTION", "nowhere-installed")
    assert install_hint("torch") == "pip install torch"
