"""The endpoint as a program sees it: OpenAI's form, one reply at a time, this machine alone."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from etude.chat.endpoint import MOST_BYTES, Endpoint
from etude.chat.prompts.none import Nothing
from etude.chat.prompts.short import Short
from etude.chat.session import Session
from etude.core.errors import UsageError
from etude.models.generation import generate
from etude.models.sampling import Sampling
from etude.text.tokenizers.live import ByteTokenizer

BYTES = ByteTokenizer()
JSON = {"Content-Type": "application/json"}
HELLO = {"role": "user", "content": "Hello"}
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    kind: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]["message"]

    @property
    def events(self) -> list[Any]:
        lines = self.body.decode().split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""] and all(line.startswith("data: ") for line in lines[:-1])
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


class Client:
    """Asks an endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint, self.port = endpoint, int(endpoint.address.split(":")[2].split("/")[0])

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, sent, JSON if headers is None else headers)
        with connection.getresponse() as found:
            answer = Answer(found.status, found.headers.get_content_type(), found.read())
        connection.close()
        return answer

    def chat(self, **fields: Any) -> Answer:
        return self.ask("POST", CHAT, {"model": "any", "messages": [HELLO], **fields})


@pytest.fixture
def serving() -> Iterator[Callable[..., Client]]:
    """Makes an endpoint that answers on a thread, and its client."""
    begun: list[tuple[Endpoint, threading.Thread]] = []

    def serve(model: Any, prompt: Any = None, sampling: Sampling | None = None) -> Client:
        session = Session(model, BYTES, prompt or Nothing(), sampling or Sampling(temperature=0, max_tokens=8))
        endpoint = Endpoint(session, "etude-test")
        thread = threading.Thread(target=endpoint.serve)
        thread.start()
        begun.append((endpoint, thread))
        return Client(endpoint)

    yield serve
    for endpoint, thread in begun:
        endpoint.close()
        thread.join()


@pytest.fixture
def client(serving: Any, writer: Any) -> Client:
    return serving(writer(' \x1b"é', context=700), Short())


def test_the_model_is_listed(client: Client) -> None:
    listed = client.ask("GET", "/v1/models").json
    assert (listed["object"], [card["id"] for card in listed["data"]]) == ("list", ["etude-test"])
    assert client.ask("GET", "/v1/models/etude-test").json == listed["data"][0]


def test_a_conversation_is_answered(client: Client) -> None:
    answer = client.chat(messages=[{"role": "system", "content": "Be brief."}, HELLO])
    found = answer.json
    assert (answer.status, found["object"], found["model"]) == (200, "chat.completion", "etude-test")
    (choice,) = found["choices"]
    assert choice["message"] == {"role": "assistant", "content": '\x1b"é'} and choice["finish_reason"] == "stop"
    text = f"Be brief.\n\n{Short().text}\nUser: Hello\nAssistant:"
    assert found["usage"] == {"prompt_tokens": 1 + len(text), "completion_tokens": 6, "total_tokens": 7 + len(text)}


