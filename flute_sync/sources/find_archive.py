"""The archive as we read it by C-FIND: series, and instances where it tells of them.

References
----------
PS3.4 C.4.1 and C.6.2 (2026b).
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Final

from flute_sync.archive_errors import (
    ArchiveCapabilityMissing,
    ArchiveQueryRefused,
    ArchiveRefused,
    ArchiveServerError,
)
from flute_sync.dicom_errors import HeaderError
from flute_sync.intake import Refused, Stated
from flute_sync.sources import header_tags as tags
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dicom_json import stated_from_json, uid_in
from flute_sync.sources.find_client import FindClient, FindSession
from flute_sync.sources.find_rows import INSTANCES_OF_SERIES, Level
from flute_sync.sources.find_search import study_row
from flute_sync.sources.find_windows import Window
from flute_sync.sources.peer import Json
from flute_sync.sources.reading import ReadResult, Verdict
from flute_sync.sources.search import StudyRow, count
from flute_sync.sources.study_reading import Attributes, gather, of_every_patient, require_legal
from flute_sync.study import SeriesInstanceUID, SOPInstanceUID, StudyInstanceUID

_OUT_OF_RESOURCES: Final = 0xA7
_ROUND: Final = 100
_SAMPLED_DAYS: Final = (1, 30)
_MOST_REMEMBERED: Final = 1000


class FindArchive:
    """Reads one archive; safe to use from several threads. See `ArchiveReader`.

    Parameters
    ----------
    clock
        Aware, UTC.
    """

    def __init__(
        self,
        settings: ArchiveSettings,
        client: FindClient,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings
        self._client = client
        self._clock = clock
        self._short_of_resources: set[StudyInstanceUID] = set()

    @property
    def name(self) -> str:
        """The archive's name."""
        return self.settings.name

    def close(self) -> None:
        """Do nothing: associations end with what they were opened for."""

    def probe(self) -> Verdict:
        """Ask for a study of these days, and whether instances are told of; see `ArchiveReader`.

        ``metadata`` is whether they are.
        """
        with self._client.session() as session:
            sample = self._sample(session)
            if sample is None:
                return Verdict(search=True, metadata=None)
            reading = _Reading(session, sample, self._client.settings.max_answers)
            received, _ = gather(sample.study_instance_uid, reading.instances())
            return Verdict(search=True, metadata=bool(received))

    def counts(self, study_instance_uid: StudyInstanceUID) -> StudyRow | None:
        """Look up what the archive says of a study; None when it does not find it."""
        require_legal(study_instance_uid)
        return study_row(self._client.answers, study_instance_uid, self._clock())

    def content(
        self,
        study_instance_uid: StudyInstanceUID,
        series_instance_uid: SeriesInstanceUID,
        sop_instance_uid: SOPInstanceUID,
    ) -> None:
        """Tell nothing: C-FIND has no sequences of an instance; see `ArchiveReader`."""

    def read(self, study_instance_uid: StudyInstanceUID) -> ReadResult | None:
        """Read a study, of each series the instances where they are told; see `ArchiveReader`.

        None only when the archive said success and that nothing matches. An archive that is short
        of resources for a series' instances is tried again once, then taken to tell of none.
        """
        require_legal(study_instance_uid)
        started_at = self._clock()
        with self._client.session() as session:
            row = study_row(session.answers, study_instance_uid, started_at)
            if row is None:
                return None
            patient = study_instance_uid not in self._short_of_resources
            reading = _Reading(session, row, self._client.settings.max_answers, patient=patient)
            try:
                received, refused = gather(study_instance_uid, reading.instances())
            except ArchiveQueryRefused:
                self._remember(study_instance_uid)
                raise
            except ArchiveRefused as refusal:
                raise ArchiveCapabilityMissing(refusal.detail) from refusal
        refused += tuple(reading.refused)
        if not (received or refused or reading.stated):
            raise ArchiveServerError("it knows the study and returns nothing of it")
        self._short_of_resources.discard(study_instance_uid)
        return ReadResult(
            received,
            refused,
            row,
            started_at,
            "c-find series" if reading.stated else "c-find",
            tuple(reading.stated),
        )

    def _remember(self, study_instance_uid: StudyInstanceUID) -> None:
        if len(self._short_of_resources) >= _MOST_REMEMBERED:
            self._short_of_resources.clear()
        self._short_of_resources.add(study_instance_uid)

    def _sample(self, session: FindSession) -> StudyRow | None:
        now = self._clock()
        for days in _SAMPLED_DAYS:
            window = Window((now - timedelta(days=days)).date(), None)
            with closing(session.answers(Level.STUDY, window.match)) as answers:
                uid = uid_in(next(answers, None), tags.STUDY_INSTANCE_UID)
            if uid is not None:
                return study_row(session.answers, StudyInstanceUID(uid), now)
        return None


class _Reading:
    """One reading of one study; what is no instance is left in ``stated`` and ``refused``.

    Parameters
    ----------
    patient
        Whether a shortage of resources ends it, in the hope of another time.
    """

    def __init__(
        self, session: FindSession, row: StudyRow, most: int, *, patient: bool = False
    ) -> None:
        self.stated: list[Stated] = []
        self.refused: list[Refused] = []
        self._session = session
        self._uid = row.study_instance_uid
        self._studies = of_every_patient(row)
        self._most = most
        self._patient = patient
        self._is_refused = False

    def instances(self) -> Iterator[Attributes]:
        """Yield what is said of each instance, its series and its study."""
        match = {tags.STUDY_INSTANCE_UID: self._uid}
        for series in list(self._session.answers(Level.SERIES, match)):
            uid = uid_in(series, tags.SERIES_INSTANCE_UID)
            if uid is None or uid_in(series, tags.STUDY_INSTANCE_UID) not in (None, self._uid):
                yield series, next(self._studies)  # to be refused, or left out
                continue
            rows = self._rows(uid)
            if self._is_told(series, rows):
                for row in rows:
                    yield row, series, next(self._studies)
            else:
                self._state(series, len(rows))

    def _rows(self, series_instance_uid: str) -> list[Json]:
        if self._is_refused:
            return []
        match = {
            tags.STUDY_INSTANCE_UID: self._uid,
            tags.SERIES_INSTANCE_UID: series_instance_uid,
        }
        own = (None, series_instance_uid)
        try:
            return [
                row
                for row in self._session.answers(Level.IMAGE, match)
                if uid_in(row, tags.SERIES_INSTANCE_UID) in own
            ]
        except ArchiveQueryRefused as refusal:
            if self._patient and refusal.status >> 8 == _OUT_OF_RESOURCES:
                raise
        except (ArchiveRefused, ArchiveCapabilityMissing):
            pass  # the study was found by the same service: it is the level that is not taken
        self._is_refused = True
        return []

    def _is_told(self, series: Json, rows: list[Json]) -> bool:
        """Tell whether the rows of a series are its instances, and all of them."""
        stated = count(series, f"{INSTANCES_OF_SERIES:08X}") or 0
        is_cut = len(rows) >= self._most or len(rows) % _ROUND == 0
        if len(rows) < stated and is_cut:
            return False
        return any(uid_in(row, tags.SOP_CLASS_UID) for row in rows)

    def _state(self, series: Json, seen: int) -> None:
        stated = count(series, f"{INSTANCES_OF_SERIES:08X}")
        if stated == 0 and not seen:
            return
        try:
            one = stated_from_json(
                series, next(self._studies), instance_count=stated or seen or None
            )
        except HeaderError as error:
            self.refused.append(Refused(self._uid, error.code, error.tag))
        else:
            self.stated.append(one)
