"""Fetching, against a server on 127.0.0.1 that can be told to misbehave: nothing here leaves the machine."""

import errno
import hashlib
import io
import os
import shutil
import socket
import stat
import tarfile
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from filelock import FileLock

from dir_bench.datasets.download import transfer
from dir_bench.datasets.download.fetch import fetch
from dir_bench.datasets.download.remote import WEIGHTS, Remote
from dir_bench.datasets.faces.agedb import REMOTES as AGEDB
from dir_bench.datasets.faces.imdb_wiki import REMOTES as IMDB_WIKI
from dir_bench.datasets.faces.utk import REMOTES as UTK
from dir_bench.datasets.nyud2 import REMOTES as NYUD2
from dir_bench.datasets.sts_b import REMOTES as STS_B
from dir_bench.errors import UserError

CONTENT = np.random.default_rng(0).bytes(300_000)
HALF = 150_000


@dataclass
class Served:
    """One file of the server, and its scripted faults: `cut` is used up a request at a time."""

    content: bytes
    etag: str | None = '"one"'
    ranges: bool = True
    heeds_if_range: bool = True
    content_type: str = "application/octet-stream"
    cut: list[int] = field(default_factory=list)  # body bytes after which the connection is closed
    status: list[int] = field(default_factory=list)  # answers in place of the file


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    sent: int = 0


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()})
        self.server.requests.append(request)
        served = self.server.files.get(self.path) or self.server.files.get(unquote(urlsplit(self.path).path))
        if served is None or served.status:
            self.send_error(404 if served is None else served.status.pop(0))
            return
        start, wanted = 0, request.headers.get("range")
        same = not served.heeds_if_range or request.headers.get("if-range") == served.etag
        if wanted and served.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(served.content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
        else:
            self.send_response(200)
        body = served.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", served.content_type)
        if served.etag:
            self.send_header("ETag", served.etag)
        self.end_headers()
        request.sent = min(served.cut.pop(0), len(body)) if served.cut else len(body)
        self.wfile.write(body[: request.sent])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RETRY_WAITS", (0.0, 0.0))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def listing(folder: Path) -> list[str]:
    """Every file and folder below `folder`, but for the lock."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != ".fetch.lock")


def a_file(server: Server, **facts: Any) -> Remote:
    return Remote(f"{server.url}/faces.bin", "faces.bin", **facts)


def serve(server: Server, content: bytes = CONTENT, name: str = "faces.bin", **faults: Any) -> Served:
    server.files[f"/{name}"] = served = Served(content, **faults)
    return served


def a_tar(names: dict[str, bytes], mode: str = "w", special: tarfile.TarInfo | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if special is not None:
            tar.addfile(special)
    return buffer.getvalue()


def a_zip(names: dict[str, bytes], special: zipfile.ZipInfo | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in names.items():
            opened.writestr(name, content)
        if special is not None:
            opened.writestr(special, "/etc/passwd")
    return buffer.getvalue()


CROP = {"wiki_crop/wiki.mat": b"list", "wiki_crop/00/1.jpg": CONTENT[:5000]}
UNPACKED = ["wiki_crop", "wiki_crop/00", "wiki_crop/00/1.jpg", "wiki_crop/wiki.mat"]


def an_archive(server: Server, content: bytes, name: str = "wiki_crop.tar", **faults: Any) -> Remote:
    serve(server, content, name, **faults)
    return Remote(f"{server.url}/{name}", name, members=("wiki_crop/wiki.mat",))


def refused(remote: Remote, folder: Path, *words: str, **options: Any) -> str:
    """Fetch, and return the error's message: one sentence, which holds `words`."""
    with pytest.raises(UserError) as caught:
        fetch([remote], folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def test_file_arrives_whole_and_second_call_asks_nobody(server: Server, tmp_path: Path) -> None:
    serve(server)
    blob = hashlib.sha1(b"blob 300000\0" + CONTENT).hexdigest()
    remote = a_file(server, subfolder="raw", size=300_000, sha256=hashlib.sha256(CONTENT).hexdigest(), git_sha1=blob)
    place = tmp_path / "new" / "raw" / "faces.bin"
    assert fetch([remote], tmp_path / "new") == [f"faces.bin: fetched ({place})"]
    assert place.read_bytes() == CONTENT
    assert listing(tmp_path / "new") == ["raw", "raw/faces.bin"]
    assert fetch([remote], tmp_path / "new") == [f"faces.bin: already there ({place})"]
    assert len(server.requests) == 1


def test_broken_connection_is_resumed_without_sending_a_byte_twice(server: Server, tmp_path: Path) -> None:
    serve(server, cut=[HALF, 50_000])
    fetch([a_file(server)], tmp_path)
    assert (tmp_path / "faces.bin").read_bytes() == CONTENT
    assert [request.headers.get("range") for request in server.requests] == [None, "bytes=150000-", "bytes=200000-"]
    assert server.requests[1].headers["if-range"] == '"one"'
    assert sum(request.sent for request in server.requests) == len(CONTENT)
    assert listing(tmp_path) == ["faces.bin"]


def test_next_call_goes_on_where_the_last_one_gave_up(server: Server, tmp_path: Path) -> None:
    serve(server, cut=[HALF, 0, 0])
    refused(a_file(server), tmp_path, "broke off 3 times", "faces.bin.part", "fetching again goes on")
    assert listing(tmp_path) == ["faces.bin.part", "faces.bin.part.json"]
    fetch([a_file(server)], tmp_path)
    assert (tmp_path / "faces.bin").read_bytes() == CONTENT
    assert server.requests[-1].headers["range"] == "bytes=150000-"
    assert sum(request.sent for request in server.requests) == len(CONTENT)


def test_part_that_lacks_only_its_name_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "faces.bin.part").write_bytes(CONTENT)
    (tmp_path / "faces.bin.part.json").write_text('{"validator": "one", "total": 300000}')
    fetch([a_file(server, size=300_000)], tmp_path)
    assert listing(tmp_path) == ["faces.bin"]
    assert server.requests == []


@pytest.mark.parametrize("faults", [{"ranges": False}, {"etag": None}], ids=["no ranges", "no validator"])
def test_server_that_cannot_resume_is_asked_for_the_whole(
    server: Server, tmp_path: Path, faults: dict[str, Any]
) -> None:
    serve(server, cut=[HALF], **faults)
    fetch([a_file(server)], tmp_path)
    assert (tmp_path / "faces.bin").read_bytes() == CONTENT
    assert [request.sent for request in server.requests] == [HALF, len(CONTENT)]


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_changed_file_is_never_glued_to_an_old_beginning(server: Server, tmp_path: Path, heeds_if_range: bool) -> None:
    serve(server, cut=[HALF, 0, 0])
    refused(a_file(server), tmp_path, "broke off")
    changed = CONTENT[::-1]
    serve(server, changed, etag='"two"', heeds_if_range=heeds_if_range)
    fetch([a_file(server)], tmp_path)
    assert (tmp_path / "faces.bin").read_bytes() == changed


def test_file_that_became_shorter_is_started_anew(server: Server, tmp_path: Path) -> None:
    serve(server, cut=[HALF, 0, 0])
    refused(a_file(server), tmp_path, "broke off")
    serve(server, CONTENT[:1000], heeds_if_range=False)
    fetch([a_file(server)], tmp_path)
    assert (tmp_path / "faces.bin").read_bytes() == CONTENT[:1000]


def test_part_of_unknown_origin_is_not_continued(server: Server, tmp_path: Path) -> None:
    serve(server)
    (tmp_path / "faces.bin.part").write_bytes(b"from who knows where")
    fetch([a_file(server)], tmp_path)
    assert (tmp_path / "faces.bin").read_bytes() == CONTENT
    assert "range" not in server.requests[0].headers


def test_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    serve(server, status=[503, 429])
    fetch([a_file(server)], tmp_path)
    assert (tmp_path / "faces.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("facts", [{"sha256": "0" * 64}, {"git_sha1": "0" * 40}], ids=["sha256", "git"])
def test_wrong_hash_leaves_nothing(server: Server, tmp_path: Path, facts: dict[str, Any]) -> None:
    serve(server)
    refused(
        a_file(server, **facts),
        tmp_path,
        "is not the published file",
        "nothing of it was kept",
        str(tmp_path / "faces.bin"),
    )
    assert listing(tmp_path) == []


def test_wrong_size_is_seen_before_the_download(server: Server, tmp_path: Path) -> None:
    serve(server)
    refused(a_file(server, size=299_999), tmp_path, "299,999", "300,000", "nothing was downloaded")
    assert listing(tmp_path) == []


def test_missing_file_names_the_address_and_the_way_by_hand(server: Server, tmp_path: Path) -> None:
    refused(a_file(server), tmp_path, "404", f"{server.url}/faces.bin", f"put it at {tmp_path / 'faces.bin'}")
    assert listing(tmp_path) == []
    assert len(server.requests) == 1


def test_refused_connection_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/faces.bin"
        refused(Remote(url, "faces.bin"), tmp_path, "cannot be reached", os.strerror(errno.ECONNREFUSED), "proxy")
    assert listing(tmp_path) == []


def test_address_without_scheme_is_a_user_error(tmp_path: Path) -> None:
    refused(Remote("x", "faces.bin"), tmp_path, "not a web address", mirror="mirror.example/data")


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/zip"])
def test_web_page_in_place_of_an_archive_is_told(server: Server, tmp_path: Path, content_type: str) -> None:
    page = b"\n<!DOCTYPE html><html><head><title>Quota\n exceeded</title></head><body>Too many users</body></html>"
    remote = an_archive(server, page, "data.zip", content_type=content_type)
    refused(remote, tmp_path, '"Quota exceeded"', "web page", "browser", f"put it at {tmp_path / 'data.zip'}")
    assert listing(tmp_path) == []


def test_confirmation_form_of_google_drive_is_followed(server: Server, tmp_path: Path) -> None:
    page = b"""<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
        <form id="download-form" action="/download" method="get"><input type="submit" value="Download anyway"/>
        <input type="hidden" name="id" value="1W"><input type="hidden" name="confirm" value="t">
        <input type="hidden" name="uuid" value="a&amp;b"></form></body></html>"""
    serve(server, page, "uc", content_type="text/html", ranges=False, etag=None)
    serve(server, name="download?id=1W&confirm=t&uuid=a%26b", cut=[HALF])
    fetch([Remote(f"{server.url}/uc", "faces.bin")], tmp_path)
    assert (tmp_path / "faces.bin").read_bytes() == CONTENT
    assert [request.headers.get("range") for request in server.requests] == [None, None, *["bytes=150000-"] * 2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wiki_crop.tar", a_tar(CROP)),
        ("wiki_crop.tar.gz", a_tar(CROP, "w:gz")),
        ("wiki_crop.zip", a_zip(CROP)),
    ],
)
def test_archive_is_unpacked_and_removed(server: Server, tmp_path: Path, name: str, content: bytes) -> None:
    remote = an_archive(server, content, name)
    line = f"{name}: fetched ({tmp_path / 'wiki_crop' / 'wiki.mat'})"
    assert fetch([remote], tmp_path) == [line]
    assert listing(tmp_path) == UNPACKED
    assert (tmp_path / "wiki_crop/00/1.jpg").read_bytes() == CONTENT[:5000]
    assert fetch([remote], tmp_path) == [line.replace("fetched", "already there")]
    assert len(server.requests) == 1


def test_leading_folder_is_stripped_and_neighbours_are_left_alone(server: Server, tmp_path: Path) -> None:
    serve(server, a_zip({"data/": b"", "data/a/": b"", "data/a/x.png": b"x", "data/a.csv": b"new"}), "data.zip")
    (tmp_path / "own.csv").write_text("mine")
    (tmp_path / "a.csv").write_text("older")
    remote = Remote(f"{server.url}/data.zip", "data.zip", members=("a", "a.csv"), strip=1)
    fetch([remote], tmp_path)
    assert listing(tmp_path) == ["a", "a.csv", "a/x.png", "own.csv"]
    assert (tmp_path / "a.csv").read_text() == "older"


def test_of_a_whole_repository_one_folder_is_taken(server: Server, tmp_path: Path) -> None:
    files = {"repo-1a2b/data/images/1.jpg": b"one", "repo-1a2b/README.md": b"", "repo-1a2b/cnn/images/net.py": b""}
    serve(server, a_tar(files, "w:gz"), "repo.tar.gz")
    fetch(
        [Remote(f"{server.url}/repo.tar.gz", "repo.tar.gz", members=("images",), strip=2, only="data/images")], tmp_path
    )
    assert listing(tmp_path) == ["images", "images/1.jpg"]


def test_archive_brought_by_hand_is_taken_and_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "wiki_crop.tar").write_bytes(a_tar(CROP))
    fetch([Remote(f"{server.url}/none", "wiki_crop.tar", members=("wiki_crop/wiki.mat",))], tmp_path)
    assert listing(tmp_path) == [*UNPACKED[:1], "wiki_crop.tar", *UNPACKED[1:]]
    assert server.requests == []


