"""Fetching from a hub: a server on this machine that speaks its protocol, and everything that goes wrong with one."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etude.core.errors import DamagedError, EtudeError, UsageError
from etude.text import hub_transfer
from etude.text.hub import Snapshot, fetched
from etude.text.hub_transfer import Announced, Patience, asked_wait

library = pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
from huggingface_hub import constants  # noqa: E402

Hub = Any
"""The server on this machine that `conftest.py` starts."""

BIG = random.Random(1).randbytes(300_000)
SMALL = b"---\nlicense: cc-by-4.0\n---\nWords.\n"
COMMIT = "c0ffee" + "0" * 34
FILE = f"GET /datasets/owner/words/resolve/{COMMIT}/data/train.parquet"
INFO = "/api/datasets/owner/words/revision/main"


@pytest.fixture
def hub(hub: Hub) -> Hub:
    """The hub, with a small file and a large one."""
    hub.files.update({"README.md": SMALL, "data/train.parquet": BIG})
    return hub


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, which are not waited."""
    found: list[float] = []
    monkeypatch.setattr(hub_transfer, "time", SimpleNamespace(sleep=found.append, time=time.time))
    return found


def fetch(files: tuple[str, ...] = ("data/*.parquet",), said: list[str] | None = None, **more: Any) -> Snapshot:
    lines = [] if said is None else said
    return fetched("owner/words", files, say=lines.append, progress=lambda *_: None, **more)


def train(snapshot: Snapshot) -> bytes:
    return (snapshot.folder / "data/train.parquet").read_bytes()


def refused(kind: type[EtudeError], *args: Any, **more: Any) -> str:
    with pytest.raises(kind) as caught:
        fetch(*args, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# what works


def test_files_come_with_their_revision_and_licence(hub: Hub):
    said: list[str] = []
    snapshot = fetch(("README.md", "data/*.parquet"), said)
    assert (snapshot.revision, snapshot.licence) == (COMMIT, "cc-by-4.0")
    assert snapshot.files == ("README.md", "data/train.parquet")
    assert train(snapshot) == BIG and (snapshot.folder / "README.md").read_bytes() == SMALL
    assert said == ["owner/words at c0ffee00: fetching 2 of 2 files, 300 kB; licence: cc-by-4.0"]


def test_what_is_there_is_not_fetched_again(hub: Hub):
    first = fetch()
    asked = len(hub.asked)
    said: list[str] = []
    assert fetch(said=said) == first and said == []
    assert all("/api/" in path for _, path, _ in hub.asked[asked:])
    fetch(revision=COMMIT)
    asked = len(hub.asked)
    fetch(revision=COMMIT)  # a commit does not change: nobody is asked
    assert len(hub.asked) == asked


def test_the_library_finds_it_and_finds_nothing_else(hub: Hub):
    fetch()
    found = library.hf_hub_download("owner/words", "data/train.parquet", repo_type="dataset", revision=COMMIT)
    assert Path(found).read_bytes() == BIG and len(hub.gets("data/train.parquet")) == 1
    cache = library.scan_cache_dir(constants.HF_HUB_CACHE)
    assert not cache.warnings and [repo.repo_id for repo in cache.repos] == ["owner/words"]


def test_a_model_is_asked_for_as_one(hub: Hub):
    assert train(fetch(kind="model")) == BIG
    assert any(path == f"/owner/words/resolve/{COMMIT}/data/train.parquet" for _, path, _ in hub.asked)


def test_progress_ends_at_the_whole(hub: Hub):
    shown: list[tuple[float, float, str, str]] = []
    fetched("owner/words", ["*"], say=lambda _: None, progress=lambda *state: shown.append(state))
    assert shown[-1] == (len(BIG) + len(SMALL), len(BIG) + len(SMALL), "bytes", "data/train.parquet")
    assert [state[0] for state in shown] == sorted(state[0] for state in shown)


def test_nothing_is_asked_before_a_name_is(hub: Hub):
    code = "import sys, etude.text.hub; print('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
    assert hub.asked == []


# cut, busy, killed


def test_a_cut_download_goes_on_where_it_was_cut(hub: Hub, waits: list[float]):
    hub.faults[FILE] += [hub.cut_after(100_000), hub.cut_after(70_000), hub.cut_after(0)]
    said: list[str] = []
    assert train(fetch(said=said)) == BIG
    assert hub.gets("data/train.parquet") == ["", "bytes=100000-", "bytes=170000-", "bytes=170000-"]
    assert hub.sent["data/train.parquet"] == len(BIG)
    assert waits == [1, 1, 2]  # each new byte makes it patient again
    assert said[1] == (
        "owner/words data/train.parquet: the connection failed (RemoteProtocolError); trying again in 1 s (1 of 5)"
    )


def test_a_connection_that_is_always_cut_is_given_up(hub: Hub, waits: list[float]):
    hub.faults[FILE] += [hub.cut_after(1000), *[hub.cut_after(0)] * 9]
    assert "cannot reach http://127.0.0.1" in refused(EtudeError)
    assert waits == [1, 2, 4, 8, 16]
    hub.faults.clear()
    assert train(fetch()) == BIG and hub.gets("data/train.parquet")[-1] == "bytes=1000-"


def test_a_busy_hub_is_waited_for(hub: Hub, waits: list[float]):
    hub.faults[FILE] += [
        hub.status(429, Retry_After="7"),
        hub.status(503),
        hub.status(429, RateLimit='"resolvers";r=0;t=55'),
    ]
    hub.faults[INFO] += [hub.status(429, Retry_After="3"), hub.status(502)]
    said: list[str] = []
    assert train(fetch(said=said)) == BIG
    assert waits == [3, 2, 7, 2, 55]
    assert said[0] == "owner/words: the hub is busy (429); trying again in 3 s (1 of 2)"


def test_a_hub_that_stays_busy_is_given_up(hub: Hub, waits: list[float]):
    hub.faults[FILE] += [hub.status(503)] * 9
    assert refused(EtudeError).endswith("answers 503 for owner/words: try again later; what came so far is kept")
    assert len(waits) == 5
    hub.faults[FILE][:] = [hub.status(429, Retry_After="3600")]
    assert "the hub (429) asks to wait 3600 s: come back then" in refused(EtudeError)
    assert len(waits) == 5


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"ratelimit": '"api";r=0;t=30'}, 30),
        ({"ratelimit": '"api";r=12;t=30'}, None),
    ],
)
def test_what_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None):
    assert asked_wait(headers) == seconds


