"""Laws of the mapping, over studies nobody thought of."""

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from zoneinfo import ZoneInfo

from fhir.resources.R4B.imagingstudy import ImagingStudy
from hypothesis import given, settings
from hypothesis import strategies as st

from flute_sync.imaging_study import Context, ImagingStudySettings, map_study, to_json
from flute_sync.study import (
    Accession,
    Code,
    Header,
    Instance,
    Issuer,
    KeyObjects,
    PatientAttributes,
    Person,
    Reference,
    Series,
    SeriesAttributes,
    SeriesInstanceUID,
    SOPInstanceUID,
    Study,
    StudyAttributes,
    StudyInstanceUID,
)
from flute_sync.valuerep import Moment
from tests.studies import KO, MR, ROOT, SC, SEG, SR, US

LAW = settings(max_examples=60, deadline=None)
TEXT = st.none() | st.text(max_size=12)
ISSUER = st.none() | st.builds(Issuer, TEXT, TEXT, st.sampled_from(["ISO", "URI", "DNS", "UUID"]))
CODE = st.builds(
    Code,
    st.text(max_size=8) | st.sampled_from(["T-92000", "41216001", "RPID2235"]),
    st.sampled_from(["SCT", "SRT", "DCM", "RADLEX", "99X", "L", ""]),
    TEXT,
    st.sampled_from([None, "1.2.3", "0..1"]),
)
CODES = st.lists(CODE, max_size=2).map(tuple)
OFFSET = st.none() | st.integers(-12 * 60, 14 * 60).map(lambda m: timedelta(minutes=m))
MOMENT = st.none() | st.builds(
    Moment, st.dates(min_value=date(1, 1, 2)), st.none() | st.times(), OFFSET
)
PERSONS = st.lists(st.builds(Person, TEXT, st.none() | CODE), max_size=2).map(tuple)
NUMBER = st.none() | st.integers(-2, 5) | st.just(2**31)

HEADER = st.builds(
    Header,
    st.sampled_from([MR, US, SEG, SR, KO, SC]),
    st.builds(
        PatientAttributes,
        birth_date=st.none() | st.dates(),
        identity_removed=st.sampled_from([None, True, False]),
        dates_modified=st.sampled_from([None, "MODIFIED"]),
    ),
    st.builds(
        StudyAttributes,
        started=MOMENT,
        study_id=TEXT,
        accessions=st.lists(st.builds(Accession, st.text(max_size=8), ISSUER), max_size=2).map(
            tuple
        ),
        description=TEXT,
        procedure_codes=CODES,
        reason_codes=CODES,
        reason_text=TEXT,
        admission_id=TEXT,
        admission_issuer=ISSUER,
        referring=PERSONS,
        reading=PERSONS,
    ),
    st.builds(
        SeriesAttributes,
        number=NUMBER,
        modality=TEXT | st.sampled_from(["MR", "US", "XQ"]),
        description=TEXT,
        started=MOMENT,
        acquired=MOMENT,
        content=MOMENT,
        body_part=TEXT | st.sampled_from(["PROSTATE", "PELVIS"]),
        anatomic_regions=CODES,
        laterality=st.sampled_from([None, "R", "U", "X"]),
        performing=PERSONS,
        operators=PERSONS,
        location=TEXT,
        manufacturer=TEXT,
        device_serial=TEXT,
        image_type=st.lists(st.text(max_size=4), max_size=3).map(tuple),
    ),
    title=TEXT,
    number_of_frames=st.none() | st.integers(0, 9),
)


@st.composite
def studies(draw):
    headers = draw(st.lists(HEADER, min_size=1, max_size=3))
    archives = st.frozensets(st.sampled_from(["pacs", "vna"]))
    series = []
    for number in range(draw(st.integers(0, 3))):
        numbers = draw(st.lists(NUMBER, max_size=4))
        instances = tuple(
            Instance(
                SOPInstanceUID(f"{ROOT}.{number}.{index}"),
                each,
                headers[(number + index) % len(headers)],
            )
            for index, each in enumerate(numbers)
        )
        uid = SeriesInstanceUID(f"{ROOT}.{number}")
        series.append(Series(uid, instances, draw(archives)))
    counts = st.none() | st.integers(0, 20)
    return Study(StudyInstanceUID(ROOT), tuple(series), draw(counts), draw(counts), draw(archives))


SETTINGS = st.builds(
    ImagingStudySettings,
    accession_identifier=st.booleans(),
    accession_default_system=st.sampled_from([None, "urn:oid:1.2"]),
    study_id_system=st.sampled_from([None, "urn:oid:1.2"]),
    encounter=st.booleans(),
    referrer=st.booleans(),
    interpreter=st.booleans(),
    location=st.booleans(),
    performer=st.booleans(),
    instances=st.sampled_from(["full", "none"]),
    free_text=st.booleans(),
) | st.builds(ImagingStudySettings, identifiers=st.just("eu-strict"))
CONTEXTS = st.builds(
    Context,
    st.just({"reference": "Patient/1", "type": "Patient"}),
    st.just(datetime(2026, 1, 1, tzinfo=UTC)),
    st.just({"pacs": ("Endpoint/1", "Endpoint/2"), "vna": ("Endpoint/3",)}),
    st.sampled_from([None, "https://pacs.example.org/dicom-web"]),
    st.sampled_from([None, ZoneInfo("Europe/Rome")]),
)


