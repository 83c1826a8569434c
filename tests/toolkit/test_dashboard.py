"""The dashboard: it follows runs, and answers nobody but browsers of this machine that read."""

import http.client
import json
import socket
import threading
import time

import pytest
from runs_to_report import HOSTILE, Seen, serving, train

import mltk
from mltk.errors import RunError, SettingError
from mltk.toolkit.report import board
from mltk.training.run_folder import RunFolder


def ask(server, path="/", method="GET", host=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    for name in [f"127.0.0.1:{server.server_port}"] if host is None else host:
        connection.putheader("Host", name)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def live(server):
    answer, content = ask(server, "/runs.json")
    assert answer.status == 200
    return json.loads(content)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboard") / "runs"
    train(folder / "a")
    train(folder / HOSTILE)
    return folder


@pytest.fixture(scope="module")
def server(runs):
    with serving(runs) as server:
        yield server


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "192.168.1.1", "::", "example.org", "", "127.0.0.1.example.org", "8.8.8.8"]
)
def test_hosts_that_others_reach_are_refused(runs, host):
    with pytest.raises(SettingError, match="expected one that only this machine can reach"):
        mltk.toolkit.dashboard([runs], host=host, port=0)


def test_addresses_of_this_machine_alone_are_not(runs):
    for host in ("127.0.0.1", "localhost", "127.0.0.2", "::1"):
        try:
            with mltk.toolkit.dashboard([runs], host=host, port=0, episodes=0) as server:
                assert server.socket.getsockname()[0] == ("127.0.0.1" if host == "localhost" else host)
        except RunError:  # some machines have no other address than the first
            assert host in ("::1", "127.0.0.2")


def test_the_name_that_is_asked_for_must_be_this_machines(server):
    port = server.server_port
    for host in (["evil.example"], [f"evil.example:{port}"], [], ["127.0.0.1"], [f"127.0.0.1:{port + 1}"]):
        answer, content = ask(server, host=host)
        assert answer.status == 421
        assert b"Overview" not in content
    answer, _ = ask(server, host=[f"127.0.0.1:{port}", "evil.example"])
    assert answer.status == 421
    for host in (f"localhost:{port}", f"LOCALHOST:{port}", f"127.0.0.1:{port}"):
        assert ask(server, host=[host])[0].status == 200


def test_nothing_but_reading_is_answered(server):
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"):
        answer, content = ask(server, method=method)
        assert (answer.status, answer.getheader("Allow"), content) == (405, "GET, HEAD", b"")
    assert ask(server, method="BREW")[0].status == 501
    head, _ = ask(server, method="HEAD")
    get, content = ask(server)
    assert head.getheader("Content-Length") == get.getheader("Content-Length") == str(len(content))


@pytest.mark.parametrize("version", [" HTTP/1.0", " HTTP/1.1", ""])
def test_what_is_sent_is_what_was_asked_for(server, version):
    for method in ("HEAD", "GET") if version else ("GET",):
        with socket.create_connection(("127.0.0.1", server.server_port)) as line:
            line.sendall(f"{method} /{version}\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
            sent = b"".join(iter(lambda: line.recv(1 << 16), b""))
        assert (b"<h1" in sent) == (method == "GET")
        assert sent.endswith(b"\r\n\r\n") == (method == "HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/a/config.toml", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/..%5c..%5cx",
        "/runs.json/..", "http://evil.example/", "/page.html", "*", "/.lock",
    ],
)  # fmt: skip
def test_no_other_address_is_answered(server, path):
    answer, content = ask(server, path)
    assert answer.status == 404
    assert b"root:" not in content
    assert b"steps =" not in content


def test_what_is_answered_is_kept_from_other_pages(server):
    for path in ("/", "/runs.json", "/nowhere"):
        answer, _ = ask(server, path, Origin="http://evil.example")
        assert answer.getheader("Access-Control-Allow-Origin") is None
        assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Content-Security-Policy") == "frame-ancestors 'none'"
        assert "Python" not in answer.getheader("Server")


def test_the_page_is_the_report(server):
    _, content = ask(server, "/?again")
    seen = Seen(content.decode())
    assert list(seen.titles.values()) == ["Overview", HOSTILE, "a"]
    assert len(seen.all("script")) == 1
    assert dict(seen.elements)["body"]["data-page"] == live(server)["page"]
    answer, same = ask(server, "/runs.json", If_None_Match=ask(server, "/runs.json")[0].getheader("ETag"))
    assert (answer.status, same) == (304, b"")


def test_a_training_is_followed(tmp_path):
    (tmp_path / "runs").mkdir()
    with serving(tmp_path / "runs") as server:
        assert live(server)["status"] == "Runs: none yet"
        assert "There is nothing to show." in ask(server)[1].decode()
        train(tmp_path / "runs" / "a", steps=3)
        first = live(server)
        assert first["runs"]["a"]["step"] == "3 of 3"
        assert first["status"] == "Runs: 1 finished"
        files = RunFolder(tmp_path / "runs" / "a")
        lines = files.read_metrics()
        assert first["runs"]["a"]["tail"] == lines
        assert first["runs"]["a"]["curve"].startswith("<figure")
        files.write_metrics(lines[:1])
        with files.locked():
            began = live(server)
            assert began["status"] == "Runs: 1 running"
            files.append_metrics(lines[1])
            second = live(server)
        assert second["runs"]["a"]["step"] == "2 of 3"
        assert second["page"] == began["page"] != first["page"]
        assert second["runs"]["a"]["curve"] != began["runs"]["a"]["curve"]
        assert live(server)["runs"]["a"]["state"] == "interrupted"
        files.append_metrics(lines[2])
        assert live(server) == first
        (tmp_path / "runs" / "a" / "config.toml").write_text("steps = [")
        assert live(server)["status"] == "Runs: 1 damaged"


def test_finished_runs_are_evaluated_and_again_when_they_went_on(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "PAUSE", 0.05)
    run = train(tmp_path / "a", steps=2)
    tasks = mltk.load_run(tmp_path / "a").tasks
    told = set()
    with serving(tmp_path, episodes=20) as server:
        for steps in (2, 100):
            if steps > 2:
                run = train(tmp_path / "a", steps=steps, resume=True)
            learner = mltk.load_run(tmp_path / "a").algorithm
            expected = mltk.evaluate(learner, run.meta_params, tasks, episodes=20).in_words()
            told.add(expected)
            deadline = time.monotonic() + 30
            while f"accuracy {expected}" not in ask(server)[1].decode():
                assert time.monotonic() < deadline
                time.sleep(0.05)
    assert len(told) == 2


def test_a_browser_that_says_nothing_holds_up_nobody(server):
    with socket.create_connection(("127.0.0.1", server.server_port)):
        assert ask(server)[0].status == 200


def test_many_ask_at_once(server):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(server, "/runs.json")[1])) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 12
    assert len(set(answers)) == 1


def test_a_port_in_use_is_said(runs, server):
    with pytest.raises(
        RunError, match=rf"port {server.server_port} of 127.0.0.1 is in use; choose another one, or 0"
    ):
        mltk.toolkit.dashboard([runs], port=server.server_port)
    for port in (-1, 65536):
        with pytest.raises(SettingError, match=f"port is {port}"):
            mltk.toolkit.dashboard([runs], port=port)
