"""What a person names to be fetched, as studies: one after the other, none held in memory.

A selector is a query, a reference, a UID, or a file: what ``criteria --json`` printed, or a
manifest.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from flute_sync.command_errors import InputUnreadable
from flute_sync.daemon.fetch_patience import Patience
from flute_sync.eligibility import Eligibility
from flute_sync.errors import PermanentError
from flute_sync.fetch_errors import SelectorUnusable
from flute_sync.fhir.retrievable import Retrievable
from flute_sync.retrieval import WantedStudy
from flute_sync.retrieval_manifest import studies as of_manifest
from flute_sync.terminology import OID
from flute_sync.valuerep import ILLEGAL, uid_problem

_QUERY: Final = "ImagingStudy?"
_LARGEST_DOCUMENT_BYTES: Final = 1 << 30
_LARGEST_LINE_BYTES: Final = 1 << 16

Refused = tuple[str, PermanentError]
"""What was named, and why it cannot be fetched."""


class Selecting:
    """Reads what a selector names from one FHIR server, as patiently as the run is.

    Parameters
    ----------
    verdicts
        Which results of a criterion are meant.
    """

    def __init__(
        self,
        fhir: Retrievable,
        base_url: str,
        patience: Patience,
        verdicts: frozenset[str] = frozenset({Eligibility.INCLUDED}),
    ) -> None:
        self._fhir, self._base_url, self._patience = fhir, base_url.rstrip("/"), patience
        self._verdicts = verdicts

    def studies(self, selector: str) -> Iterator[WantedStudy | Refused]:
        """Yield the studies that a selector names.

        Raises
        ------
        SelectorUnusable, InputUnreadable
            It names none, or its file cannot be read.
        """
        text = selector.removeprefix(f"{self._base_url}/")
        uid = text.removeprefix(OID)
        if text == _QUERY[:-1] or text.startswith(_QUERY):
            query = text[len(_QUERY) :]
            return self._read(self._patience.tried(lambda _failures: self._fhir.query(query)))
        if (known := self._fhir.local_id(text)) is not None:
            return self._read([known])
        if uid_problem(uid) != ILLEGAL and not Path(text).exists():
            return self._read(self._ids_of(uid))
        return self._of_file(Path(text))

    def _read(self, ids: Iterable[str]) -> Iterator[WantedStudy | Refused]:
        for one in ids:
            try:
                found = self._patience.tried(lambda _failures, one=one: self._fhir.study(one))  # type: ignore[misc]
                if found is None:
                    raise SelectorUnusable(f"there is no ImagingStudy/{one}")
                yield found
            except PermanentError as error:
                yield one, error

    def _ids_of(self, uid: str) -> list[str]:
        found = self._patience.tried(lambda _failures: self._fhir.of_uid(uid))
        if not found:
            raise SelectorUnusable("the FHIR server has no ImagingStudy of this study")
        return found

    def _of_file(self, path: Path) -> Iterator[WantedStudy | Refused]:
        try:
            file = path.open("rb")
        except OSError:
            raise SelectorUnusable("neither a query, a reference, a UID nor a file") from None
        with file:
            results = _results(file)
            if results is None:
                yield from of_manifest(_lines(file))
            else:
                yield from self._read(self._decided(results))

    def _decided(self, results: list[Any]) -> list[str]:
        """Return the ids of the studies that decided the results that are meant, each once.

        Who is excluded, or unknown, may have no study that decided it.
        """
        ids: dict[str, None] = {}
        for one in results:
            if not isinstance(one, dict) or str(one.get("verdict")) not in self._verdicts:
                continue
            if one.get("study") is not None or one["verdict"] == Eligibility.INCLUDED:
                ids.update(dict.fromkeys(self._named(one.get("study"))))
        return list(ids)

    def _named(self, study: object) -> list[str]:
        stated = study if isinstance(study, str) else ""
        known = self._fhir.local_id(stated)
        if known is not None:
            return [known]
        uid = stated.removeprefix(OID)
        if uid_problem(uid) == ILLEGAL:
            raise SelectorUnusable("an included result names no study")
        return self._ids_of(uid)


def _results(file: BinaryIO) -> list[Any] | None:
    """Return the results of a document of ``criteria``; None for JSON Lines, to be read anew."""
    # A manifest's first line is a whole object with an address; that of a document is not.
    first = file.readline(_LARGEST_LINE_BYTES)
    file.seek(0)
    if not first:
        return None  # the manifest of nothing
    try:
        head = orjson.loads(first)
    except orjson.JSONDecodeError:
        head = None
    if isinstance(head, dict) and "url" in head:
        return None
    try:
        found = orjson.loads(file.read(_LARGEST_DOCUMENT_BYTES))
    except orjson.JSONDecodeError:
        found = None
    results = found.get("results") if isinstance(found, dict) else None
    if not isinstance(results, list):
        raise InputUnreadable("the file is neither a criteria result nor a manifest")
    return results


def _lines(file: BinaryIO) -> Iterator[object]:
    while line := file.readline(_LARGEST_LINE_BYTES):
        if not line.strip():
            continue
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError:
            raise SelectorUnusable("a line of the manifest is not JSON, or too long") from None
