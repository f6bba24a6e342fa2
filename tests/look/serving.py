"""A viewer that answers on a thread of its own, asked with plain HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from curation.look.index import Index
from curation.look.view import Viewer
from curation.storage import Storage


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


class Site:
    def __init__(self, port: int):
        self.port, self.url = port, f"http://127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            if body is not None:
                headers["Content-Length"] = str(len(body))
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> Answer:
        return self.ask("GET", f"/{path}?{urlencode(query)}" if query else f"/{path}", **(headers or {}))

    def post(self, path: str, told: Any, **headers: str) -> Answer:
        return self.ask("POST", f"/{path}", json.dumps(told).encode(), **{"Content-Type": "application/json", **headers})


@contextmanager
def serving(run: Storage, against: Storage | None = None) -> Iterator[Site]:
    index = Index({"a": run, **({"b": against} if against else {})})
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        viewer = Viewer(index)
        viewer.fill()
        runner = web.AppRunner(viewer.app(), access_log=None)

        async def start() -> int:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return runner.addresses[0][1]

        yield Site(asyncio.run_coroutine_threadsafe(start(), loop).result(20))
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        index.close()
