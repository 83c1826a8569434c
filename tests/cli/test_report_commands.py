"""`mltk report` and `mltk dashboard`: a page about runs, written or served."""

import http.client
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mltk.progress import in_bytes


@pytest.fixture
def runs(run):
    found = run("train", "ridge", "--data", "blobs", "--steps", 2, "--out", "runs/ridge")
    assert found.exit_code == 0, found.output
    Path("runs/broken").mkdir()
    Path("runs/broken/metrics.jsonl").write_text("{}\n")
    return Path("runs")


def test_a_page_is_written_and_its_size_said(run, runs):
    found = run("report", runs, "--episodes", 20, "--out", "page.html")
    assert found.exit_code == 0, found.output
    assert f"page.html: {in_bytes(Path('page.html').stat().st_size)}" in found.output.splitlines()
    assert "ridge: step 20/20, loss" in found.output
    text = Path("page.html").read_text()
    assert "RidgeRegression on Blobs, 5 ways, 5 shots" in text
    assert "runs/broken/metrics.jsonl is damaged: a line lacks step, loss or seconds" in text


def test_what_cannot_be_written_or_is_not_there_is_said_first(run, runs):
    for path in ("missing/x.html", "runs", ""):
        found = run("report", runs, "--out", path, "--episodes", 10**9)
        assert found.exit_code == 2
        assert f"{path!r} cannot be written" in found.output
    for command in ("report", "dashboard"):
        found = run(command, "nowhere")
        assert found.exit_code == 1
        assert "error: there is no folder nowhere; expected run folders" in found.output
    found = run("dashboard", runs, "--host", "0.0.0.0")
    assert found.exit_code == 1
    assert "error: host is '0.0.0.0'; expected one that only this machine can reach" in found.output


def test_a_dashboard_says_where_it_is_and_ends_with_ctrl_c(run, runs):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = run("dashboard", runs, "--port", port)
        assert found.exit_code == 1
        assert f"error: port {port} of 127.0.0.1 is in use; choose another one, or 0 for any" in found.output
    command = [sys.executable, "-c", "from mltk.cli import main; main()", "dashboard", "runs", "--port", "0"]
    with subprocess.Popen([*command, "--episodes", "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline()
            address = re.match(r"http://(127\.0\.0\.1:\d+)/ \(Ctrl-C ends it\)$", said)
            assert address, said
            connection = http.client.HTTPConnection(address[1], timeout=20)
            connection.request("GET", "/")
            assert b"RidgeRegression" in connection.getresponse().read()
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, rest) == (0, "\nended\n")
