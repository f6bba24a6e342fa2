"""Bytes of a file as an answer: whole, or the part that `Range` asks for, read as they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from curation.look.source import Bytes

AT_ONCE = 1 << 20
"""Bytes that are read and sent at once."""


async def sent(request: web.Request, part: Bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """Raises ConnectionError where the file turns out shorter: who asked sees that the answer broke off."""
    try:
        wanted = request.http_range
        begin, end, _ = wanted.indices(part.size)
    except ValueError:  # several ranges, or none that can be read: the whole is a right answer
        wanted, begin, end = slice(None), 0, part.size
    is_part = wanted.start is not None or wanted.stop is not None
    if is_part and begin >= end:
        raise web.HTTPRequestRangeNotSatisfiable(text="it ends before that")
    response = web.StreamResponse(status=206 if is_part else 200, headers=headers)
    response.content_type = part.type
    response.content_length = end - begin
    response.headers["Accept-Ranges"] = "bytes"
    if is_part:
        response.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{part.size}"
    if part.type == "application/octet-stream":
        response.headers["Content-Disposition"] = "attachment"
    await response.prepare(request)
    for at in range(begin, end if request.method == "GET" else begin, AT_ONCE):
        size = min(AT_ONCE, end - at)
        try:
            data = await asyncio.to_thread(part.storage.read_range, part.name, part.offset + at, size)
        except OSError as error:
            raise ConnectionResetError(f"{part.name}: {error}") from error
        await response.write(data)
        if len(data) < size:
            raise ConnectionResetError(f"{part.name} has become shorter")
    await response.write_eof()
    return response
