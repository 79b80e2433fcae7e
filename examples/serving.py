"""Serve a folder of HTML on this machine, for the examples to have something to fetch.

with serve(MUSEUM) as address:
    print(httpx2.get(address + "index.html").text)

MUSEUM is a small site with all that real ones have: broken links, a redirect (gallery), links in a circle, a
picture, plain text, an empty page, and pages that name their encoding wrongly (fog-signal) or not at all
(keepers, letters).
"""

from __future__ import annotations

import functools
import io
import socket
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

MUSEUM = Path(__file__).with_name("site")
BUSY = ("/tides.html",)
"""What the museum has too many visitors for."""


@contextmanager
def serve(folder: Path, busy: Collection[str] = ()) -> Iterator[str]:
    """Serve the files of a folder, to this machine only, while the block runs; gives the folder's address.

    Whoever is the first to ask for one of the `busy` paths is asked to come again in a second.
    """
    with Server(("127.0.0.1", 0), functools.partial(Files, set(busy), directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class Files(SimpleHTTPRequestHandler):
    """Sends files. It lists no folders: one without index.html is as missing as on most web servers."""

    protocol_version = "HTTP/1.1"  # keeps connections open
    # Else the body of a small answer waits until its head, which is sent by itself, has been acknowledged.
    disable_nagle_algorithm = True
    timeout = 10  # the longest that an idle connection keeps its thread

    def __init__(self, busy: set[str], *args: Any, **options: Any) -> None:
        self.busy = busy
        super().__init__(*args, **options)  # handles all requests of a connection

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Begin an answer."""
        if self.path not in self.busy:
            return super().send_head()
        self.busy.discard(self.path)
        self.send_response(503)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def list_directory(self, path: object) -> None:  # noqa: ARG002 - the interface of the base class
        """Refuse."""
        self.send_error(404)

    def log_message(self, *args: object) -> None:
        """Print nothing: the examples have their own reports."""


class Server(ThreadingHTTPServer):
    """Its threads end with the program."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Print errors, but not that a client hung up in the middle of an answer: it had seen enough."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
