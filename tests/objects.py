"""An S3 server in a process of its own, and a gate before it that refuses, delays or cuts requests as a test says."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class S3Server:
    """moto's server on a free port of the loopback; `environment` is what clients need."""

    def __init__(self, log: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = environment(self.url)
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with log.open("w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the S3 server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/moto-api/", timeout=2):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def environment(url: str) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    return {**keys, "AWS_ENDPOINT_URL": url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


Request = tuple[str, str]
"""Method and path with its query."""


class Gate:
    """Passes requests on to a server, one at a time when `serial`. `rule` says of a request what becomes of it:
    None (it passes), a status and a body, or "cut" (the connection ends), "lost" (it passes, its answer does not),
    "half" (of its answer the first half comes)."""

    def __init__(self, port: int, *, serial: bool = False):
        self.rule: Callable[[str, str], tuple[int, bytes] | str | None] = lambda method, path: None
        self.heard: list[Request] = []
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.heard.append((self.command, self.path))
                said = outer.rule(self.command, self.path)
                if said == "cut":
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif isinstance(said, tuple):
                    self.answer(said[0], {}, said[1])
                else:
                    with lock if serial else nullcontext():
                        status, headers, data = self.passed(body)
                    if said != "lost":
                        self.answer(status, headers, data, len(data) // 2 if said == "half" else len(data))
                    if said:
                        self.connection.shutdown(socket.SHUT_RDWR)

            def passed(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                upstream.request(self.command, self.path, body, dict(self.headers))
                answer = upstream.getresponse()
                data = answer.read()
                upstream.close()
                return answer.status, dict(answer.getheaders()), data

            def answer(self, status: int, headers: dict[str, str], data: bytes, most: int | None = None) -> None:
                self.send_response_only(status)
                headers = {k: v for k, v in headers.items() if k.lower() not in ("connection", "transfer-encoding")}
                if self.command != "HEAD" and status != 204:
                    headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
                    headers["Content-Length"] = str(len(data))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[:most])

            def handle_one_request(self) -> None:
                with suppress(OSError):  # the client has left
                    super().handle_one_request()

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def count(self, method: str) -> int:
        return sum(heard[0] == method for heard in self.heard)

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def forget() -> None:
    """Clients of this process that were made for another server."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
