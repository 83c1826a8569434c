"""A server on this machine that misbehaves in every way that servers and lines do."""

import hashlib
import random
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mltk.data.files.downloads import Patience
from mltk.data.files.fetch import fetch_file
from mltk.data.files.registry import RemoteFile

CONTENT = random.Random(0).randbytes(200_000)
OTHER = random.Random(1).randbytes(200_000)
HASTE = Patience(attempts=3, connect_timeout=2.0, read_timeout=0.3, backoff=0.001, longest_wait=5.0)


class Server(ThreadingHTTPServer):
    """Serves one file; each request does as the next entry of `script` says, or well if none is left."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = []
        self.asked = []  # the headers of each request
        self.sent = 0  # bytes of content
        self.over = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/folder/file.zip"

    @property
    def ranges(self):
        return [headers.get("Range") for headers in self.asked]

    def handle_error(self, request, client_address):
        pass  # clients that hang up are part of the tests


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.headers)
        behaviour = self.server.script.pop(0) if self.server.script else serve
        behaviour(self)

    def log_message(self, *_):
        pass


def answer(handler, status, content=b"", *, stop=None, hang=False, pace=0.0, **headers):
    """Send a response; only the first `stop` bytes of the content, or slowly."""
    handler.send_response(status)
    handler.send_header("Connection", "close")
    for name, value in headers.items():
        if value is not None:
            handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    content = content[:stop]
    for start in range(0, len(content), 10_000):
        handler.wfile.write(content[start : start + 10_000])
        handler.server.sent += len(content[start : start + 10_000])
        handler.server.over.wait(pace)
    if hang:
        handler.server.over.wait(10)


def serve(
    handler, *, content=CONTENT, etag='"1"', modified=None, ranges=True, faithful=True, length=True, **how
):
    """What a good server does, with options to be a worse one.

    Args:
        ranges: Whether it knows ranges at all.
        faithful: Whether it heeds If-Range.
        length: Whether it tells the length of the content.
    """
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    same = handler.headers.get("If-Range") in (None, etag, modified) or not faithful
    headers = {"ETag": etag, "Last_Modified": modified}
    if not (ranges and wanted and same):
        answer(handler, 200, content, Content_Length=str(len(content)) if length else None, **headers, **how)
        return
    start = int(wanted[1])
    if start >= len(content):
        answer(handler, 416, Content_Range=f"bytes */{len(content)}", Content_Length="0")
        return
    headers |= {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
    answer(handler, 206, content[start:], Content_Length=str(len(content) - start), **headers, **how)


def worse(**how):
    return lambda handler: serve(handler, **how)


def refuse(status, **headers):
    return lambda handler: answer(handler, status, b"no", Content_Length="2", **headers)


@pytest.fixture(scope="module")
def running():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(running, monkeypatch):
    """A server without a script, and no proxy on the way to it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return reset(running)


def reset(server):
    server.script, server.asked, server.sent = [], [], 0
    return server


def remote(server, content=CONTENT, **changes):
    values = {
        "name": "file",
        "url": server.url,
        "md5": hashlib.md5(content).hexdigest(),
        "size": len(content),
        "purpose": "tests",
    }
    return RemoteFile(**(values | changes))


def get(server, folder, *, patience=HASTE, **changes):
    return fetch_file(remote(server, **changes), folder, progress=False, patience=patience)


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