TAR, ZIP = a_tar(CROP), a_zip(CROP)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wiki_crop.tar", TAR[:3000]),  # within a member
        ("wiki_crop.tar", TAR[:1024]),  # between two members, where tarfile sees nothing amiss
        ("wiki_crop.tar", TAR[:1200]),  # within a header
        ("wiki_crop.tar", b""),
        ("wiki_crop.tar", CONTENT),  # no tar at all
        ("wiki_crop.tar.gz", a_tar(CROP, "w:gz")[:-100]),
        ("wiki_crop.zip", ZIP[:-30]),
        ("wiki_crop.zip", ZIP[:200] + b"?" + ZIP[201:]),  # one byte of the content
    ],
)
def test_damaged_archive_leaves_nothing(server: Server, tmp_path: Path, name: str, content: bytes) -> None:
    refused(
        an_archive(server, content, name),
        tmp_path,
        name,
        "cut short or damaged",
        "nothing of it was kept",
        "fetch again",
    )
    assert listing(tmp_path) == []


def test_damaged_archive_brought_by_hand_is_kept_for_its_owner(server: Server, tmp_path: Path) -> None:
    (tmp_path / "wiki_crop.tar").write_bytes(TAR[:1024])
    refused(an_archive(server, TAR), tmp_path, "cut short", "remove it and fetch again")
    assert listing(tmp_path) == ["wiki_crop.tar"]


