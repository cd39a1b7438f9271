"""When a study or a series started: which DICOM time says so, and whether it can be believed.

References
----------
PS3.3 C.7.2.1, C.7.3.1, C.12.1.1.8 "Timezone Offset From UTC" and (0028,0303) "Longitudinal Temporal
Information Modified" (2026b); PS3.15 E.3.6 and PS3.16 CID 7050 on de-identification methods.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, time, timedelta, timezone
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

from flute_sync.mapping import Remarks
from flute_sync.pseudonym_settings import PseudonymSettings
from flute_sync.study import Header, distinct, prevalent
from flute_sync.valuerep import Moment

_Source = Callable[[Header], Moment | None]

_TOLERANCE: Final = timedelta(hours=24)
_EASTERNMOST: Final = timezone(timedelta(hours=14))


def _of_study(header: Header) -> Moment | None:
    return header.study.started


def _of_series(header: Header) -> Moment | None:
    return header.series.started


def _acquired(header: Header) -> Moment | None:
    return header.series.acquired


def _content(header: Header) -> Moment | None:
    return header.series.content


class Started:
    """Chooses starts within one study, over all of whose headers offsets are compared."""

    def __init__(self, headers: Iterable[Header], remarks: Remarks) -> None:
        known = tuple(headers)
        self._remarks = remarks
        self._in_doubt = {
            source
            for group in ((_of_study, _of_series), (_acquired,), (_content,))
            if len({offset for source in group for offset in _offsets(known, source)}) > 1
            for source in group
        }

    def of_study(self, headers: Mapping[Header, int]) -> Moment | None:
        """Return Study Date and Time, else the first of series, acquisition or content."""
        stated = prevalent(headers, _of_study)
        if stated is not None:
            return self._settled(stated, _of_study)
        for source, tag in (
            (_of_series, "(0008,0021)"),
            (_acquired, "(0008,002A)"),
            (_content, "(0008,0023)"),
        ):
            if (first := _first(headers, source)) is not None:
                self._remarks.add("started-substituted", tag)
                return self._settled(first, source)
        return None

    def of_series(self, headers: Mapping[Header, int]) -> Moment | None:
        """Return Series Date and Time, else the first acquisition."""
        stated = prevalent(headers, _of_series)
        if stated is not None:
            return self._settled(stated, _of_series)
        first = _first(headers, _acquired)
        return None if first is None else self._settled(first, _acquired)

    def _settled(self, moment: Moment, source: _Source) -> Moment:
        if source not in self._in_doubt:
            return moment
        self._remarks.add("offset-conflict", "(0008,0201)")
        return replace(moment, utc_offset=None)


def _offsets(headers: Iterable[Header], source: _Source) -> frozenset[timedelta]:
    moments = distinct(headers, source)
    return frozenset(m.utc_offset for m in moments if m.utc_offset is not None)


def _first(headers: Iterable[Header], source: _Source) -> Moment | None:
    return min(distinct(headers, source), key=_order, default=None)


def _order(moment: Moment) -> tuple[object, ...]:
    return moment.date, moment.time or time.max, moment.utc_offset or timedelta()


def date_untrusted(
    started: Moment | None, headers: Mapping[Header, int], zone: ZoneInfo | None, now: datetime
) -> bool:
    """Say whether a date cannot be: before birth, or still to come.

    Parameters
    ----------
    now
        Aware; a start more than 24 hours after it cannot be.
    """
    if started is None:
        return False
    birth = prevalent(headers, lambda header: header.patient.birth_date)
    if birth is not None and started.date < birth:
        return True
    offset = timezone(started.utc_offset) if started.utc_offset is not None else None
    local = datetime.combine(started.date, started.time or time.min, offset or zone or _EASTERNMOST)
    return local > now + _TOLERANCE


class Dating(StrEnum):
    """What an archive says of the dates in its instances."""

    KEPT = "kept"
    SHIFTED = "shifted"
    REMOVED = "removed"


_STATED: Final = {
    "UNMODIFIED": Dating.KEPT,
    "MODIFIED": Dating.SHIFTED,
    "REMOVED": Dating.REMOVED,
    "113106": Dating.KEPT,  # Retain Longitudinal Temporal Information Full Dates Option
    "113107": Dating.SHIFTED,  # ... Modified Dates Option
}


def datings(headers: Iterable[Header]) -> frozenset[Dating | None]:
    """Collect what is said of the dates of a study, by (0028,0303) and (0012,0064).

    More than one where instances differ, or contradict themselves; None where one says nothing.
    """
    return frozenset(one for header in headers for one in _datings(header))


def _datings(header: Header) -> frozenset[Dating | None]:
    stated = [header.patient.dates_modified or ""]
    stated += [code.value for code in header.patient.deidentification]
    return frozenset(_STATED[one] for one in stated if one in _STATED) or frozenset({None})


def other_days(headers: Iterable[Header], settings: PseudonymSettings) -> bool:
    """Say whether dates may not be compared with those of the clinical data.

    By default that is where the archive modified or removed them. Where clinical data are shifted
    as the archive's dates are, it is where the archive does not say that it shifted these.
    """
    found = datings(headers)
    if settings.dates != "shifted-alike":
        return not found <= {Dating.KEPT, None}
    silent: set[Dating | None] = {None} if settings.unmarked == "pseudonymised" else set()
    return not found <= {Dating.SHIFTED, *silent}


def is_shifted(headers: Iterable[Header], settings: PseudonymSettings) -> bool:
    """Say whether dates in FHIR are shifted, and the clinical data are said to be so alike."""
    alike = settings.dates == "shifted-alike" and Dating.SHIFTED in datings(headers)
    return alike or settings.dates == "shifted-here"
