"""An HTTP server on loopback for as long as a test needs it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.server import BaseHTTPRequestHandler


@contextmanager
def serving(handler: Callable[[Any, Any, ThreadingHTTPServer], BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer requests with what ``handler`` makes; gives the address, ``127.0.0.1`` with a free port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
