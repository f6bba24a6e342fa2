"""`curation view`: a local page to browse a run, answered from an index of its rows and by range out of its tars.

It listens on the loopback unless it is told otherwise, answers only to names that no stranger's page can bear, and writes nothing
but `decisions.csv`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from curation import console
from curation.columns import COLUMNS
from curation.faults import one_line
from curation.inputs.files import InputError
from curation.look import asked, clip, decisions
from curation.look.bounds import bounds
from curation.look.index import Index, Row
from curation.look.pages import templates
from curation.look.sending import sent
from curation.look.source import STILLS, Bytes, Lost, source_of
from curation.storage import Storage

STATIC = Path(__file__).with_name("page")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
BODY = 16_384
"""Bytes of a request's body at most."""
EMPTY = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
"""A GIF of one clear pixel, for a clip of which there is no picture."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Viewer:
    """The answers. `index` is filled; it is closed by whoever made it."""

    def __init__(self, index: Index, host: str = "127.0.0.1"):
        self.index, self.host = index, host
        self.read: dict[str, float] = {}
        """Name of a run → when its ledgers were read."""
        self._writing = asyncio.Lock()

    def fill(self) -> None:
        for of in self.index.runs:
            self.index.fill(of)
            self.read[of] = time.time()
        self.index.decided(list(decisions.read(self.index.runs["a"]).values()), again=True)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=BODY)
        app.router.add_get("/", self.page)
        for name in ("view.js", "view.css"):
            app.router.add_get(f"/{name}", self.static)
        for name in ("about", "rows", "clip", "member", "thumb", "mask", "source", "still", "moves", "moved"):
            app.router.add_get(f"/{name}", getattr(self, name))
        for name in ("decide", "again"):
            app.router.add_post(f"/{name}", getattr(self, name))
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who may ask, what is said of errors, and the headers of all answers."""
        try:
            self._check(request)
            response = await handler(request)
        except ConnectionError:  # who asked has gone, or what was being sent ended: nothing more can be said
            raise
        except web.HTTPException as error:
            response = _json({"error": error.text or error.reason}, error.status)
        except (asked.Wrong, InputError) as error:
            response = _json({"error": str(error)}, 400)
        except Lost as error:
            response = _json({"error": str(error)}, 410)
        except Exception as error:  # noqa: BLE001 one request's; the next may be answered
            console.say(f"curation view: {request.path}: {one_line(error)}")
            response = _json({"error": f"{type(error).__name__}: {error}"}, 500)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    def _check(self, request: web.Request) -> None:
        if not _is_ours(request.host, self.host):
            raise web.HTTPForbidden(text="this name is not the viewer's")
        if request.method == "POST":
            if request.headers.get("Origin") not in (None, f"http://{request.host}"):
                raise web.HTTPForbidden(text="another page may not write here")
            if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
                raise web.HTTPForbidden(text="another page may not write here")
            if request.content_type != "application/json":
                raise web.HTTPUnsupportedMediaType(text="JSON is asked for")

    async def page(self, request: web.Request) -> web.Response:
        facts = {
            "run": self.index.runs["a"].path(),
            "against": self.index.runs["b"].path() if "b" in self.index.runs else "",
            "kinds": list(asked.KINDS),
            "numbers": {name: COLUMNS[name].says for name in asked.NUMBERS},
            "longest": decisions.LONGEST_NOTE,
        }
        return web.Response(
            text=templates("curation.look", "page").get_template("page.html.j2").render(facts), content_type="text/html"
        )

    async def static(self, request: web.Request) -> web.StreamResponse:
        kind = "text/javascript" if request.path.endswith(".js") else "text/css"
        text = (STATIC / request.path.removeprefix("/")).read_text(encoding="utf-8")  # one of two names, by the routes
        return web.Response(text=text, content_type=kind)

    async def about(self, request: web.Request) -> web.Response:
        counts = {of: await asyncio.to_thread(self.index.counts, of) for of in self.index.runs}
        return _json({"counts": counts, "scores": self.index.scores["a"], "read": self.read})

    async def rows(self, request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(self.index.page, request.query))

    async def moves(self, request: web.Request) -> web.Response:
        self._of(request, "b")
        settings = await asyncio.to_thread(_settings, self.index.runs["a"], self.index.runs["b"])
        return _json({"moves": await asyncio.to_thread(self.index.moves), "settings": settings})

    async def moved(self, request: web.Request) -> web.Response:
        self._of(request, "b")
        return _json(await asyncio.to_thread(self.index.moved, request.query))

    async def clip(self, request: web.Request) -> web.Response:
        of = self._of(request)
        known = bounds(_recipe(self.index.runs[of]))
        facts = await asyncio.to_thread(clip.facts, self.index, request.query.get("key", ""), of, known)
        if facts is None:
            raise web.HTTPNotFound(text="the run has no clip of this key")
        return _json(facts)

    async def member(self, request: web.Request) -> web.StreamResponse:
        """A member, whole or the part that `Range` asks for, straight out of the tar."""
        storage, row = await self._row(request)
        suffix = request.query.get("suffix", "")
        found = await asyncio.to_thread(_members, storage, row)
        if suffix not in found:
            raise web.HTTPNotFound(text="the sample has no such member")
        return await sent(request, found[suffix], HEADERS)

    async def thumb(self, request: web.Request) -> web.Response:
        storage, row = await self._row(request)

        def made() -> bytes | None:
            try:
                found = _members(storage, row)
                return clip.thumb(clip.read(found["frame1.jpg"])) if "frame1.jpg" in found else None
            except Lost:
                return None

        data = await asyncio.to_thread(made)
        return web.Response(body=data or EMPTY, content_type="image/jpeg" if data else "image/gif")

    async def mask(self, request: web.Request) -> web.Response:
        storage, row = await self._row(request)
        entity, frame = (_number(request, name) for name in ("entity", "frame"))

        def made() -> bytes:
            return clip.mask(clip.metadata(_members(storage, row)), entity, frame)

        return web.Response(body=await asyncio.to_thread(made), content_type="image/png")

    async def source(self, request: web.Request) -> web.StreamResponse:
        """The file that a clip was planned from, where it may be played."""
        storage, row = await self._row(request)

        def found() -> Bytes:
            source = source_of(storage, row)
            if source is None:
                raise Lost("the plan names no source")
            return source.video()

        return await sent(request, await asyncio.to_thread(found), HEADERS)

    async def still(self, request: web.Request) -> web.Response:
        storage, row = await self._row(request)
        number = _number(request, "number")
        if number >= STILLS:
            raise web.HTTPNotFound(text="there is no such still")

        def made() -> bytes:
            source = source_of(storage, row)
            if source is None:
                raise Lost("the plan names no source")
            return source.still(number, row["start"], row["end"])

        return web.Response(body=await asyncio.to_thread(made), content_type="image/jpeg")

    async def decide(self, request: web.Request) -> web.Response:
        """{key, decision, note} → what was written."""
        told = await _body(request)
        texts = [told.get(name, "") for name in ("key", "decision", "note")]
        if not all(isinstance(text, str) for text in texts):
            raise asked.Wrong("key, decision and note are texts")
        key, decision, note = texts
        if await asyncio.to_thread(self.index.row, key) is None:
            raise web.HTTPNotFound(text="the run has no clip of this key")
        async with self._writing:
            try:
                made = await asyncio.to_thread(decisions.add, self.index.runs["a"], key, decision, note)
            except ValueError as error:
                raise asked.Wrong(str(error)) from error
            await asyncio.to_thread(self.index.decided, [made])
        return _json(vars(made))

    async def again(self, request: web.Request) -> web.Response:
        """Read the ledgers again: a run may have gone on."""
        async with self._writing:
            await asyncio.to_thread(self.fill)
        return _json({"read": self.read})

    def _of(self, request: web.Request, otherwise: str = "a") -> str:
        of = request.query.get("of", otherwise)
        if of not in self.index.runs:
            raise web.HTTPNotFound(text="there is no such run here")
        return of

    async def _row(self, request: web.Request) -> tuple[Storage, Row]:
        of = self._of(request)
        row = await asyncio.to_thread(self.index.row, request.query.get("key", ""), of)
        if row is None:
            raise web.HTTPNotFound(text="the run has no clip of this key")
        return self.index.runs[of], row