def test_process_killed_while_unpacking_costs_no_second_download(server: Server, tmp_path: Path) -> None:
    remote = an_archive(server, TAR)
    (tmp_path / "wiki_crop.tar.part").write_bytes(TAR)
    (tmp_path / "wiki_crop.tar.part.json").write_text(f'{{"validator": "one", "total": {len(TAR)}}}')
    (tmp_path / ".wiki_crop.tar.part.unpacking" / "wiki_crop" / "00").mkdir(parents=True)
    fetch([remote], tmp_path)
    assert listing(tmp_path) == UNPACKED
    assert server.requests == []


def test_other_archive_than_the_published_one_leaves_nothing(server: Server, tmp_path: Path) -> None:
    refused(an_archive(server, a_tar({"b/c": b""})), tmp_path, "does not hold wiki_crop/wiki.mat")
    assert listing(tmp_path) == []


def a_special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo("wiki_crop/x")
    info.type, info.linkname = kind, target
    return info


def a_zip_link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("wiki_crop/x")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wiki_crop.tar", a_tar(CROP | {"../out": b"x"})),
        ("wiki_crop.tar", a_tar(CROP | {"wiki_crop/../../out": b"x"})),
        ("wiki_crop.tar", a_tar(CROP | {"/tmp/out": b"x"})),
        ("wiki_crop.tar", a_tar(CROP, special=a_special(tarfile.SYMTYPE, "/etc"))),
        ("wiki_crop.tar", a_tar(CROP, special=a_special(tarfile.SYMTYPE, "wiki.mat"))),
        ("wiki_crop.tar", a_tar(CROP, special=a_special(tarfile.LNKTYPE, "wiki_crop/wiki.mat"))),
        ("wiki_crop.tar", a_tar(CROP, special=a_special(tarfile.FIFOTYPE))),
        ("wiki_crop.tar", a_tar(CROP, special=a_special(tarfile.CHRTYPE))),
        ("wiki_crop.zip", a_zip(CROP | {"../out": b"x"})),
        ("wiki_crop.zip", a_zip(CROP | {"/tmp/out": b"x"})),
        ("wiki_crop.zip", a_zip(CROP | {"..\\out": b"x"})),
        ("wiki_crop.zip", a_zip(CROP | {"C:out": b"x"})),
        ("wiki_crop.zip", a_zip(CROP, special=a_zip_link())),
    ],
)
def test_member_that_could_leave_its_folder_is_refused(
    server: Server, tmp_path: Path, name: str, content: bytes
) -> None:
    folder = tmp_path / "data" / "wiki"
    refused(an_archive(server, content, name), folder, name, "which is not unpacked")
    assert listing(tmp_path) == ["data", "data/wiki"]


