"""The commands `mltk data list` and `mltk data get`, against a folder as server: no network."""

import functools
import hashlib
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from mltk.cli.data import app
from mltk.data.files import registry
from mltk.data.files.registry import FILES, RemoteFile


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command of `mltk data` with an empty data folder."""
    monkeypatch.setenv("MLTK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *words: CliRunner().invoke(app, words)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Two files on a server of this machine, under names of the registry."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    for name in ("one", "two"):
        content = name.encode() * 1000
        (folder / f"{name}.zip").write_bytes(content)
        url = f"http://127.0.0.1:{server.server_port}/{name}.zip"
        file = RemoteFile(name, url, hashlib.md5(content).hexdigest(), 3000, "tests", cache=f"{name}.npz")
        monkeypatch.setitem(registry.FILES, name, file)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_list_shows_every_file_and_what_is_here(run, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "images_background_small1.zip").touch()
    (data / "omniglot-background.npz").touch()
    result = run("list")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert str(data) in result.stdout.replace("\n", "")
    shown = {line.split()[0]: line for line in lines if line.split() and line.split()[0] in FILES}
    assert shown.keys() == FILES.keys()
    assert "images_background_small1.zip" in shown["omniglot-small1"]
    assert "omniglot-background.npz" in shown["omniglot-background"]
    assert all("absent" in shown[name] for name in ("omniglot-evaluation", "omniglot-runs", "cifar-100"))
    assert "169 MB" in shown["cifar-100"]
    assert "?" in shown["omniglot-runs"]
    assert "data.CIFARFS" in shown["cifar-100"]


def test_get_downloads_what_is_not_here(run, published, tmp_path):
    result = run("get", "one", "two")
    assert result.exit_code == 0, result.output
    for name in ("one", "two"):
        assert (tmp_path / "data" / f"{name}.zip").read_bytes() == name.encode() * 1000
        assert f"{name}: {tmp_path / 'data' / name}.zip\n" in result.stdout
    for name in ("one", "two"):
        (published / f"{name}.zip").unlink()
    assert run("get", "one", "two").stdout == result.stdout  # and nothing is downloaded again


def test_a_cache_does_instead_of_the_file(run, published, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.npz").touch()
    result = run("get", "one")
    assert result.stdout == f"one: {tmp_path / 'data' / 'one.npz'}\n"
    assert not (tmp_path / "data" / "one.zip").exists()


def test_an_unknown_name_is_an_error_before_any_download(run, published, tmp_path):
    result = run("get", "one", "onee")
    assert result.exit_code == 2
    assert "did you mean" in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_failure_is_one_message_and_a_status(published, run, tmp_path):
    from mltk.cli import app as whole

    (published / "one.zip").unlink()
    result = CliRunner().invoke(whole, ["data", "get", "one"])
    assert result.exit_code == 1
    assert result.stderr.count("error:") == 1
    assert "404" in result.stderr
    assert str(tmp_path / "data" / "one.zip") in result.stderr


def test_ctrl_c_says_how_to_go_on(run, published, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mltk.data.files.fetch.download", interrupt)
    result = run("get", "one")
    assert result.exit_code == 130
    assert "continues" in result.stderr


def test_a_short_name(run, monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "omniglot-background.npz").touch()
    assert run("get", "omniglot").stdout.startswith("omniglot-background: ")
