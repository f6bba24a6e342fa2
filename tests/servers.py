"""A small HTTP server on the loopback that answers as a script says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Act = Callable[[BaseHTTPRequestHandler, Any], None]


def say(status: int, body: Any, **headers: str) -> Act:
    def act(handler: BaseHTTPRequestHandler, _: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return act


def chat(text: Any) -> Act:
    return say(200, {"choices": [{"message": {"content": text}}]})


class Server:
    """`script`: what the next requests get, the last one for ever; `heard`: what they were."""

    def __init__(self) -> None:
        self.script: list[Act] = []
        self.heard: list[tuple[str, dict[str, str], Any]] = []
        self.busy = self.most = 0
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size)) if size else None
                with lock:
                    outer.heard.append((self.path, dict(self.headers), body))
                    act = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                    outer.busy += 1
                    outer.most = max(outer.most, outer.busy)
                with suppress(OSError):  # the client has left
                    act(self, body)
                with lock:
                    outer.busy -= 1

            do_POST = do_GET

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