def _json(value: Any, status: int = 200) -> web.Response:
    return web.json_response(value, status=status, dumps=lambda told: json.dumps(told, ensure_ascii=False, default=str))


async def _body(request: web.Request) -> Mapping[str, Any]:
    try:
        told = json.loads(await request.text())
    except ValueError as error:
        raise asked.Wrong("this is no JSON") from error
    if not isinstance(told, dict):
        raise asked.Wrong("an object is asked for")
    return told


def _is_ours(host: str, own: str) -> bool:
    """Whether a Host header may be the viewer's: an address, localhost, or the name it was told to listen on. A stranger's page
    that lets its own name point here has another."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]").lower()
    if name in ("localhost", own.lower(), socket.gethostname().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 5):
        raise asked.Wrong(f"{name} is a number")
    return int(text)


def _members(storage: Storage, row: Row) -> dict[str, Bytes]:
    return clip.members(storage, row) if row["offset"] is not None else {}


def _recipe(storage: Storage) -> dict[str, Any]:
    return json.loads(storage.read("run.json")).get("recipe", {}) if storage.exists("run.json") else {}


def _settings(one: Storage, other: Storage) -> list[tuple[str, Any, Any]]:
    """What the two runs' recipes say differently: name, this run's, the other's."""
    told = [_flat(_recipe(storage)) for storage in (one, other)]
    names = sorted(told[0].keys() | told[1].keys())
    return [(name, told[0].get(name), told[1].get(name)) for name in names if told[0].get(name) != told[1].get(name)]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {inner: leaf for k, v in value.items() for inner, leaf in _flat(v, f"{name}.{k}" if name else str(k)).items()}


def view(out: str, against: str | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve until Ctrl-C; says where. Raises `InputError` where nothing is finished, or the address is not to be had."""
    runs = {"a": Storage.at(out), **({"b": Storage.at(against)} if against else {})}
    index = Index(runs)
    try:
        viewer = Viewer(index, host)
        started = time.monotonic()
        console.say(f"reading the ledgers of {' and '.join(storage.path() for storage in runs.values())} …")
        viewer.fill()
        rows = sum(row["count"] for row in index.counts())
        console.say(f"{rows:,} rows in {time.monotonic() - started:.1f} s")
        if not _is_loopback(host):
            console.say(f"curation view: whoever reaches {host} can see the run and decide: it asks for no password")
        asyncio.run(_serve(viewer, host, port))
    except KeyboardInterrupt:
        pass
    finally:
        index.close()


async def _serve(viewer: Viewer, host: str, port: int) -> None:
    runner = web.AppRunner(viewer.app(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise InputError(f"--host {host} --port {port}: {error.strerror or error}") from error
    try:
        where = runner.addresses[0]
        print(f"http://{f'[{host}]' if ':' in host else host}:{where[1]}/ (Ctrl-C ends it)", flush=True)
        ended = asyncio.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, ended.set)
        await ended.wait()
    finally:
        await runner.cleanup()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
