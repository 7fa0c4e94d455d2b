"""Downloads, from a real HTTP server on this machine: whole, checked, once."""

import gzip
import hashlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fedn.datasets import cache as module
from fedn.datasets.cache import cache_folder, cached_file
from fedn.protocol.errors import FednError, IntegrityError, InvalidInput, Unavailable

CONTENT = b"the data set" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "file.gz"


class Server:
    """Answers GET /folder/file.gz with what `files` has, and counts."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {f"/good/{NAME}": gzip.compress(CONTENT)}
        self.gets: Counter[str] = Counter()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.gets[self.path] += 1
                if self.path == f"/moved/{NAME}":
                    self.send_response(302)
                    self.send_header("Location", f"/good/{NAME}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = outer.files.get(self.path)
                self.send_response(404 if body is None else 200)
                body = body or b""
                # Some servers call a .gz file an encoding; one here promises more than it sends.
                self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(body) + (10 if "/short/" in self.path else 0)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Not to stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server()
    yield running
    running.close()


def left_over(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "mnist"
    for _ in range(2):
        assert cached_file(folder, NAME, [f"{server.url}/good"], DIGEST) == CONTENT
    assert server.gets[f"/good/{NAME}"] == 1
    assert left_over(folder) == {NAME}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_redirect_is_followed(server: Server, tmp_path: Path) -> None:
    assert cached_file(tmp_path, NAME, [f"{server.url}/moved"], DIGEST) == CONTENT


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    server.files[f"/wrong/{NAME}"] = gzip.compress(b"something else")
    urls = [f"{server.url}/{folder}" for folder in ("missing", "wrong", "short", "good")]
    assert cached_file(tmp_path, NAME, urls, DIGEST) == CONTENT
    assert sum(server.gets.values()) == 4


@pytest.mark.parametrize(
    "body",
    [
        # Named: gzip writes the second of the clock into its bytes, and the tests' names would change with it.
        pytest.param(gzip.compress(b"something else"), id="another"),
        pytest.param(b"<html>", id="html"),
        pytest.param(gzip.compress(CONTENT)[:-1], id="cut"),
    ],
)
def test_what_is_not_the_data_set_is_never_kept(body: bytes, server: Server, tmp_path: Path) -> None:
    server.files[f"/wrong/{NAME}"] = body
    with pytest.raises(IntegrityError) as caught:
        cached_file(tmp_path, NAME, [f"{server.url}/wrong"], DIGEST)
    assert caught.value.code == "dataset_damaged"
    assert left_over(tmp_path) == set()


def test_what_ends_too_early_or_never_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_PACKED_BYTES", 20)
    server.files[f"/short/{NAME}"] = b"12345"
    for folder, reason in (("good", "more than 20 bytes"), ("short", "IncompleteRead"), ("missing", "status 404")):
        with pytest.raises(Unavailable, match=reason):
            cached_file(tmp_path, NAME, [f"{server.url}/{folder}"], DIGEST)
    assert left_over(tmp_path) == set()


def test_a_damaged_file_in_the_cache_is_replaced(server: Server, tmp_path: Path) -> None:
    for damage in (b"", b"half", gzip.compress(b"something else"), gzip.compress(CONTENT)[:-9]):
        (tmp_path / NAME).write_bytes(damage)
        assert cached_file(tmp_path, NAME, [f"{server.url}/good"], DIGEST) == CONTENT
    assert server.gets[f"/good/{NAME}"] == 4


def test_what_a_killed_process_left_is_removed(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".part-killed").write_bytes(b"half")
    cached_file(tmp_path, NAME, [f"{server.url}/good"], DIGEST)
    assert left_over(tmp_path) == {NAME}


def test_processes_that_start_at_once_download_once(server: Server, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from fedn.datasets.cache import cached_file;"
        "sys.stdin.read(1); print(len(cached_file(Path(sys.argv[1]), *sys.argv[2:3], sys.argv[3:4], sys.argv[4])))"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "cache"), NAME, f"{server.url}/good", DIGEST]
    children = [subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("x")
        child.stdin.flush()
    outputs = [child.communicate(timeout=120)[0] for child in children]
    assert outputs == [f"{len(CONTENT)}\n"] * 4
    assert server.gets[f"/good/{NAME}"] == 1
    assert left_over(tmp_path / "cache") == {NAME}


def test_a_cache_that_others_filled_is_read_without_writing(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(gzip.compress(CONTENT))
    assert cached_file(tmp_path, NAME, ["http://127.0.0.1:9"], DIGEST) == CONTENT
    assert left_over(tmp_path) == {NAME} and not (tmp_path / ".lock").exists()


def test_a_cache_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FednError, match="FEDN_DATASETS_CACHE") as caught:
        cached_file(tmp_path / "file", NAME, ["http://127.0.0.1:9"], DIGEST)
    assert caught.value.code == "dataset_cache_unusable"


@pytest.mark.parametrize("url", ["file:///etc", "ftp://host/x", "http://", "nonsense", "http://[1"])
def test_only_web_addresses_are_taken(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        cached_file(tmp_path, NAME, [url], DIGEST)
    assert caught.value.code == "bad_dataset_url"
    assert left_over(tmp_path) == set()


def test_the_cache_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder({}) == Path("/home/me/.cache/fedn/datasets")
    assert cache_folder({"XDG_CACHE_HOME": "relative"}) == Path("/home/me/.cache/fedn/datasets")
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/fedn/datasets")
    assert cache_folder({"XDG_CACHE_HOME": "/x", "FEDN_DATASETS_CACHE": "/y"}) == Path("/y")
