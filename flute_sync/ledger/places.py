"""Where instances belong: the numbers of series and headers within studies that are locked.

A number is given out only for an instance or a statement that needs it, so that nothing is stored
that nothing refers to.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from flute_sync.intake import Received
from flute_sync.ledger.columns import HeaderStore, Stored
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.rows import StudyRow, chunks
from flute_sync.study import EXTRACTION_VERSION, Header, SeriesInstanceUID

Kind = tuple[SeriesInstanceUID, int]
"""What instances of one place have in common: the series, and the identity of their header."""
Place = tuple[int, int]
"""Number of the series, number of the header."""

_SERIES: Final = (
    "SELECT study_id, series_instance_uid, series FROM series WHERE series_instance_uid IN (?)"
)
_HEADERS: Final = (
    "SELECT study_id, digest, header FROM header WHERE study_id IN (?) AND digest IN (?)"
)
_ADD_SERIES: Final = "INSERT INTO series (study_id, series, series_instance_uid) VALUES (?, ?, ?)"
_ADD_HEADER: Final = (
    "INSERT INTO header (study_id, header, digest, extraction_version, text) VALUES (?, ?, ?, ?, ?)"
)


def kind_of(received: Received) -> Kind:
    """Return the kind of an instance."""
    return received.series_instance_uid, id(received.instance.header)


@dataclass(slots=True)
class Places:
    """The places in some studies: looked up for what arrives, and added for what is new."""

    driver: Driver
    headers: HeaderStore
    _series: dict[tuple[int, str], int] = field(default_factory=dict)
    _headers: dict[tuple[int, bytes], int] = field(default_factory=dict)
    _elsewhere: dict[str, set[int]] = field(default_factory=dict)
    _new_series: list[tuple[int, int, str]] = field(default_factory=list)
    _new_headers: list[tuple[object, ...]] = field(default_factory=list)
    _written: tuple[int, int] = (0, 0)

    def look_up(self, arriving: Iterable[tuple[StudyRow, Iterable[Received]]]) -> None:
        """Find the series and headers that are there; one instance of each kind is enough."""
        studies: set[int] = set()
        old: set[int] = set()
        uids: set[str] = set()
        digests: set[bytes] = set()
        for study, kinds in arriving:
            studies.add(study.id)
            if not study.is_new:
                old.add(study.id)
            for item in kinds:
                uids.add(item.series_instance_uid)
                digests.add(self.headers.store(item.instance.header).digest)
        self._find_series(studies, sorted(uids))
        for ids in chunks(sorted(old)):
            self._find_headers(ids, sorted(digests))

    def _find_series(self, studies: Collection[int], uids: Sequence[str]) -> None:
        for part in chunks(uids):
            for study_id, uid, number in self.driver.rows(_SERIES, list(part)):
                if study_id in studies:
                    self._series[study_id, uid] = number
                else:
                    self._elsewhere.setdefault(uid, set()).add(study_id)

    def _find_headers(self, studies: Sequence[int], digests: Sequence[bytes]) -> None:
        for part in chunks(digests):
            found = self.driver.rows(_HEADERS, list(studies), list(part))
            for study_id, digest, number in found:
                self._headers[study_id, digest] = number

    def find(self, study: StudyRow, received: Received) -> Place | None:
        """Return where an instance would belong, or None where its study has no such place."""
        number = self._series.get((study.id, received.series_instance_uid))
        digest = self.headers.store(received.instance.header).digest
        variant = self._headers.get((study.id, digest))
        return None if number is None or variant is None else (number, variant)

    def make(self, study: StudyRow, received: Received) -> Place:
        """Return where an instance belongs, giving out what its study does not have yet."""
        number = self._series.get((study.id, received.series_instance_uid))
        if number is None:
            number = self._give_series(study, received.series_instance_uid)
        stored = self.headers.store(received.instance.header)
        variant = self._headers.get((study.id, stored.digest))
        if variant is None:
            variant = self._give_header(study, stored)
        return number, variant

    def _give_series(self, study: StudyRow, uid: SeriesInstanceUID) -> int:
        study.last_series += 1
        study.series_count += 1
        self._series[study.id, uid] = study.last_series
        self._new_series.append((study.id, study.last_series, uid))
        return study.last_series

    def _give_header(self, study: StudyRow, stored: Stored) -> int:
        study.last_header += 1
        self._headers[study.id, stored.digest] = study.last_header
        row = (study.id, study.last_header, stored.digest, EXTRACTION_VERSION, stored.text)
        self._new_headers.append(row)
        return study.last_header

    def give_headers(self, study: StudyRow, headers: Sequence[Header]) -> list[int]:
        """Return the numbers of headers, giving out what the study does not have yet."""
        stored = [self.headers.store(header) for header in headers]
        unseen = {one.digest for one in stored if (study.id, one.digest) not in self._headers}
        self._find_headers([study.id], sorted(unseen))
        return [
            self._headers.get((study.id, one.digest)) or self._give_header(study, one)
            for one in stored
        ]

    def moved_from(self, *, all_are_new: bool = False) -> set[int]:
        """Return the other studies that have a series which is new here."""
        new = set(self._elsewhere) if all_are_new else {uid for _, _, uid in self._new_series}
        return set[int]().union(*(ids for uid, ids in self._elsewhere.items() if uid in new))

    def write(self) -> None:
        """Insert what was given out since the last time."""
        self.driver.run(_ADD_SERIES, self._new_series[self._written[0] :])
        self.driver.run(_ADD_HEADER, self._new_headers[self._written[1] :])
        self._written = len(self._new_series), len(self._new_headers)
