"""Downloads from a real HTTP server on the loopback interface, with ranges, broken connections and wrong content."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shunter.scheduler.errors import OutputError, UsageError
from shunter.traces import catalogue
from shunter.traces.catalogue import CATALOGUE, find
from shunter.traces.fetch import ATTEMPTS, FetchError, fetch

CONTENT = gzip.compress(b"; MaxProcs: 4\n" + b"".join(b"%d 2 3\n" % i for i in range(60_000)), mtime=0)


@dataclass
class Server:
    """What the server does, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    break_after: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        state, wanted = self.state, self.headers.get("Range")
        state.asked.append(wanted)
        if not self.path.endswith(".swf.gz"):
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
        if start >= len(state.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(state.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = state.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
        self.end_headers()
        self.wfile.write(body[: state.break_after.pop(0)] if state.break_after else body)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    handler = type("Bound", (Handler,), {"state": state})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_port}/log.swf.gz"
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_a_download_and_its_repetition(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    place = fetch("log", tmp_path / "new", url=server.url, progress=lambda done, total: seen.append((done, total)))
    assert place == tmp_path / "new" / "log.swf.gz"
    assert place.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch("log", tmp_path / "new", url=server.url) == place
    assert len(server.asked) == 1  # the second call found the file
    assert [p.name for p in place.parent.iterdir()] == ["log.swf.gz"]


def test_a_broken_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.break_after = [10_000, 5_000]
    place = fetch("log", tmp_path, url=server.url)
    assert place.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=10000-", "bytes=15000-"]


def test_an_interrupted_download_is_resumed_by_the_next_run(server: Server, tmp_path: Path) -> None:
    server.break_after = [10_000] + [0] * (ATTEMPTS - 1)
    with pytest.raises(
        FetchError, match=r"broke after 10,000 bytes \(.* are missing\); run the same command to resume"
    ):
        fetch("log", tmp_path, url=server.url)
    assert [p.name for p in tmp_path.iterdir()] == ["log.swf.gz.partial"]
    assert fetch("log", tmp_path, url=server.url).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=10000-"
    assert [p.name for p in tmp_path.iterdir()] == ["log.swf.gz"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "log.swf.gz.partial").write_bytes(b"something else")
    assert fetch("log", tmp_path, url=server.url).read_bytes() == CONTENT


def test_a_partial_file_that_is_complete(server: Server, tmp_path: Path) -> None:
    (tmp_path / "log.swf.gz.partial").write_bytes(CONTENT)
    assert fetch("log", tmp_path, url=server.url).read_bytes() == CONTENT


def test_a_partial_file_longer_than_the_file_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "log.swf.gz.partial").write_bytes(CONTENT + b"more")
    assert fetch("log", tmp_path, url=server.url).read_bytes() == CONTENT


def test_wrong_content_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    name = "KTH-SP2-1996-2.1-cln"
    digest = hashlib.sha256(gzip.decompress(CONTENT)).hexdigest()
    with pytest.raises(FetchError, match=rf"wrong content: expected SHA-256 fba3.*, got {digest}; .*--no-verify"):
        fetch(name, tmp_path, url=server.url)
    assert list(tmp_path.iterdir()) == []
    place = fetch(name, tmp_path, url=server.url, verify=False)
    with pytest.raises(FetchError, match=r"wrong content: .* move it away and fetch again"):
        fetch(name, tmp_path, url=server.url)
    assert place.exists()  # a file that was there before is never removed


def test_a_page_instead_of_a_log(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-50]
    with pytest.raises(FetchError, match=r"not the expected file: .*truncated gzip file"):
        fetch("log", tmp_path, url=server.url)
    assert list(tmp_path.iterdir()) == []


def test_messages_without_a_network(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"answered 404 Not Found for http://127"):
        fetch("log", tmp_path, url=server.url.replace("log.swf.gz", "none"))
    with pytest.raises(
        FetchError, match=r"could not reach 127.0.0.1:9: .*; check the network or download http.* by hand"
    ):
        fetch("log", tmp_path, url="http://127.0.0.1:9/log.swf.gz")
    for url in ("ftp://x/y", "file:///etc/passwd", "nonsense"):
        with pytest.raises(UsageError, match="expected an address that starts with http"):
            fetch("log", tmp_path, url=url)
    with pytest.raises(UsageError, match=r"unknown log 'KTH-SP2'; did you mean 'KTH-SP2-1996-2\.1-cln'"):
        fetch("KTH-SP2", tmp_path)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        fetch("log", tmp_path / "file" / "sub", url=server.url)


def test_names_with_folders_stay_in_the_folder(server: Server, tmp_path: Path) -> None:
    place = fetch("log", tmp_path, url=server.url.replace("log.swf.gz", "%2e%2e%2fup.swf.gz"))
    assert place.parent == tmp_path


def test_hashes_of_the_catalogue(shared: Path) -> None:
    checked = 0
    for entry in CATALOGUE:
        path = shared / "swf" / f"{entry.name}.swf.gz"
        if entry.sha256 is not None and path.exists():
            assert hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == entry.sha256
            checked += 1
    assert checked >= 9


def test_the_catalogue() -> None:
    assert len({entry.name for entry in CATALOGUE}) == len(CATALOGUE)
    assert find("ricc-2010-2").url == f"{catalogue.ARCHIVE}/l_ricc/RICC-2010-2.swf.gz"
