"""Download one file over HTTP: broken off at any point, it is taken up again where it stopped.

What has arrived lies in a ".part" file; a ".part.json" beside it keeps what the server said of the version it comes
from. Bytes are added only if the server still has that version (RFC 9110: Range, If-Range, Content-Range).
"""

import http.client
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import Request, urlopen

from rich.filesize import decimal

from dir_bench import __version__
from dir_bench.atomic import NO_ROOM, write_json
from dir_bench.datasets.download.archives import Report
from dir_bench.errors import DiskFull, UserError

log = logging.getLogger("dir_bench")

RETRY_WAITS = (1.0, 3.0, 10.0, 30.0)
"""Seconds before each new attempt within one call."""
TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as broken."""
CHUNK = 2**20

_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers that may be another one in a while."""


class _Broken(Exception):
    """This attempt failed and another one may not; the message says why."""


class _Unreachable(_Broken):
    """No connection at all: on the first attempt, a sign of no network rather than of a bad one."""


def download(url: str, part: Path, size: int | None, by_hand: str, report: Report) -> None:
    """Download `url` into `part`, going on from what `part` already holds.

    Args:
        url: An http or https address.
        part: Where the bytes go; with its sidecar it stays if the download fails, for the next call.
        size: Bytes of the published file, if known.
        by_hand: What a user can do who has to do without this download, as the end of a sentence.
        report: Is told of the progress.

    Raises:
        UserError: If the server has no such file, another one, or a web page in its place; if it cannot be reached, or
            the connection broke too often; if the disk is full.
    """
    for attempt in range(len(RETRY_WAITS) + 1):
        try:
            return _receive(url, part, size, by_hand, report)
        except _Broken as error:
            if isinstance(error, _Unreachable) and attempt == 0:
                raise UserError(
                    f"{url} cannot be reached ({error}): look at the network and its proxy, or {by_hand}"
                ) from error
            if attempt == len(RETRY_WAITS):
                raise UserError(
                    f"{url} broke off {attempt + 1} times (the last: {error}): what has arrived is kept in {part}, and "
                    f"fetching again goes on from there; or {by_hand}"
                ) from error
            log.warning("%s: %s; trying again in %g s", url, error, RETRY_WAITS[attempt])
            time.sleep(RETRY_WAITS[attempt])


def discard(part: Path) -> None:
    """Remove a ".part" file, if there is one, and what is known about it."""
    part.unlink(missing_ok=True)
    _sidecar(part).unlink(missing_ok=True)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise UserError if the disk of `folder`, which need not exist yet, has fewer free bytes than `needed`."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DiskFull(
            f"{what} needs {decimal(needed)} in {folder}, and {decimal(free)} are free there: free some space, or "
            "choose another data folder"
        )


def write_failure(error: OSError, path: Path, then: str) -> UserError:
    """Return the sentence for a file that could not be written; `then` says what became of it."""
    if error.errno in NO_ROOM:
        why, mend = NO_ROOM[error.errno]
        return DiskFull(f"{why}: {path} could not be written whole; {then}: {mend} and fetch again")
    return UserError(f"{path} cannot be written ({error.strerror or error}); {then}")


def _receive(url: str, part: Path, size: int | None, by_hand: str, report: Report) -> None:
    known = _known(part)
    offset = part.stat().st_size if known else 0
    if offset and offset == known["total"]:
        return
    resume = {"Range": f"bytes={offset}-", "If-Range": known["validator"]} if offset else {}
    with _open(url, resume, part, by_hand) as response:
        if response.status == 206:
            total = _continued_total(response, offset, known)
            if total is None:
                discard(part)
                raise _Broken("the file at the server has changed, or was continued at the wrong place")
        else:
            offset, total = 0, _number(response.headers["Content-Length"])
        if size is not None and total not in (None, size):
            raise UserError(
                f"{url} is not the published file, which has {size:,} bytes and not {total:,}: nothing was downloaded; "
                f"{by_hand}"
            )
        total = size if total is None else total
        require_space(part.parent, (total or 0) - offset, part.stem)
        try:
            with part.open("ab" if offset else "wb") as file:
                if not offset:  # only now that the old beginning is gone
                    write_json(_sidecar(part), {"validator": _validator(response), "total": total})
                while offset != total and (chunk := _next_bytes(response)):
                    file.write(chunk)
                    offset += len(chunk)
                    report(offset, total)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise write_failure(error, part, "what has arrived is kept") from error
    if total is not None and offset != total:
        raise _Broken(f"the connection ended after {offset:,} of {total:,} bytes")


