"""An endpoint on this machine in the form of OpenAI's, for programs that speak it.

It listens on 127.0.0.1 alone, without a key, and refuses what a page in a browser sends from elsewhere: a request whose
`Host` is not this machine (a name that was bound to it afterwards), or whose `Origin` is another place. Requests are
answered one at a time. There are no tools, no images, no log-probabilities, and one choice to a request.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
import uuid
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from etude.chat.asked import Asked, chat_asked, text_asked
from etude.chat.session import Session
from etude.core.errors import EtudeError, UsageError

HERE = "127.0.0.1"
NAMES = frozenset({HERE, "localhost", "::1"})
MOST_BYTES = 1 << 20
"""Of a request's body."""

SECONDS = 30
"""That a client may be silent in the middle of a request, or not read what is sent to it."""


class Endpoint:
    """Answers programs with a session's model, prompt and sampling, until `close`.

    Args:
        session: its conversation is not touched; what its reader has kept serves the next request that begins alike.
        name: of the model.
        port: 0 takes a free one.

    Attributes:
        address: where it listens, as an OpenAI client takes it.

    Raises:
        UsageError: the port is taken, or is none.
    """

    def __init__(self, session: Session, name: str, port: int = 0) -> None:
        self.session, self.name, self.begun = session, name, int(time.time())
        self.lock, self.served = threading.Lock(), 0
        if not 0 <= port < 1 << 16:
            raise UsageError(f"port {port} is none: give one from 1024 to 65535, or 0 for a free one")
        try:
            self._server = _Server((HERE, port), _Handler)
        except OSError as error:
            raise UsageError(f"port {port} cannot be listened on ({error.strerror}): give another") from None
        self._server.endpoint = self
        self.address = f"http://{HERE}:{self._server.server_address[1]}/v1"

    def serve(self) -> None:
        """Answer until another thread calls `close`."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    def model_card(self) -> dict[str, Any]:
        """Return what is said of the model."""
        return {"id": self.name, "object": "model", "created": self.begun, "owned_by": "etude"}

    def number(self, asked: Asked) -> int:
        """Return the number of a reply, which decides what is drawn for it: the same for every request with a seed."""
        self.served += 1
        return 0 if asked.seeded else self.served - 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    endpoint: Endpoint


class _Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": None, "code": self.code}}


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "etude", ""
    timeout = SECONDS
    begun = False

    @property
    def endpoint(self) -> Endpoint:
        return cast(_Server, self.server).endpoint

    def do_GET(self) -> None:
        self._answering(self._models)

    def do_POST(self) -> None:
        self._answering(self._write)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what `http.server` refuses by itself in the same form."""
        self._send(code, _Refused(code, message or "the request cannot be read").body())

    def _answering(self, answer: Any) -> None:
        try:
            self._check_from_here()
            answer()
        except _Refused as error:
            self._send(error.status, error.body())
        except EtudeError as error:
            self._send(400, _Refused(400, str(error)).body())
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # whoever asked has gone
        except Exception as error:  # noqa: BLE001 (a defect of ours is an answer too)
            if not self.begun:
                self._send(500, _Refused(500, f"{type(error).__name__}: {error}").body())

    def _check_from_here(self) -> None:
        """Refuse what does not come to this machine under its own name, or comes from a page of another."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if _name(f"//{host}") not in NAMES:
            raise _Refused(403, f"Host {host!r} is not this machine: ask {self.endpoint.address}")
        if origin is not None and _name(origin) not in NAMES:
            raise _Refused(403, f"Origin {origin!r} is another place, and only this machine is answered")

    def _models(self) -> None:
        path, cards = self._path(), [self.endpoint.model_card()]
        if path == "/v1/models":
            self._send(200, {"object": "list", "data": cards})
        elif path == f"/v1/models/{self.endpoint.name}":
            self._send(200, cards[0])
        else:
            raise _Refused(404, f"there is no {path!r}: GET /v1/models, POST /v1/chat/completions or /v1/completions")

    def _write(self) -> None:
        read = {"/v1/chat/completions": chat_asked, "/v1/completions": text_asked}.get(self._path())
        if read is None:
            raise _Refused(404, f"there is no {self._path()!r}: POST /v1/chat/completions or /v1/completions")
        asked = read(self._body(), self.endpoint.session)
        with self.endpoint.lock:
            asked.session.drawn = self.endpoint.number(asked)
            with closing(asked.begin()) as reply:
                (self._stream if asked.streams else self._whole)(asked, reply)

    def _path(self) -> str:
        return urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).rstrip("/")

    def _body(self) -> dict[str, Any]:
        """Return the request's JSON."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise _Refused(411, "a request says its length: send Content-Length")
        if len(length) > 9 or int(length) > MOST_BYTES:
            raise _Refused(413, f"a request of {length[:20]} bytes is too large: {MOST_BYTES:,} at most")
        if self.headers.get_content_type() != "application/json":
            raise _Refused(415, "a request is JSON: send Content-Type: application/json")
        body = self.rfile.read(int(length))
        try:
            data = json.loads(body.decode("utf-8"))
        except (ValueError, RecursionError):
            raise _Refused(400, "the request is not JSON in UTF-8") from None
        if not isinstance(data, dict):
            raise _Refused(400, f"the request is a JSON object, not {type(data).__name__}")
        return data

    def _whole(self, asked: Asked, reply: Any) -> None:
        text = "".join(reply)
        self._send(200, self._about(asked) | asked.whole(text))

    def _stream(self, asked: Asked, reply: Any) -> None:
        about = self._about(asked)
        self._begin(200, "text/event-stream")
        try:
            for part in asked.parts(reply):
                self._event(json.dumps(about | part))
            self._event("[DONE]")
        except EtudeError as error:  # the status is sent already
            self._event(json.dumps(_Refused(500, str(error)).body()))

    def _about(self, asked: Asked) -> dict[str, Any]:
        return {"id": f"{asked.id}-{uuid.uuid4().hex}", "created": int(time.time()), "model": self.endpoint.name}

    def _event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def _send(self, status: int, data: dict[str, Any]) -> None:
        body = json.dumps(data).encode()
        with suppress(ConnectionError, TimeoutError):
            self._begin(status, "application/json", len(body))
            self.wfile.write(body)

    def _begin(self, status: int, kind: str, length: int | None = None) -> None:
        self.begun = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.close_connection = True


def _name(address: str) -> str:
    """Return the host of an address, or nothing where there is none."""
    try:
        return urllib.parse.urlsplit(address).hostname or ""
    except ValueError:
        return ""
