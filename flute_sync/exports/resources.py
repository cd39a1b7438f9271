"""The resources of a cut of an export, each with the name by which others refer to it."""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import orjson

from flute_sync.command_errors import InputMalformed, InputTooLarge, InputUnreadable
from flute_sync.criteria_evidence import name_of
from flute_sync.errors import FluteSyncError
from flute_sync.exports.files import CUT_BYTES, Cut, opened
from flute_sync.exports.json_text import DECODER, LARGEST_RESOURCE_CHARACTERS, texts
from flute_sync.fhir_elements import members, own_reference

Resource = Mapping[str, Any]
_MOST_NESTED: Final = 8
_UNSURE: Final = object()


class Named(NamedTuple):
    """A resource; ``name`` is ``Type/id``, ``alias`` another name that its Bundle gives it.

    Of one that was deleted nothing is known but its type, and in ``meta`` perhaps when.
    """

    resource: Resource
    name: str
    alias: str | None = None
    is_deleted: bool = False


class Page(NamedTuple):
    """A page of a search or a history: its own address, and that of the next one."""

    own: str | None
    following: str | None


def resources(cut: Cut) -> Iterator[Named | Page]:
    """Read a cut; Bundles are opened, within Bundles too.

    Raises
    ------
    InputUnreadable, InputMalformed, InputTooLarge
        It cannot be read, is no JSON, or holds something that is no resource. What is damaged is
        never left out: who lost an MRI by it would be excluded.
    """
    with opened(cut.path) as file:
        try:
            read = _lines(file, cut) if cut.is_lines else _texts(file, cut)
            yield from read
        except OSError as error:
            raise InputUnreadable(f"{cut.path.name}: {error.strerror}") from error
        except _Unfit as error:
            where = error.where.replace(f"{cut.path}, ", "")
            raise error.kind(f"{cut.path.name}, {where}: {error.why}") from None
        except (InputMalformed, InputTooLarge) as error:
            raise type(error)(f"{cut.path.name}: {error.detail}") from None


class _Unfit(Exception):
    def __init__(
        self, kind: type[FluteSyncError], where: str, why: str, at: int | None = None
    ) -> None:
        self.kind, self.where, self.why, self.at = kind, where, why, at


def _lines(file: BinaryIO, cut: Cut) -> Iterator[Named | Page]:
    at = cut.start
    try:
        for at, line in _whole_lines(file, cut):
            stripped = line.strip().removeprefix(b"\xef\xbb\xbf")
            if stripped:
                where = f"{cut.path}, the line at byte {at}"
                yield from _named(_loads(stripped, where), where, 0)
    except _Unfit as error:
        begins = at if error.at is None else error.at
        error.where = f"line {_number(file, begins)}, {error.where}"
        raise


def _whole_lines(file: BinaryIO, cut: Cut) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that begin in a cut, each with where it begins."""
    at = cut.start
    if at:
        file.seek(at - 1)
        at += len(_line(file, at)) - 1  # the line that began before this cut is another's
    if at >= cut.end:
        return
    block = file.read(cut.end - at)
    last = at + block.rfind(b"\n", 0, -1) + 1
    if not block.endswith(b"\n"):
        block += _line(file, last)
    for line in block.split(b"\n"):
        yield at, line
        at += len(line) + 1


def _line(file: BinaryIO, at: int) -> bytes:
    line = file.readline(LARGEST_RESOURCE_CHARACTERS + 1)
    if len(line) > LARGEST_RESOURCE_CHARACTERS:
        raise _Unfit(InputTooLarge, f"the line at byte {at}", "a resource", at)
    return line


def _number(file: BinaryIO, at: int) -> int:
    """Return which line begins at a byte; the first is 1."""
    file.seek(0)
    number = 1
    while at > 0 and (block := file.read(min(at, CUT_BYTES))):
        number += block.count(b"\n")
        at -= len(block)
    return number


def _loads(line: bytes, where: str) -> object:
    try:
        found = _fast(line)
        return DECODER.decode(line.decode("utf-8")) if found is _UNSURE else found
    except (ValueError, RecursionError):
        raise _Unfit(InputMalformed, where, "it is not JSON in UTF-8") from None


def _fast(line: bytes) -> object:
    """Read a line, unless its digits matter, or it may be JSON that orjson does not take."""
    try:
        return _UNSURE if b"performedAge" in line else orjson.loads(line)
    except orjson.JSONDecodeError:
        return _UNSURE


def _texts(file: BinaryIO, cut: Cut) -> Iterator[Named | Page]:
    for number, text in enumerate(texts(file), 1):
        where, count = f"{cut.path}, JSON text {number}", 0
        for part in text:
            if set(part) == {"entry"}:
                count += 1
                yield from _entry(part["entry"], f"entry {count} of {where}", 0)
            elif part.get("resourceType") != "Bundle":
                yield from _named(part, where, 0)
            elif "entry" in part:
                raise _Unfit(InputMalformed, where, "its entry is no list")
            else:
                yield _page(part)


def _page(bundle: Resource) -> Page:
    at = {one.get("relation"): one.get("url") for one in members(bundle.get("link"))}
    return Page(_address(at.get("self")), _address(at.get("next")))


def _address(url: object) -> str | None:
    """Return a page's address so that it is alike wherever it stands: servers order its query."""
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return repr((parts.path, sorted(parse_qsl(parts.query, keep_blank_values=True))))


def _named(
    resource: object, where: str, depth: int, address: str | None = None
) -> Iterator[Named | Page]:
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if not isinstance(resource, dict) or not isinstance(kind, str):
        raise _Unfit(InputMalformed, where, "it is no FHIR resource")
    if kind == "Bundle":
        entries = resource.get("entry", [])
        if depth >= _MOST_NESTED or not isinstance(entries, list):
            raise _Unfit(InputMalformed, where, "a Bundle in it is malformed")
        for number, entry in enumerate(entries, 1):
            yield from _entry(entry, f"entry {number} of {where}", depth + 1)
        yield _page(resource)
        return
    stated = name_of(address)
    own = own_reference(resource)
    if not (stated or "").isprintable() or not (own or "").isprintable():
        raise _Unfit(InputMalformed, where, "its id holds what no id may")
    alias = stated if stated is not None and own is not None and stated != own else None
    yield Named(resource, own or stated or f"{kind} without an id ({where})", alias)


def _entry(entry: object, where: str, depth: int) -> Iterator[Named | Page]:
    if not isinstance(entry, dict):
        raise _Unfit(InputMalformed, where, "it is no entry of a Bundle")
    if "resource" in entry:
        address = entry.get("fullUrl")
        yield from _named(
            entry["resource"], where, depth, address if isinstance(address, str) else None
        )
        return
    request, response = (_object(entry.get(name)) for name in ("request", "response"))
    name = name_of(request.get("url")) if request.get("method") == "DELETE" else None
    if name is not None:
        meta = {"lastUpdated": response.get("lastModified", "")}
        kind = name.partition("/")[0]
        yield Named({"resourceType": kind, "meta": meta}, name, is_deleted=True)


def _object(value: object) -> Resource:
    return value if isinstance(value, dict) else {}
