"""Against a server in this process that answers well, late, badly or not at all."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from curation.faults import is_infrastructure
from curation.models import endpoint
from curation.models.endpoint import TRIES, Endpoint, EndpointError
from curation.models.instruction import messages
from curation.models.llm import Question, Unanswerable
from tests.servers import Act, Server, chat, say


def hang(handler: BaseHTTPRequestHandler, _: Any) -> None:
    time.sleep(1.5)


def trickle(handler: BaseHTTPRequestHandler, _: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(15):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def hang_up(handler: BaseHTTPRequestHandler, _: Any) -> None:
    handler.close_connection = True


def ask(server: Server, *script: Act, timeout: float = 5.0) -> str | Exception:
    server.script, server.heard = list(script), []
    [found] = Endpoint(server.url, "m", timeout=timeout)([Question(messages("A man."), {"type": "object"}, 9)])
    return found


def test_a_question_as_openai_has_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(server, chat("hello")) == "hello"
    [(path, headers, body)] = server.heard
    assert path == "/v1/chat/completions" and "Authorization" not in headers
    assert body["messages"] == messages("A man.") and (body["model"], body["max_tokens"], body["temperature"]) == ("m", 9, 0)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    monkeypatch.setenv("CURATION_API_KEY", "secret")
    Endpoint(server.url, "m")([Question([], None, 9)])
    assert server.heard[1][1]["Authorization"] == "Bearer secret" and "response_format" not in server.heard[1][2]


@pytest.mark.parametrize(
    "bad",
    [
        say(500, {"error": "busy"}), say(503, b"<html>", Retry_After="0.01"), say(429, b"", Retry_After="soon"),
        say(200, b"garbage"), say(200, b"\xff\xfe"), say(200, []), say(200, {"choices": []}), chat(None),
        say(200, b"{", Content_Length="100"), say(200, b" " * (endpoint.LARGEST + 1)), hang_up, hang, trickle,
    ],
)  # fmt: skip
def test_what_passes_is_tried_again(server: Server, bad: Act) -> None:
    slow = bad in (hang, trickle)
    assert ask(server, bad, chat("ok"), timeout=0.3 if slow else 5.0) == "ok"
    assert len(server.heard) == 2


def test_what_does_not_pass_is_one_line(server: Server) -> None:
    """And our side's fault, not the question's."""
    start = time.monotonic()
    with pytest.raises(EndpointError) as caught:
        ask(server, say(500, {"error": {"message": "out of\n memory"}}))
    assert len(server.heard) == TRIES and is_infrastructure(caught.value)
    assert str(caught.value) == f"{server.url}/chat/completions: status 500: out of memory, {TRIES} times"
    for act, reason in ((hang, "nothing within 0.2 s"), (hang_up, "broke"), (say(200, b"<html>"), "not JSON")):
        with pytest.raises(EndpointError, match=reason):
            ask(server, act, timeout=0.2)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_wrong_with_the_question_is_said_at_once(server: Server, status: int) -> None:
    error = ask(server, say(status, {"error": "too long"}), chat("ok"))
    assert isinstance(error, Unanswerable) and not is_infrastructure(error) and len(server.heard) == 1
    assert str(error) == f"{server.url}/chat/completions: status {status}: too long"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_wrong_with_every_question_is_no_question_s_fault(server: Server, status: int) -> None:
    with pytest.raises(EndpointError, match=f"status {status}: no such model"):
        ask(server, say(status, {"error": "no such model"}), chat("ok"))
    assert len(server.heard) == 1


def test_an_answer_that_never_has_a_text_is_the_questions_fault(server: Server) -> None:
    error = ask(server, chat(None))
    assert isinstance(error, Unanswerable) and len(server.heard) == TRIES
    assert str(error) == f"{server.url}/chat/completions: its answer has no text, {TRIES} times"


def test_no_redirect_is_followed(server: Server) -> None:
    with pytest.raises(EndpointError, match="status 307"):
        ask(server, say(307, b"", Location="http://example.invalid/"), chat("ok"))


def test_one_failed_answer_leaves_the_others(server: Server) -> None:
    def by_caption(handler: BaseHTTPRequestHandler, body: Any) -> None:
        text = body["messages"][-1]["content"]
        (say(400, {"error": "bad"}) if "3" in text else chat(text))(handler, body)

    server.script = [by_caption]
    single = Endpoint(server.url, "m")
    results = [single([Question(messages(f"A man {i}"), None, 9)])[0] for i in range(5)]
    assert [isinstance(r, Unanswerable) for r in results] == [False, False, False, True, False]


def test_the_rest_is_not_waited_for_when_the_endpoint_is_away(server: Server) -> None:
    server.script = [say(500, b"")]
    with pytest.raises(EndpointError):
        Endpoint(server.url, "m")([Question([], None, 9)] * 2_000)
    assert len(server.heard) < 2_000


def test_many_at_once_in_order(server: Server) -> None:
    def echo(handler: BaseHTTPRequestHandler, body: Any) -> None:
        time.sleep(0.2)
        chat(str(body["max_tokens"]))(handler, body)

    server.script = [echo]
    start = time.monotonic()
    results = Endpoint(server.url, "m")([Question([], None, n) for n in range(1, 33)])
    assert results == [str(n) for n in range(1, 33)] and server.most > 8 and time.monotonic() - start < 4


def test_the_only_model_is_taken(server: Server) -> None:
    server.script = [say(200, {"data": [{"id": "mistral"}]})]
    assert Endpoint(server.url + "/").model == "mistral" and server.heard[0][0] == "/v1/models"
    server.script = [say(200, {"data": [{"id": "a"}, {"id": "b"}]})]
    with pytest.raises(EndpointError, match="serves a, b: say which one in `served_model`"):
        Endpoint(server.url)


def test_no_server_is_one_line(server: Server) -> None:
    server.close()
    with pytest.raises(EndpointError, match=r"v1/models: cannot be reached: Connection refused, 5 times"):
        Endpoint(server.url)