def test_a_stream_has_the_same_text(client: Client) -> None:
    answer = client.chat(stream=True, stream_options={"include_usage": True})
    *parts, last, usage = answer.events
    assert (answer.status, answer.kind) == (200, "text/event-stream")
    assert parts[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [part["choices"][0]["delta"]["content"] for part in parts[1:]] == ["\x1b", '"', "é"]
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 6
    assert {part["object"] for part in answer.events} == {"chat.completion.chunk"}
    assert len({part["id"] for part in answer.events}) == 1


def test_a_text_is_completed(client: Client) -> None:
    answer = client.ask("POST", TEXT, {"prompt": "so:", "max_tokens": 3}).json
    assert (answer["object"], answer["choices"][0]["text"]) == ("text_completion", ' \x1b"')
    assert answer["choices"][0]["finish_reason"] == "length" and answer["usage"]["prompt_tokens"] == 4
    streamed = client.ask("POST", TEXT, {"prompt": ["so:"], "stream": True, "stop": '"'}).events
    assert "".join(part["choices"][0]["text"] for part in streamed) == " \x1b"
    assert streamed[-1]["choices"][0]["finish_reason"] == "stop"


def test_the_sampling_that_is_asked_for_is_used(serving: Any, lively: Any) -> None:
    model = lively()
    client = serving(model, None, Sampling(max_tokens=8, seed=5))
    fields = {"temperature": 0.7, "top_p": 0.9, "seed": 11, "max_tokens": 6, "stop": ["q"]}
    asked = Sampling(temperature=0.7, top_p=0.9, seed=11, max_tokens=6, stop=("q", "\nUser:", "\nAssistant:"))
    ids = [BYTES.end, *BYTES.encode("User: Hello\nAssistant:")]
    expected = generate(model, BYTES, [ids], asked)[0].text.strip()
    texts = [client.chat(**fields).json["choices"][0]["message"]["content"] for _ in range(3)]
    assert texts == 3 * [expected]
    assert len({client.chat().json["choices"][0]["message"]["content"] for _ in range(3)}) == 3, "without a seed"
    assert client.endpoint.session.sampling == Sampling(max_tokens=8, seed=5)


def test_several_at_once_are_answered_as_one_by_one(serving: Any, lively: Any) -> None:
    client = serving(lively())

    def said(n: int) -> str:
        return client.chat(messages=[{"role": "user", "content": f"Number {n}"}]).json["choices"][0]["message"][
            "content"
        ]

    expected, found = [said(n) for n in range(4)], dict[int, str]()
    threads = [threading.Thread(target=lambda n=n: found.update({n: said(n)})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(4)] == expected


def test_a_long_conversation_loses_its_beginning_and_a_long_text_is_refused(serving: Any, lively: Any) -> None:
    client = serving(lively(context=100))
    messages = [{"role": "assistant" if n % 2 else "user", "content": f"Number {n}"} for n in range(15)]
    assert 0 < client.chat(messages=messages).json["usage"]["exchanges_left_out"] < 8
    answer = client.ask("POST", TEXT, {"prompt": 50 * "ab "})
    assert (answer.status, "too long for the model's context" in answer.error) == (400, True)


REFUSED = [
    (b"{", 400, "the request is not JSON"),
    (b"\xff", 400, "the request is not JSON"),
    (b"[" * 100_000, 400, "the request is not JSON"),
    ([], 400, "the request is a JSON object, not list"),
    ({}, 400, "messages are a list"),
    ({"messages": []}, 400, "the last message is the user's"),
    ({"messages": [HELLO, {"role": "assistant", "content": "x"}]}, 400, "the last message is the user's"),
    ({"messages": [HELLO, HELLO]}, 400, "turn 2 is the user's and so is turn 1"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "no images"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, "which is not UTF-8"),
    ({"messages": [{"role": "user", "content": 999 * "x"}]}, 400, "what was said is too long by"),
    ({"messages": [{"role": "system", "content": 999 * "x"}, HELLO]}, 400, "shorten the system message"),
    ({"messages": [HELLO], "n": 2}, 400, "n = 2 is not a whole number from 1 to 1"),
    ({"messages": [HELLO], "temperature": -1}, 400, "temperature = -1 is not a number from 0 to 2"),
    ({"messages": [HELLO], "temperature": float("nan")}, 400, "temperature = nan is not a number"),
    ({"messages": [HELLO], "temperature": "1"}, 400, "temperature = '1' is not a number"),
    ({"messages": [HELLO], "max_tokens": True}, 400, "max_tokens = True is not a whole number"),
    ({"messages": [HELLO], "max_tokens": 0}, 400, "max_tokens = 0 is not"),
    ({"messages": [HELLO], "top_p": 0}, 400, "top_p = 0.0 is not above 0"),
    ({"messages": [HELLO], "stop": [""]}, 400, "stop holds an empty text"),
    ({"messages": [HELLO], "stop": 5 * ["a"]}, 400, "stop is a text, or a list of 4"),
    ({"messages": [HELLO], "stream": "yes"}, 400, "stream = 'yes' is neither true nor false"),
    ({"messages": [HELLO], "tools": [{}]}, 400, "tools is not supported"),
]


@pytest.mark.parametrize(("body", "status", "line"), REFUSED)
def test_what_is_refused_says_why(serving: Any, writer: Any, body: Any, status: int, line: str) -> None:
    client = serving(writer(" hi"))
    answer = client.ask("POST", CHAT, body)
    assert (answer.status, answer.kind) == (status, "application/json")
    assert line in answer.error and "\n" not in answer.error
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert client.chat().json["choices"][0]["message"]["content"] == "hi"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/models", {"Host": "evil.example"}, 403),
        ("GET", "/v1/models", {"Host": "127.0.0.1.evil.example:80"}, 403),
        ("GET", "/v1/models", {"Host": ""}, 403),
        ("GET", "/v1/models", {"Origin": "https://evil.example"}, 403),
        ("GET", "/v1/models", {"Origin": "null"}, 403),
        ("GET", "/v1/models", {"Origin": "http://localhost:3000"}, 200),
        ("GET", "/v1/models", {"Host": "localhost:1"}, 200),
        ("POST", CHAT, {**JSON, "Host": "evil.example"}, 403),
        ("POST", CHAT, {"Content-Type": "text/plain", "Content-Length": "2"}, 415),
        ("POST", CHAT, {**JSON, "Content-Length": "-1"}, 411),
        ("POST", CHAT, {**JSON, "Transfer-Encoding": "chunked"}, 411),
        ("POST", CHAT, {**JSON, "Content-Length": str(MOST_BYTES + 1)}, 413),
        ("POST", CHAT, {**JSON, "Content-Length": "9" * 50}, 413),
        ("POST", "/v1/embeddings", JSON, 404),
        ("GET", CHAT, {}, 404),
        ("GET", "/../../etc/passwd", {}, 404),
        ("PUT", CHAT, {}, 501),
    ],
)
def test_who_is_answered(
    serving: Any, writer: Any, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    client = serving(writer(" hi"))
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    with connection.getresponse() as answer:
        body = json.loads(answer.read())
    connection.close()
    assert answer.status == status
    assert status == 200 or body["error"]["message"]


def test_a_client_that_leaves_holds_nobody_up(serving: Any, lively: Any) -> None:
    client = serving(lively(context=2000), None, Sampling(temperature=0))
    body = json.dumps({"messages": [HELLO], "stream": True, "max_tokens": 1500}).encode()
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as left:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        left.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert left.recv(12) == b"HTTP/1.1 200"
    assert client.chat(max_tokens=3).json["usage"]["completion_tokens"] == 3


def test_it_listens_on_this_machine_alone(client: Client) -> None:
    assert client.endpoint._server.server_address[0] == "127.0.0.1"
    assert client.endpoint.address.startswith("http://127.0.0.1:")


def test_a_port_that_cannot_be_had(client: Client, lively: Any) -> None:
    session = Session(lively(), BYTES, Nothing())
    with pytest.raises(UsageError, match=f"port {client.port} cannot be listened on"):
        Endpoint(session, "second", client.port)
    with pytest.raises(UsageError, match="port 70000 is none"):
        Endpoint(session, "second", 70_000)