Usage = namedtuple("Usage", "total used free")


def test_disk_without_room_is_told_before_any_request(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 14_000_000_000))
    refused(IMDB_WIKI[2], tmp_path, "imdb_crop.tar needs 14.0 GB", "14.0 GB are free", mirror=server.url)
    assert server.requests == []
    # Each archive is removed once unpacked. The peak is the second beside its content and the first one's content:
    # 0.012 + 0.811 + 2 × 7.012157440 = 14.847 GB.
    with pytest.raises(UserError, match=r"needs 14\.8 GB"):
        fetch(IMDB_WIKI, tmp_path, mirror=server.url)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 14_850_000_000))
    with pytest.raises(UserError, match="404"):
        fetch(IMDB_WIKI, tmp_path, mirror=server.url)


def test_size_told_by_the_server_is_held_against_the_disk(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 299_999))
    refused(a_file(server), tmp_path, "faces.bin needs 300.0 kB")
    assert listing(tmp_path) == []


def test_full_disk_keeps_what_has_arrived(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            if self.tell() + len(content) > HALF:
                super().write(content[: HALF - self.tell()])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    serve(server)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, mode="r": Full(self, mode))
        refused(a_file(server), tmp_path, "disk is full", "faces.bin.part", "kept")
    assert listing(tmp_path) == ["faces.bin.part", "faces.bin.part.json"]
    fetch([a_file(server)], tmp_path)
    assert (tmp_path / "faces.bin").read_bytes() == CONTENT
    assert server.requests[-1].headers["range"] == "bytes=150000-"