def instances_of(study):
    return {(uid, one.sop_instance_uid) for uid, one in study.instances()}


def shuffled(study, seed):
    random = Random(seed)
    series = [
        replace(one, instances=tuple(random.sample(one.instances, len(one.instances))))
        for one in study.series
    ]
    return replace(study, series=tuple(random.sample(series, len(series))))


@LAW
@given(studies(), CONTEXTS, SETTINGS)
def test_whatever_is_mapped_is_valid_to_the_whole_model(study, context, chosen):
    ImagingStudy.model_validate(map_study(study, context, chosen).resource)


@LAW
@given(studies(), CONTEXTS, SETTINGS, st.integers())
def test_the_order_of_arrival_changes_no_byte(study, context, chosen, seed):
    one = map_study(study, context, chosen)
    other = map_study(shuffled(study, seed), context, chosen)
    assert to_json(one.resource) == to_json(other.resource)
    assert one.remarks == other.remarks


@LAW
@given(studies(), CONTEXTS, SETTINGS)
def test_equal_headers_need_not_be_the_same_object(study, context, chosen):
    copied = replace(
        study,
        series=tuple(
            replace(
                one,
                instances=tuple(
                    instance._replace(header=deepcopy(instance.header))
                    for instance in one.instances
                ),
            )
            for one in study.series
        ),
    )
    assert map_study(study, context, chosen) == map_study(copied, context, chosen)


@LAW
@given(studies(), CONTEXTS, SETTINGS)
def test_an_instance_delivered_again_changes_no_byte(study, context, chosen):
    again = replace(
        study,
        series=tuple(replace(s, instances=s.instances + s.instances[:1]) for s in study.series),
    )
    one = map_study(study, context, chosen).resource
    other = map_study(again, context, chosen).resource
    if len(study.headers) == 1:  # else the repetition votes: the ledger never holds one
        assert to_json(one) == to_json(other)
    listed = [i["uid"] for s in other.get("series", ()) for i in s.get("instance", ())]
    assert len(listed) == len(set(listed))


@LAW
@given(studies(), CONTEXTS, st.sampled_from(["113001", "113037", "113038"]), st.data())
def test_what_a_note_takes_back_might_never_have_been(study, context, title, data):
    known = sorted(instances_of(study))
    gone = data.draw(st.sets(st.sampled_from(known))) if known else set()
    references = tuple(Reference(ROOT, series, uid) for series, uid in gone)
    objects = KeyObjects(Code(title, "DCM"), references)
    note = Instance(SOPInstanceUID(f"{ROOT}.99.1"), 1, Header(KO, key_objects=objects))
    series = Series(SeriesInstanceUID(f"{ROOT}.99"), (note,))
    noted = replace(study, series=(*study.series, series), series_count=None, instance_count=None)
    kept = tuple(
        replace(one, instances=left)
        for one in study.series
        if (
            left := tuple(
                i
                for i in one.instances
                if (one.series_instance_uid, i.sop_instance_uid) not in gone
            )
        )
    )
    without = replace(study, series=kept, series_count=None, instance_count=None)
    found = map_study(noted, context, ImagingStudySettings()).resource
    if kept:
        assert found == map_study(without, context, ImagingStudySettings()).resource
    else:
        assert found["status"] in {"cancelled", "entered-in-error"}
        assert "series" not in found


@LAW
@given(studies(), CONTEXTS)
def test_the_resource_addresses_every_instance_by_wado_rs(study, context):
    found = map_study(study, context, ImagingStudySettings()).resource
    official, plain = (identifier["value"] for identifier in found["identifier"])
    assert official == f"urn:oid:{plain}"
    urls = {
        f"/studies/{plain}/series/{series['uid']}/instances/{instance['uid']}"
        for series in found.get("series", ())
        for instance in series["instance"]
    }
    assert urls == {
        f"/studies/{ROOT}/series/{series}/instances/{uid}" for series, uid in instances_of(study)
    }


@LAW
@given(st.sampled_from([time(0, 0), time(23, 59, 59, 999000)]), OFFSET)
def test_the_ends_of_time_are_no_trouble(at, offset):
    for day in (date(1, 1, 2), date(9999, 12, 31)):
        header = Header(MR, study=StudyAttributes(started=Moment(day, at, offset)))
        one = Series(SeriesInstanceUID("1.2"), (Instance(SOPInstanceUID("1.2.3"), 1, header),))
        for zone in (None, ZoneInfo("Europe/Rome"), ZoneInfo("Pacific/Kiritimati")):
            context = Context(
                {"reference": "Patient/1"}, datetime(2026, 1, 1, tzinfo=UTC), zone=zone
            )
            found = map_study(Study(StudyInstanceUID("1"), (one,)), context, ImagingStudySettings())
            assert found.resource["started"].startswith(day.isoformat())
