"""A PACS that answers C-FIND, with the habits that PACS have."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
)
from pynetdicom.transport import ThreadedAssociationServer

MR: Final = "1.2.840.10008.5.1.4.1.1.4"
NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
_COUNTED: Final = (
    "ModalitiesInStudy",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
    "NumberOfSeriesRelatedInstances",
)
_UNIQUE: Final = {
    "STUDY": ("StudyInstanceUID",),
    "SERIES": ("StudyInstanceUID", "SeriesInstanceUID"),
    "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}
Answer = tuple[int, Dataset | None]


def study(
    uid: str, at: datetime = NOON, *, series: int = 2, instances: int = 3, **more: str
) -> list[Dataset]:
    """Make a study's instances, without pixels."""
    return [
        _dataset(
            PatientID="P1", PatientName="Esempio^Primo", IssuerOfPatientID="SITE", PatientSex="M",
            StudyInstanceUID=uid, StudyDate=f"{at:%Y%m%d}", StudyTime=f"{at:%H%M%S}",
            SeriesInstanceUID=f"{uid}.{s}", SeriesNumber=s, Modality="MR", SOPClassUID=MR,
            SOPInstanceUID=f"{uid}.{s}.{i}", InstanceNumber=i, SeriesDescription=f"series {s}",
            **more,
        )
        for s in range(1, series + 1)
        for i in range(1, instances + 1)
    ]  # fmt: skip


def many(count: int, every: timedelta = timedelta(minutes=10)) -> list[Dataset]:
    """Make studies of one instance, the latest an hour before noon."""
    begin = NOON - timedelta(hours=1)
    return [
        study(f"1.2.{number}", begin - number * every, series=1, instances=1)[0]
        for number in range(1, count + 1)
    ]


@dataclass
class FindScp:
    """Answers from what it holds.

    Parameters
    ----------
    limit, how
        With how many matching studies it does what: ``silent`` stops and says success,
        ``refused`` says A700H at once, ``ended`` stops and says FE00H, ``failed`` C001H at once.
    pending
        The status of an answer.
    ignored
        Keywords that it does not compare.
    missing
        Keywords that it does not return.
    refuses
        Status by level: what it answers there.
    image_limit
        With how many instances of a series it stops and says success.
    hides_series
        Whether it finds no series.
    twice
        Whether it gives each answer twice.
    needs_few_keys
        Whether it refuses keys that are not required, with A900H.
    dies_after
        Answers after which it aborts, once.
    """

    instances: list[Dataset] = field(default_factory=list)
    limit: int = 10**9
    how: str = "silent"
    pending: int = 0xFF00
    ignored: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    refuses: dict[str, int] = field(default_factory=dict)
    image_limit: int = 10**9
    hides_series: bool = False
    twice: bool = False
    needs_few_keys: bool = False
    dies_after: int | None = None
    calling: tuple[str, ...] = ()
    queries: list[Dataset] = field(default_factory=list)
    associations: int = 0
    cancelled: int = 0
    patience: threading.Event | None = None

    def asked(self, level: str) -> list[Dataset]:
        """The queries of one level."""
        return [one for one in self.queries if one.QueryRetrieveLevel == level]

    def find(self, event: evt.Event) -> Iterator[Answer]:
        """Handle C-FIND."""
        query = event.identifier
        self.queries.append(query)
        if self.patience is not None:
            self.patience.wait(30)
        level = query.QueryRetrieveLevel
        if level in self.refuses:
            yield self.refuses[level], None
            return
        if self.needs_few_keys and {"PatientSex", "SeriesDescription", "ImageType"} & set(
            query.dir()
        ):
            yield 0xA900, None
            return
        found = [] if level == "SERIES" and self.hides_series else self._found(query)
        most = self.image_limit if level == "IMAGE" else len(found)
        yield from self._limited(event, found[:most] * (1 + self.twice), level)

    def _limited(self, event: evt.Event, found: list[Dataset], level: str) -> Iterator[Answer]:
        is_over = level == "STUDY" and len(found) > self.limit
        if is_over and self.how in ("refused", "failed"):
            yield (0xA700 if self.how == "refused" else 0xC001), None
            return
        for number, one in enumerate(found[: self.limit] if is_over else found):
            if number == self.dies_after:
                self.dies_after = None
                event.assoc.abort()
                return
            if event.is_cancelled:
                self.cancelled += 1
                yield 0xFE00, None
                return
            yield self.pending, one
        if is_over and self.how == "ended":
            yield 0xFE00, None

    def _found(self, query: Dataset) -> list[Dataset]:
        unique = _UNIQUE[query.QueryRetrieveLevel]
        groups: dict[Any, list[Dataset]] = {}
        for one in self.instances:
            if self._matches(one, query):
                identity = tuple(one[key].value for key in unique)
                groups.setdefault((one.get("PatientID"), *identity), []).append(one)
        return [self._answer(group, query) for group in groups.values()]

    def _matches(self, one: Dataset, query: Dataset) -> bool:
        return all(
            _matches(str(one.get(element.keyword, "")), str(element.value), element.VR)
            for element in query
            if element.keyword not in {"QueryRetrieveLevel", "SpecificCharacterSet", *_COUNTED}
            and element.keyword not in self.ignored
            and element.value not in (None, "")
        )

    def _answer(self, group: list[Dataset], query: Dataset) -> Dataset:
        counted = {
            "ModalitiesInStudy": sorted({one.Modality for one in group}),
            "NumberOfStudyRelatedSeries": len({one.SeriesInstanceUID for one in group}),
            "NumberOfStudyRelatedInstances": len(group),
            "NumberOfSeriesRelatedInstances": len(group),
        }
        answer = Dataset()
        for element in query:
            keyword = element.keyword
            if keyword in self.missing:
                continue
            value = counted[keyword] if keyword in counted else group[0].get(keyword)
            setattr(answer, keyword, element.value if keyword == "QueryRetrieveLevel" else value)
        return answer


@contextmanager
def serving(pacs: FindScp, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Let it listen on loopback; yields the port."""
    entity = AE("PACS")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    entity.require_calling_aet = list(pacs.calling)

    def accepted(_: evt.Event) -> None:
        pacs.associations += 1

    handlers: list[Any] = [(evt.EVT_C_FIND, pacs.find), (evt.EVT_ACCEPTED, accepted)]
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls
    )
    assert isinstance(server, ThreadedAssociationServer)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def _matches(value: str, wanted: str, vr: str) -> bool:
    if vr in ("DA", "TM") and "-" in wanted:
        first, _, last = wanted.partition("-")
        return bool(value) and (not first or first <= value) and (not last or value <= last)
    return value == wanted


def _dataset(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset
