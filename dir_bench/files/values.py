"""Text, JSON and YAML: read with limits, to plain values, building nothing; and shown so that it steers no terminal.

A folder of somebody else may hold anything under the names that we expect, a billion laughs among them. Each of these
is a `Damaged` that says which file and why.
"""

import json
import os
import re
import stat
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from dir_bench.errors import UserError
from dir_bench.files.plain import NotThere, read_plain

MOST_BYTES = 4 * 2**20
"""Of a text file, unless its reader allows another size."""
MOST_DEPTH = 50
"""Of nested lists and mappings."""

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_REFUSED = (ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError)
"""What PyYAML raises beside its own errors, where a tag meets a value that it is not for."""

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_UNSEEN_IN_LINES = re.compile(_UNSEEN.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


class Damaged(UserError):
    """A file is not what it should be: `reason` is a phrase that begins with its name."""

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path, self._said = Path(path), reason
        self.reason = visible(f"{self.path.name}{reason}" if reason.startswith(":") else f"{self.path.name} {reason}")
        super().__init__(f"{visible(str(self.path.parent))}: {self.reason}")

    def of(self, path: Path | str) -> "Damaged":
        """Return the same said of another path."""
        return Damaged(path, self._said)

    def __reduce__(self) -> tuple[type["Damaged"], tuple[Path, str]]:
        return Damaged, (self.path, self._said)


def visible(text: str, *, lines: bool = False) -> str:
    """Return text whose control characters, which could steer a terminal or hide in a page, are written as escapes.

    These are the controls of ASCII and Latin-1, marks of no width and of direction, and lone surrogates (bytes of a
    file's name that are no text).

    Args:
        text: Anything.
        lines: Whether ends of lines and tabs stay.
    """
    return (_UNSEEN_IN_LINES if lines else _UNSEEN).sub(lambda m: m[0].encode("unicode_escape").decode(), text)


def visible_in_json(text: str) -> str:
    """Return JSON that says the same without such characters."""
    return _UNSEEN_IN_LINES.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


def read_bytes(path: Path | str, most: int = MOST_BYTES) -> bytes:
    """Return the content of a plain file.

    Raises:
        NotThere: If there is none.
        Damaged: If it is something else than a file, has more than `most` bytes, or cannot be read.
    """
    try:
        content = _read_at_once(path, most)
        return read_plain(Path(path), most) if content is None else content
    except NotThere:
        raise
    except UserError as error:
        raise Damaged(path, fault_of(path, error)) from error


def _read_at_once(path: Path | str, most: int) -> bytes | None:
    """Return what `read_plain` would where nothing is amiss, in a third of its time: a table reads 20,000 files."""
    try:
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError):
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            return None
        content = os.read(descriptor, found.st_size)
        return content if len(content) == found.st_size else None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def fault_of(path: Path | str, error: UserError) -> str:
    """Return what an error says of a file, without the file's path before it."""
    return str(error).removeprefix(str(path)).lstrip()


def read_text(path: Path | str, most: int = MOST_BYTES) -> str:
    """Return the content of a UTF-8 file; see `read_bytes`."""
    return _decoded(path, read_bytes(path, most))


def read_json(path: Path | str, content: bytes | None = None) -> Any:
    """Return what a JSON file says; see `read_bytes`.

    Refused too, though Python's reader takes them: a key that comes twice, NaN and infinities.

    Args:
        path: Of the file.
        content: Its bytes, if they were read already.
    """
    text = _decoded(path, read_bytes(path) if content is None else content)
    try:
        return _JSON.decode(text)
    except RecursionError:
        raise Damaged(path, "cannot be read (it is nested too deeply)") from None
    except ValueError as error:
        raise Damaged(path, f"cannot be read as JSON ({_short(error)})") from error


def read_yaml(path: Path | str, content: bytes | None = None) -> Any:
    """Return what a YAML file says, as dict, list, str, int, float, bool and None; see `read_bytes`.

    No tag builds anything. Aliases, which can stand for more than a memory holds and which nothing of ours writes, are
    refused, and so is a key that comes twice.

    Args:
        path: Of the file.
        content: Its bytes, if they were read already.
    """
    import yaml

    text = _decoded(path, read_bytes(path) if content is None else content)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"an alias, *{event.anchor}")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_DEPTH:
                raise ValueError(f"more than {MOST_DEPTH} levels")
        return yaml.load(text, Loader=_plain_loader())
    except (
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        ArithmeticError,
        RecursionError,
        yaml.YAMLError,
    ) as error:
        raise Damaged(path, f"cannot be read as YAML ({_short(error)})") from error


@cache
def _plain_loader() -> Any:
    """Return PyYAML's safe loader less what is no plain value; of two equal keys it lets none win."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            value = super().construct_mapping(node, deep)
            if len(value) < len(node.value):
                raise ValueError(f"a key comes twice in line {node.start_mark.line + 1} or after it")
            return value

    plain = ("null", "bool", "int", "float", "str", "seq", "map")
    made = base.yaml_constructors.items()
    Loader.yaml_constructors = {tag: make for tag, make in made if tag is None or tag.rpartition(":")[2] in plain}
    Loader.add_constructor("tag:yaml.org,2002:timestamp", base.construct_yaml_str)  # 2024-01-01 is a name here
    return Loader


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key comes twice")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
"""Made once: `json.loads` would make one for each of a table's thousands of files."""


def _decoded(path: Path | str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(path, f"is no UTF-8 text (byte {error.start})") from error


def _short(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]
