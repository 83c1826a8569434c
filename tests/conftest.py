"""What all tests share: the backends under test, and the profiles of hypothesis."""

import gc
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from built_site import address, site  # noqa: F401 - fixtures
from chromium import browser  # noqa: F401 - a fixture
from cifar_archive import cifar_home, cifar_records  # noqa: F401 - fixtures
from hypothesis import HealthCheck, settings
from live_figures import figures, made, recorded  # noqa: F401 - fixtures
from loopback_server import running, server  # noqa: F401 - fixtures
from routes import BACKENDS, backend_of

# What runs in a shell's background is deaf to Ctrl-C, or under nohup to SIGHUP, and so is what it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

torch.set_num_threads(1)  # the arrays of the tests are small, and the tests run in parallel

settings.register_profile(
    "dev", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser):
    """More damage for `test_fuzz.py`."""
    parser.addoption("--fuzz", type=int, default=300, metavar="N", help="damaged files of each kind to read")


def pytest_collection_modifyitems(items):
    """The names of the tests are the same everywhere; the first one builds the site, or others would wait."""
    items.sort(key=lambda item: item.name != "test_every_link_leads_somewhere")
    places = [str(Path(place).resolve()) for place in (Path(__file__).parents[1], Path.home(), sys.prefix)]
    for item in items:
        told = [place for place in places if len(place) > 1 and place in item.nodeid]
        if told or re.search(r"\bat 0x[0-9a-f]+", item.nodeid):
            raise pytest.UsageError(f"the name of a test says where it runs: {item.nodeid}")


def pytest_collection_finish():
    """What is imported and collected stays until the end, so it is not searched for garbage all the time."""
    gc.collect()
    gc.freeze()


# Found before any test sets the variable.
SHARED_DATA = Path(os.environ.get("MLTK_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@pytest.fixture(params=BACKENDS)
def backend64(request):
    """Each backend and engine in float64."""
    return backend_of(request.param)


@pytest.fixture(params=BACKENDS)
def backend32(request):
    """Each backend and engine in float32."""
    return backend_of(request.param, "float32")


@pytest.fixture(autouse=True)
def _torch_draws_are_repeatable():
    """Modules that a test makes start from the same parameters in every run."""
    torch.manual_seed(0)


@pytest.fixture
def shared_data():
    """The folder with real drawings and published class splits, which tests only read."""
    if not SHARED_DATA.is_dir():
        pytest.skip(
            f"real data is needed, and {SHARED_DATA} is not there (MLTK_DATA may name another folder)"
        )
    return SHARED_DATA
