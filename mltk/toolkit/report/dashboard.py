"""A page about runs that follows them, served to the browsers of this machine alone.

Nothing that comes from outside is opened: two addresses are answered, with what is made here. A page of
another origin cannot read them, since the name that a browser asks for must be that of this machine (against
DNS rebinding) and nothing is shared with other origins. Whoever is logged in here can read them.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import json
import socket
from collections.abc import Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mltk.checks import CountOrZero, check_count, checked
from mltk.errors import RunError, SettingError
from mltk.files import AnyPath
from mltk.progress import StepReport
from mltk.toolkit.report.board import Board
from mltk.toolkit.report.page import silent

PORT = 8642
"""Where a dashboard is served, unless told otherwise."""

PATIENCE = 10.0
"""Seconds that a browser may take to ask."""

HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Dashboard(ThreadingHTTPServer):
    """Serves a board until it is told to stop, as a context manager.

    Args:
        board: What is shown.
        host: An address of this machine for itself, such as ``"127.0.0.1"`` or ``"::1"``.
        port: The port; 0 for any that is free.

    Raises:
        SettingError: If the host is another machine, or can be reached from one, or the port is no port.
        RunError: If the port cannot be had.
    """

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, board: Board, *, host: str = "127.0.0.1", port: int = PORT) -> None:
        check_count("port", port, at_least=0)
        if port > 65535:
            raise SettingError(f"port is {port}; expected at most 65535")
        address = _loopback(host)
        self.board = board
        self.address_family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        try:
            super().__init__((str(address), port), Handler)
        except OSError as error:
            hint = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
            raise RunError(f"port {port} of {address} {hint}; choose another one, or 0 for any") from error
        self.names = {f"{name}:{self.server_port}" for name in ("localhost", _in_url(address))}
        if self.server_port == 80:
            self.names |= {"localhost", _in_url(address)}
        self.url = f"http://{_in_url(address)}:{self.server_port}/"

    def server_bind(self) -> None:
        """Take the port; the name of this machine is not looked up in any network."""
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away ends its own request, and nothing else."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Dashboard
    server_version, sys_version = "mltk", ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        """The page, or what is new."""
        self._answer()

    def do_HEAD(self) -> None:
        """Likewise, without the content."""
        self._answer()

    def _answer(self) -> None:
        hosts = [host.lower() for host in self.headers.get_all("Host", [])]
        if len(hosts) != 1 or hosts[0] not in self.server.names:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "Only this machine is served, by its own name")
            return
        path = self.path.partition("?")[0]
        if path == "/":
            kind, text = "text/html", self.server.board.page()
        elif path == "/runs.json":
            kind, text = "application/json", json.dumps(self.server.board.live(), allow_nan=False)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content = text.encode()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        same = self.headers.get("If-None-Match") == tag
        self.send_response(HTTPStatus.NOT_MODIFIED if same else HTTPStatus.OK)
        self.send_header("ETag", tag)
        if not same:
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET" and not same:
            self.wfile.write(content)

    def _refuse(self) -> None:
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse  # noqa: N815

    def end_headers(self) -> None:
        """Every answer says what a browser must not do with it."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are nobody's business."""


@checked
def dashboard(
    folders: Iterable[AnyPath],
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    episodes: CountOrZero = 300,
    seed: CountOrZero = 0,
    progress: StepReport | None = None,
) -> Dashboard:
    """A server of the page of `report` that follows its runs; ``serve_forever()`` serves it.

    Args:
        folders: Run folders, or folders of them, where more may come.
        host: An address of this machine for itself.
        port: The port; 0 for any that is free: ``url`` says which.
        episodes: Unseen tasks that each finished run is evaluated on; 0 for none.
        seed: Seed of these tasks.
        progress: As for `report`.

    Raises:
        SettingError: If an argument is not of its kind, there is no such folder, or the host can be reached
            from other machines.
        RunError: If the port cannot be had.
    """
    board = Board(folders, episodes=episodes, seed=seed, progress=progress or silent)
    found = Dashboard(board, host=host, port=port)
    board.start()
    return found


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of a host, which only this machine can reach."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise SettingError(
            f"host is {host!r}; expected one that only this machine can reach: 127.0.0.1, ::1 or localhost"
        )
    return address


def _in_url(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)
