"""A hub on this machine that speaks enough of the protocol, with faults to plan."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from etude.text.store import TokenStore
from etude.text.store_writer import StoreWriter
from etude.text.tokenizers.live import Tokenizer

COMMIT = "c0ffee" + "0" * 34
Fault = Callable[["Answer"], bool]


@dataclass
class Hub:
    """One repository with files; those above 100 bytes are in large file storage.

    Attributes:
        faults: what happens to the first requests for a path (its end), one each, before it works.
        asked: every request: method, path, range.
        sent: bytes of content sent, by file.
    """

    files: dict[str, bytes]
    repository: str = "owner/words"
    branch: str = "main"
    licence: str = "cc-by-4.0"
    commit: str = COMMIT
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    announced: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    down: bool = False

    def file(self, name: str) -> str:
        """Return where faults of a file's content are planned."""
        return f"GET /datasets/{self.repository}/resolve/{self.commit}/{name}"

    def etag(self, name: str) -> str:
        content = self.announced.get(name, self.files[name])
        if len(content) > 100:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def info(self) -> dict[str, Any]:
        return {"id": self.repository, "_id": "1", "sha": self.commit, "author": "owner", "private": False, "gated": 0,
                "downloads": 1, "likes": 0, "tags": [f"license:{self.licence}"], "cardData": {"license": self.licence},
                "siblings": [{"rfilename": name} for name in self.files]}  # fmt: skip

    def tree(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = [{"type": "directory", "path": "data", "oid": "0" * 40, "size": 0}]
        for name, content in self.files.items():
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": self.etag(name)}
            if len(self.etag(name)) == 64:
                entry |= {"oid": "1" * 40, "lfs": {"oid": self.etag(name), "size": len(content), "pointerSize": 130}}
            entries.append(entry)
        return entries

    def gets(self, name: str) -> list[str]:
        """Return the range of each request for a file's content."""
        return [asked for method, path, asked in self.asked if method == "GET" and path.endswith(f"/{name}")]

    @staticmethod
    def status(code: int, error: str = "", **headers: str) -> Fault:
        """Answer once with a status."""

        def fault(answer: Answer) -> bool:
            facts = {key.replace("_", "-"): value for key, value in headers.items()}
            answer.reply(code, b"", facts | ({"X-Error-Code": error} if error else {}))
            return True

        return fault

    @staticmethod
    def stall_after(count: int, released: threading.Event) -> Fault:
        """Send so many bytes of a file, and then nothing until released."""

        def fault(answer: Answer) -> bool:
            name = answer.path.partition("/resolve/")[2].partition("/")[2]
            answer.send_response(200)
            answer.send_header("Content-Length", str(len(answer.hub.files[name])))
            answer.end_headers()
            answer.wfile.write(answer.hub.files[name][:count])
            answer.wfile.flush()
            released.wait(20)
            answer.close_connection = True
            return True

        return fault

    @staticmethod
    def cut_after(count: int) -> Fault:
        """Send so many bytes of what was asked for, and cut the connection."""

        def fault(answer: Answer) -> bool:
            if answer.command == "HEAD":
                return False
            name = answer.path.partition("/resolve/")[2].partition("/")[2]
            content, asked = answer.hub.files[name], answer.headers.get("Range", "")
            start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
            facts = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}
            answer.reply(206 if asked else 200, content[start:], facts, name, cut=count)
            return True

        return fault


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, unquote(self.path.partition("?")[0])
        if hub.down:  # connections that a client has kept open end too
            self.close_connection = True
            return
        hub.asked.append((self.command, path, self.headers.get("Range", "")))
        planned = next((key for key in hub.faults if hub.faults[key] and f"{self.command} {path}".endswith(key)), None)
        if planned and hub.faults[planned].pop(0)(self):
            return
        name = hub.repository
        kinds = {f"/api/datasets/{name}": f"/datasets/{name}", f"/api/models/{name}": f"/{name}"}
        api = next((prefix for prefix in kinds if path.startswith(prefix)), None)
        if api and path[len(api) :] in (f"/revision/{hub.branch}", f"/revision/{hub.commit}"):
            self.reply(200, json.dumps(hub.info()).encode())
        elif api and path.startswith(f"{api}/tree/{hub.commit}"):
            self.reply(200, json.dumps(hub.tree()).encode())
        elif api:
            self.fail(404, "RevisionNotFound")
        elif any(path.startswith(f"{prefix}/resolve/") for prefix in kinds.values()):
            self._file(path.partition("/resolve/")[2].partition("/")[2])
        else:
            self.fail(401, "RepoNotFound")

    def _file(self, name: str) -> None:
        if name not in self.hub.files:
            self.fail(404, "EntryNotFound")
            return
        content, start = self.hub.files[name], 0
        facts = {"X-Repo-Commit": self.hub.commit, "ETag": f'"{self.hub.etag(name)}"', "Accept-Ranges": "bytes"}
        if len(content) > 100:
            facts |= {"X-Linked-Etag": f'"{self.hub.etag(name)}"', "X-Linked-Size": str(len(content))}
        if asked := self.headers.get("Range", ""):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(content):
                self.reply(416, b"")
                return
            facts["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.reply(206 if asked else 200, content[start:], facts, name)

    def fail(self, status: int, code: str) -> None:
        self.reply(status, b"", {"X-Error-Code": code} if code else {})

    def reply(
        self, status: int, body: bytes, facts: dict[str, str] | None = None, name: str = "", cut: int = -1
    ) -> None:
        """Answer; `cut` bytes of the body alone, and then the connection ends."""
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(facts or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = body if cut < 0 else body[:cut]
        self.wfile.write(sent)
        self.hub.sent[name] += len(sent)
        if cut >= 0:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with no files yet that the library takes for the only one, and an empty cache."""
    pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
    from huggingface_hub import constants

    hub = Hub({})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (Answer,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    yield hub
    hub.down = True
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., TokenStore]:
    """Write documents as a tokens run does, whole ones each with the separator after it, and open them."""

    def write(
        documents: Sequence[Sequence[int]],
        tokenizer: Tokenizer,
        *,
        openings: int = 0,
        labels: Sequence[int] = (),
        classes: Sequence[str] = (),
        sides: Sequence[str] = (),
    ) -> TokenStore:
        path = tmp_path / "train.tokens"
        with StoreWriter(path, tokenizer.vocabulary, openings, classes, sides) as writer:
            for number, document in enumerate(documents):
                writer.add(document, len(document))
                if not openings:
                    writer.add([tokenizer.end], 0)
                writer.end_document(labels[number] if classes else None)
        return TokenStore.open(path)

    return write