def _open(url: str, headers: dict[str, str], part: Path, by_hand: str) -> Any:
    """Return the response that carries the file, past the page on which Google Drive asks to confirm a large one."""
    response = _request(url, headers, part, by_hand)
    if not _is_page(response):
        return response
    page = _Page.of(response)
    if page.confirmed is not None:
        response = _request(page.confirmed, headers, part, by_hand)
        if not _is_page(response):
            return response
        page = _Page.of(response)
    raise UserError(f"{url} answers with a web page{page.heading}, not with {part.stem}: {by_hand}")


def _request(url: str, headers: dict[str, str], part: Path, by_hand: str) -> Any:
    try:
        return urlopen(Request(url, headers={"User-Agent": f"dir-bench/{__version__}", **headers}), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # the file has become shorter than what we have
            discard(part)
        if error.code in _PASSING or error.code == 416:
            raise _Broken(f"the server answers {error.code} {error.reason}") from error
        raise UserError(
            f"{url} cannot be fetched (the server answers {error.code} {error.reason}): {by_hand}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise _Unreachable(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__) from error
    except ValueError as error:  # no scheme, or one that is unknown
        raise UserError(f"{url} is not a web address: it begins with http:// or https://") from error


def _next_bytes(response: Any) -> bytes:
    with _reading():
        received: bytes = response.read1(CHUNK)  # what is there now: if the connection breaks, nothing of it is lost
        return received


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"the connection broke ({error})") from error


def _continued_total(response: Any, offset: int, known: dict[str, Any]) -> int | None:
    """Return the size of the whole file if a partial answer goes on from our bytes; None if it must not be added."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers["Content-Range"] or "")
    if match is None or int(match[1]) != offset or known["total"] not in (None, int(match[2])):
        return None
    # Not every server heeds If-Range.
    return int(match[2]) if _validator(response) in (None, known["validator"]) else None


def _validator(response: Any) -> str | None:
    """Return what identifies the version of the file byte for byte: a strong ETag, else the date of its last change."""
    tag: str | None = response.headers["ETag"]
    date: str | None = response.headers["Last-Modified"]
    return tag if tag and not tag.startswith("W/") else date


def _known(part: Path) -> dict[str, Any]:
    """Return what the server said of the version in `part`; empty if nothing there can be continued."""
    try:
        known = json.loads(_sidecar(part).read_text(encoding="utf-8"))
        return known if part.is_file() and known["validator"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _sidecar(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _is_page(response: Any) -> bool:
    if response.headers.get_content_type() == "text/html":
        return True
    with _reading():
        start: bytes = response.peek(256).lstrip()[:20].lower()
    return bool(response.status == 200) and start.startswith((b"<!doctype html", b"<html"))


class _Page(HTMLParser):
    """What matters of a web page: its title, and where Google Drive's form to confirm a large download leads."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.title, self.action = url, "", ""
        self.fields: dict[str, str] = {}
        self._in_title = False

    @classmethod
    def of(cls, response: Any) -> "_Page":
        page = cls(response.url)
        with response, _reading():
            page.feed(response.read(CHUNK).decode(errors="replace"))
        return page

    @property
    def confirmed(self) -> str | None:
        return f"{urljoin(self.url, self.action)}?{urlencode(self.fields)}" if self.action else None

    @property
    def heading(self) -> str:
        title = " ".join(self.title.split())
        return f' ("{title}")' if title else ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self._in_title = tag == "title"
        if tag == "form" and named.get("id") == "download-form":
            self.action = named.get("action", "")
        elif tag == "input" and self.action and "name" in named:
            self.fields[named["name"]] = named.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