def test_a_killed_fetch_goes_on(hub: Hub, tmp_path: Path):
    released = threading.Event()
    hub.faults[FILE].append(hub.stall_after(123_456, released))
    code = "from etude.text.hub import fetched; fetched('owner/words', ['data/*'])"
    env = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL)
    parts = tmp_path / "home/hub/datasets--owner--words/blobs"
    until = time.monotonic() + 20
    while not any(part.stat().st_size for part in parts.glob("*.incomplete")) and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    released.set()
    there = next(parts.glob("*.incomplete")).stat().st_size
    assert 0 < there <= 123_456
    assert train(fetch()) == BIG
    assert hub.gets("data/train.parquet") == ["", f"bytes={there}-"]
    assert not list(parts.glob("*.incomplete"))


def test_who_asks_at_once_fetches_once(hub: Hub):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: train(fetch()), range(4)))
    assert found == [BIG] * 4
    assert hub.sent["data/train.parquet"] == len(BIG)


def test_a_server_without_ranges_sends_the_whole(hub: Hub):
    def whole(answer: Any) -> bool:
        answer.reply(200, BIG, name="data/train.parquet")
        return True

    hub.faults[FILE] += [hub.cut_after(1000), whole]
    assert train(fetch()) == BIG


def test_an_answer_that_ends_early_goes_on(hub: Hub):
    def short(answer: Any) -> bool:
        answer.reply(200, BIG[:5000], name="data/train.parquet")
        return True

    hub.faults[FILE].append(short)
    assert train(fetch()) == BIG
    assert hub.gets("data/train.parquet") == ["", "bytes=5000-"]


def test_who_waits_for_another_is_told(hub: Hub, tmp_path: Path):
    released, said = threading.Event(), list[str]()
    hub.faults[FILE].append(hub.stall_after(1000, released))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetch)
        while not list(tmp_path.rglob("*.incomplete")):
            time.sleep(0.01)
        second = pool.submit(fetch, said=said)
        while not any("already" in line for line in said):
            time.sleep(0.01)
        released.set()
        assert train(first.result()) == train(second.result()) == BIG
    assert said[-1] == "owner/words data/train.parquet: it is being fetched already; waiting for it"
    assert hub.gets("data/train.parquet") == ["", "bytes=1000-"]


# wrong bytes


def test_other_bytes_than_announced_are_refused_and_removed(hub: Hub, tmp_path: Path):
    hub.announced["data/train.parquet"] = BIG[:-1] + b"!"
    message = refused(DamagedError)
    assert "owner/words data/train.parquet: the 300000 bytes that came have the hash" in message
    assert "the damaged file was removed" in message
    assert not [p for p in (tmp_path / "home/hub/datasets--owner--words").rglob("*") if p.is_file()]
    hub.announced["README.md"] = SMALL.upper()
    assert "README.md" in refused(DamagedError, ("README.md",))


def test_what_an_earlier_fetch_left_wrong_is_fetched_from_the_start(hub: Hub, tmp_path: Path):
    hub.faults[FILE] += [hub.cut_after(1000), *[hub.cut_after(0)] * 5]
    refused(EtudeError)
    part = next(tmp_path.rglob("*.incomplete"))
    part.write_bytes(b"?" * 1000)
    said: list[str] = []
    assert train(fetch(said=said)) == BIG
    assert any("does not fit; fetching it from the start" in line for line in said)


@pytest.mark.parametrize("held", [BIG + b"more", b"?" * len(BIG)])
def test_too_much_or_wrong_of_the_same_length_is_found(hub: Hub, tmp_path: Path, held: bytes):
    hub.faults[FILE] += [hub.status(403)]
    refused(UsageError)
    part = next(tmp_path.rglob("*.incomplete"))
    part.write_bytes(held)
    assert train(fetch()) == BIG