def test_full_disk_while_unpacking_keeps_the_archive_only(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    remote = an_archive(server, TAR)
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "copyfileobj", full)
        refused(remote, tmp_path, "disk is full", "kept in", "wiki_crop.tar.part")
    assert listing(tmp_path) == ["wiki_crop.tar.part", "wiki_crop.tar.part.json"]
    fetch([remote], tmp_path)
    assert listing(tmp_path) == UNPACKED
    assert len(server.requests) == 1


def test_file_with_other_content_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    serve(server)
    (tmp_path / "faces.bin").write_text("mine")
    refused(a_file(server, size=300_000), tmp_path, "has 4 bytes", "left as it is")
    assert (tmp_path / "faces.bin").read_text() == "mine"
    assert server.requests == []


def test_half_an_unpacked_archive_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "wiki_crop" / "00").mkdir(parents=True)
    refused(an_archive(server, TAR), tmp_path, "exists without", "wiki.mat", "move it away")
    assert server.requests == []


def test_two_fetches_into_one_folder_do_not_mix(server: Server, tmp_path: Path) -> None:
    serve(server)
    with FileLock(tmp_path / ".fetch.lock"):
        refused(a_file(server), tmp_path, "another process")
    assert server.requests == []


def test_mirror_stands_in_for_every_directory(server: Server, tmp_path: Path) -> None:
    content = {f"data/{name}": b"x" for name in NYUD2[2].members}
    server.files["/deep/data.zip"] = Served(a_zip(content))
    fetch(NYUD2[2:], tmp_path, mirror=f"{server.url}/deep/")
    assert listing(tmp_path) == sorted(NYUD2[2].members)


def test_all_published_files_are_described_well() -> None:
    remotes = [remote for group in (AGEDB, IMDB_WIKI, UTK, NYUD2, STS_B, *WEIGHTS.values()) for remote in group]
    assert len(remotes) == 14
    for remote in remotes:
        assert remote.url.startswith("https://")
        assert remote.expected_size > 0
        assert len(remote.sha256 or "0" * 64) == 64
        assert len(remote.git_sha1 or "0" * 40) == 40


@pytest.mark.data
@pytest.mark.parametrize("remote", [*AGEDB, *NYUD2[:1], *STS_B[:3]], ids=lambda remote: remote.name)
def test_real_files_are_recognised_as_published(remote: Remote) -> None:
    data = Path(__file__).parents[4] / "shared" / "data"
    found = sorted(data.glob(f"*/{remote.name}"))
    if not found:
        pytest.skip(f"no {remote.name} in ../shared/data beside the checkout")
    assert fetch([remote], found[0].parent) == [f"{remote.name}: already there ({found[0]})"]
