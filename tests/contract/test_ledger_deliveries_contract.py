"""Any order and any repetition of deliveries, from any source and archive: one resource."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flute_sync.identity import PatientSettings, identify
from flute_sync.imaging_study import ImagingStudySettings, map_study, to_json
from flute_sync.intake import Delivery, Noticed, Performed, Received, Stated, StepStatus
from flute_sync.ledger import Claim, Snapshot
from flute_sync.patient_errors import IdentityError
from flute_sync.study import (
    Code,
    Header,
    Instance,
    KeyObjects,
    PatientAttributes,
    PatientId,
    Reference,
    SeriesAttributes,
    SeriesInstanceUID,
    SOPInstanceUID,
    Study,
    StudyAttributes,
)
from flute_sync.task import State
from tests.contract.ledger_site import STUDY, Site, synced
from tests.studies import context

MR, KO = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.88.59"
MPPS = "1.2.840.10008.3.1.2.3.3"
NOTES = ("113001", "113037", "113038", "113039", "113000")
TABLES = (
    "fhir_study",
    "event",
    "instance",
    "stated_series",
    "foreign_note",
    "procedure_step",
    "header",
    "series",
    "study_archive",
    "study",
)
SITE = PatientSettings(default_system="urn:site")
Event = Callable[["Hospital"], None]


@dataclass
class Hospital:
    """One study in two archives, and a daemon that reads those it can."""

    site: Site
    contents: dict[str, tuple[Received, ...]]
    stated: dict[str, tuple[Stated, ...]]
    readable: frozenset[str]
    waiting: set[str] = field(default_factory=set)

    def receive(self, archive: str, items: tuple[Received, ...], source: str) -> None:
        self.site.ledger.deliver(Delivery(source, archive, self.site.clock(), items))

    def notice(self, archive: str, source: str) -> None:
        noticed = (Noticed(STUDY),)
        self.site.ledger.deliver(Delivery(source, archive, self.site.clock(), noticed=noticed))

    def perform(self, step: Performed) -> None:
        self.site.ledger.deliver(Delivery("mpps", "a", self.site.clock(), performed=(step,)))

    def step(self) -> None:
        """Do one step, if any is due."""
        if self.site.ledger.next_due() is None:
            return
        claimed = self.site.claim()
        for archive in sorted(set(claimed.reads_owed) & self.readable):
            self._read(claimed, archive)
        self.site.ledger.settle(claimed, synced())

    def _read(self, claimed: Claim, archive: str) -> None:
        items, stated = self.contents[archive], self.stated[archive]
        counted = len(items) + sum(one.instance_count or 0 for one in stated)
        snapshot = Snapshot(
            archive, self.site.clock(), claimed.generation, items, stated, None, counted
        )
        self.site.ledger.snapshot(claimed, snapshot)

    def end(self) -> Study:
        """Work until nothing is left to do, and return what is known."""
        for archive in sorted(self.readable):
            self.notice(archive, "sweep")
        for _ in range(10):
            self.step()
            if self.site.view().state == State.COMPLETED:
                break
        else:
            raise AssertionError("the work never ends")
        self.notice("a", "once more")
        claimed = self.site.claim()
        study = self.site.ledger.load(claimed)
        self.site.ledger.settle(claimed, synced())
        return study


def _header(said: str, patient: str, archive: str) -> Header:
    attributes = SeriesAttributes(number=1, modality="MR", description=f"{said} {archive}")
    return Header(MR, PatientAttributes(id=PatientId(patient)), series=attributes)


def _item(series: int, number: int, said: Header) -> Received:
    uid = SeriesInstanceUID(f"{STUDY}.{series}")
    return Received(STUDY, uid, Instance(SOPInstanceUID(f"{uid}.{number}"), number, said))


def _note(number: int, title: str, named: list[tuple[int, int]]) -> Received:
    references = tuple(
        Reference(STUDY, f"{STUDY}.{series}", f"{STUDY}.{series}.{one}") for series, one in named
    )
    said = Header(
        KO,
        PatientAttributes(id=PatientId("P1")),
        series=SeriesAttributes(number=9, modality="KO"),
        key_objects=KeyObjects(Code(title, "DCM"), references),
    )
    return _item(9, number, said)


PLACES = st.tuples(st.integers(1, 3), st.integers(1, 4))


@dataclass(frozen=True)
class Case:
    """What there is to be told, whatever the order."""

    contents: dict[str, tuple[Received, ...]]
    stated: dict[str, tuple[Stated, ...]]
    readable: frozenset[str]
    told: tuple[Event, ...]


@st.composite
def _cases(draw: st.DrawFn) -> Case:
    contents: dict[str, tuple[Received, ...]] = {}
    stated: dict[str, tuple[Stated, ...]] = {}
    told: list[Event] = []
    for archive in "ab":
        places = draw(st.sets(PLACES, max_size=8))
        patient = draw(st.sampled_from(["P1"] * 5 + ["P2"]))
        own = draw(st.sampled_from(["", archive]))
        items = [_item(*place, _header(str(place[0]), patient, own)) for place in sorted(places)]
        if draw(st.booleans()):
            named = draw(st.lists(PLACES, max_size=8))
            items.append(_note(1, draw(st.sampled_from(NOTES)), named))
        delivered = tuple(item for item in items if draw(st.integers(0, 3)))
        if draw(st.integers(0, 3)) == 0:  # an archive without IMAGE level
            uids = sorted({item.series_instance_uid for item in items})
            sizes = {uid: sum(i.series_instance_uid == uid for i in items) for uid in uids}
            stated[archive] = tuple(
                Stated(STUDY, uid, replace(_header(uid[-1], patient, own), sop_class_uid=""), size)
                for uid, size in sizes.items()
            )
            contents[archive] = ()
        else:
            stated[archive], contents[archive] = (), tuple(items)
        told += [_received(archive, item) for item in delivered]
        told.append(_noticed(archive))
    for number in range(draw(st.integers(0, 2))):
        told += [_performed(number, status) for status in draw(st.sets(st.sampled_from(STEPS)))]
    return Case(contents, stated, draw(st.sampled_from(READABLE)), tuple(told))


STEPS = tuple(StepStatus)
READABLE = (frozenset("ab"), frozenset("ab"), frozenset("a"))


def _received(archive: str, item: Received) -> Event:
    return lambda hospital: hospital.receive(archive, (item,), "store_scp")


def _noticed(archive: str) -> Event:
    return lambda hospital: hospital.notice(archive, "feed")


def _performed(number: int, status: StepStatus) -> Event:
    said = Header(
        MPPS,
        PatientAttributes(id=PatientId("P1")),
        StudyAttributes(description="planned" if status is StepStatus.IN_PROGRESS else None),
        SeriesAttributes(modality="MR"),
    )
    step = Performed(f"1.2.8.{number}", STUDY, status, said)
    return lambda hospital: hospital.perform(step)


@st.composite
def _two_histories(draw: st.DrawFn) -> tuple[Case, list[list[Event]]]:
    case = draw(_cases())
    histories = []
    for _ in range(2):
        events = list(draw(st.permutations(case.told)))
        events += draw(st.lists(st.sampled_from(case.told), max_size=6))
        steps = draw(st.lists(st.integers(0, len(events)), max_size=4))
        for place in sorted(steps, reverse=True):
            events.insert(place, Hospital.step)
        histories.append(events)
    return case, histories


def _outcome(study: Study) -> Iterator[object]:
    mapped = map_study(
        study, context(endpoints={"a": ("Endpoint/a",), "b": ("Endpoint/b",)}), PLAIN
    )
    yield to_json(mapped.resource)
    yield mapped.remarks
    try:
        yield identify(study, SITE)
    except IdentityError as error:
        yield error.code
    yield study.patient_ids


PLAIN = ImagingStudySettings()


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(drawn=_two_histories())
def test_order_and_repetition_end_in_one_resource(
    site: Site, drawn: tuple[Case, list[list[Event]]]
) -> None:
    case, histories = drawn
    outcomes = []
    for events in histories:
        site.ledger.next_due()
        for table in TABLES:
            site.execute(f"DELETE FROM {table}")
        hospital = Hospital(site, case.contents, case.stated, case.readable)
        for event in events:
            event(hospital)
        outcomes.append(list(_outcome(hospital.end())))
    assert outcomes[0] == outcomes[1]