def test_a_damaged_cache_is_mended(hub: Hub):
    path = fetch().folder / "data/train.parquet"
    blob = path.resolve()
    blob.chmod(0o644)
    blob.write_bytes(BIG[:-1] + b"!")
    said: list[str] = []
    assert train(fetch(said=said)) == BIG
    assert said[0] == "owner/words data/train.parquet: the cached file was damaged; fetching it again"


def test_the_hashes_are_those_of_git_and_of_large_file_storage(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"what is up, doc?")
    Announced(16, "bd9dbf5aae1a3862dd1526723246b20206e5fc37").check(tmp_path / "a", "a")  # the Git book's example
    (tmp_path / "b").write_bytes(b"abc")
    sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    Announced(3, sha256_of_abc).check(tmp_path / "b", "b")


# what cannot be had


def test_no_network(hub: Hub, waits: list[float]):
    snapshot = fetch()
    hub.down = True
    said: list[str] = []
    assert fetch(said=said) == snapshot
    assert said[-1] == "the hub cannot be reached: using owner/words as it was fetched before, at c0ffee00"
    assert waits == [1, 2]
    message = refused(EtudeError, ("README.md",))
    assert message.startswith(f"cannot reach {hub.url} for owner/words (")
    assert "check the network and HF_ENDPOINT, or give the path of a folder with the files" in message


def test_offline_by_choice(hub: Hub, waits: list[float], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    assert "cannot reach" in refused(EtudeError) and waits == []


@pytest.mark.parametrize(
    ("where", "answer", "message"),
    [
        (INFO, (403, "GatedRepo"), "the dataset owner/words is gated: accept its terms at {url}/datasets/owner/words"),
        (INFO, (401, "GatedRepo"), "the dataset owner/words is gated: accept its terms at"),
        (INFO, (401, ""), "refuses the dataset owner/words (401): log in with `hf auth login`, or set HF_TOKEN"),
        (FILE, (403, ""), "refuses the dataset owner/words (403): log in"),
        (FILE, (404, "EntryNotFound"), "data/train.parquet is listed and not there: the dataset has moved on"),
        (INFO, (404, "RepoNotFound"), "has no dataset 'owner/words', or it is private: check the name, or log in"),
    ],
)  # fmt: skip
def test_what_the_hub_refuses(hub: Hub, where: str, answer: tuple[int, str], message: str):
    hub.faults[where].append(hub.status(*answer))
    assert message.format(url=hub.url) in refused(UsageError)
    assert train(fetch()) == BIG  # nothing stands in the way of the next


def test_what_there_is_not(hub: Hub):
    assert refused(UsageError, ("data/trian.parquet",)) == (
        "owner/words at c0ffee00 has no file 'data/trian.parquet': did you mean 'data/train.parquet'? It has: "
        "README.md, data/train.parquet"
    )
    assert "no revision 'v9': give a branch, tag or commit" in refused(UsageError, revision="v9")
    with pytest.raises(UsageError, match="has no dataset 'owner/wrods', or it is private"):
        fetched("owner/wrods", ["*"])
    with pytest.raises(UsageError, match="'two words' is no name of a repository: give OWNER/NAME"):
        fetched("two words", ["*"])


def test_a_moved_revision_is_another_commit(hub: Hub):
    first = fetch()
    hub.commit, hub.files["data/train.parquet"] = "b" * 40, BIG[::-1]
    moved = fetch()
    assert moved.revision == "b" * 40 and train(moved) == BIG[::-1] and train(first) == BIG


def test_a_full_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patched:
        patched.setattr("etude.text.hub.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
        assert "owner/words needs 300 kB and the disk of" in refused(EtudeError)
        assert hub.gets("data/train.parquet") == []
    with monkeypatch.context() as patched:

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(hub_transfer, "_stream", full)
        message = refused(EtudeError)
        assert "is full; make room, or name another folder in HF_HOME: what came so far is kept" in message


def test_a_cache_that_cannot_be_written(hub: Hub, tmp_path: Path):
    (tmp_path / "home").write_text("a file where the folder should be")
    assert f"cannot keep owner/words in '{tmp_path}/home/hub' (" in refused(EtudeError)


@pytest.mark.parametrize("name", ["../../../mine", "/etc/passwd", "a//b", "a/./b", "c:\\b", "a/..", "x\\..\\y"])
def test_a_name_that_leads_out_of_the_cache_is_refused(hub: Hub, tmp_path: Path, name: str):
    mine = tmp_path / "mine"
    mine.write_text("not of the hub")
    hub.files[name] = b"bad"
    assert "does not answer as the hub does: check HF_ENDPOINT" in refused(DamagedError, ("*",))
    assert mine.read_text() == "not of the hub"


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert refused(UsageError) == "files of the hub need huggingface_hub: pip install 'etude[hub]'"


def test_patience_raises_what_no_wait_would_mend(waits: list[float]):
    error = ValueError("no")
    error.response = SimpleNamespace(status_code=404, headers={})  # type: ignore[attr-defined]
    with pytest.raises(ValueError):
        Patience("x", lambda _: None).after(error)
    assert waits == []
