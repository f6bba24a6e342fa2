"""Language models that somebody else serves: any endpoint of OpenAI's chat completions (vLLM, SGLang, llama.cpp, …) over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError, URLError

from curation.models.llm import Question, Unanswerable

TRIES, FIRST_PAUSE, LONGEST_PAUSE = 5, 0.5, 30.0
"""How often a question is asked; between tries the pause doubles, in seconds. Retry-After is honoured up to the longest."""
IN_FLIGHT = 64
"""Questions at the endpoint at once; the server batches them."""
LARGEST = 1 << 20
"""Bytes of a response that are read."""
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that a later try may mend."""
REFUSED = frozenset({400, 413, 422})
"""Statuses that a question itself brings about: too long, mostly."""


class EndpointError(ConnectionError):
    """One line: which endpoint, and what it did. Nothing is said about a question."""


class Again(Exception):
    """A try failed that another one may mend, not before `pause` seconds. `fault`: what it is when none does."""

    def __init__(self, reason: str, pause: float = 0.0, fault: type[Exception] = EndpointError):
        super().__init__(reason)
        self.pause, self.fault = pause, fault


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: a POST would become a GET, and the key would travel elsewhere."""

    def redirect_request(self, *_: object) -> None:
        return None


class Endpoint:
    """Chat completions at `url` (as OpenAI's clients take it: "http://host:8000/v1"), greedy, the schema as `response_format`.

    `model` as the server calls it; None takes the only one it has. `timeout`: seconds for a whole answer. A key, where one is
    needed, is read from $CURATION_API_KEY. Raises `EndpointError` at once when there is no such server or model.
    """

    def __init__(self, url: str, model: str | None = None, *, timeout: float = 120.0):
        self.url, self.timeout = url.rstrip("/"), timeout
        self.opener = urllib.request.build_opener(_NoRedirect)
        self.pool = ThreadPoolExecutor(IN_FLIGHT)
        self.model = model or self._only_model()

    def __call__(self, questions: Sequence[Question]) -> list[str | Exception]:
        """Calls from several threads share the places at the endpoint. A question that it refuses gets an `Unanswerable`. Raises
        `EndpointError` when one is not answered after all tries, and does not wait for the others."""
        return list(self.pool.map(self._answer, questions))

    def close(self) -> None:
        """End the threads, when they have their answers."""
        self.pool.shutdown()

    def _answer(self, question: Question) -> str | Exception:
        body: dict[str, Any] = {"model": self.model, "messages": question.messages}
        body |= {"max_tokens": question.max_tokens, "temperature": 0, "seed": 0}
        if question.schema is not None:
            schema = {"name": "tags", "strict": True, "schema": question.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        try:
            return self._tried("chat/completions", body, _content)
        except Unanswerable as error:
            return error

    def _only_model(self) -> str:
        names = self._tried("models", None, lambda found: [str(model["id"]) for model in found["data"]])
        if len(names) != 1:
            raise EndpointError(f"{self.url} serves {', '.join(names) or 'no model'}: say which one in `served_model`")
        return names[0]

    def _tried(self, path: str, body: dict[str, Any] | None, read: Any) -> Any:
        """The response as `read` finds it, after as many tries as it takes. Raises `EndpointError` or `Unanswerable`."""
        pause = FIRST_PAUSE
        for attempt in range(1, TRIES + 1):
            try:
                return read(self._call(path, body))
            except (KeyError, IndexError, TypeError) as error:
                last = Again(f"its response has no answer in it ({type(error).__name__}: {error})")
            except Again as error:
                last = error
            if attempt < TRIES:
                time.sleep(min(max(pause, last.pause), LONGEST_PAUSE))
                pause *= 2
        raise last.fault(f"{self.url}/{path}: {last}, {TRIES} times")

    def _call(self, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get("CURATION_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, headers)
        try:
            with self.opener.open(request, timeout=self.timeout) as response:
                return json.loads(self._read(response))
        except HTTPError as error:
            with error:
                reason = f"status {error.code}: {_complaint(error)}"
                if error.code in PASSING:
                    raise Again(reason, _seconds(error.headers.get("Retry-After"))) from error
                fault = Unanswerable if body is not None and error.code in REFUSED else EndpointError
                raise fault(f"{self.url}/{path}: {reason}") from error
        except TimeoutError as error:
            raise Again(f"nothing within {self.timeout:g} s") from error
        except URLError as error:
            raise Again(f"cannot be reached: {getattr(error.reason, 'strerror', None) or error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise Again(f"the connection broke ({type(error).__name__})") from error
        except ValueError as error:
            raise Again("its response is not JSON") from error

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        """The body. Raises `TimeoutError` also when it trickles in."""
        deadline, parts, size = time.monotonic() + self.timeout, [], 0
        while part := response.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if size > LARGEST:
                raise Again(f"its response is larger than {LARGEST} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError
        return b"".join(parts)


def _content(response: Any) -> str:
    content = response["choices"][0]["message"]["content"]
    if not isinstance(content, str):
        raise Again("its answer has no text", fault=Unanswerable)
    return content


def _complaint(error: HTTPError) -> str:
    """What the server says is wrong, in one line."""
    try:
        text = error.read(LARGEST).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return str(error.reason)
    try:
        found = json.loads(text)
        text = found["error"]["message"] if isinstance(found["error"], dict) else str(found["error"])
    except (ValueError, KeyError, TypeError):
        pass
    return " ".join(str(text).split())[:200] or str(error.reason)


def _seconds(retry_after: str | None) -> float:
    try:
        return float(retry_after or 0)
    except ValueError:
        return 0.0  # a date: the usual pause will do
