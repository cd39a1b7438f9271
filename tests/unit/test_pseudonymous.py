"""What is left of a study when all that names a person is taken from it."""

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.identity import Demographics, Identity, PatientKey, PatientSettings, identify
from flute_sync.imaging_study import map_study
from flute_sync.mapping import ImagingStudySettings
from flute_sync.patient import minimal_patient
from flute_sync.patient_errors import (
    IdentityError,
    PatientConflict,
    StudyIdentified,
    StudyPartlyIdentified,
    StudyPseudonymised,
)
from flute_sync.pseudonym import Kind, PseudonymKey, Pseudonyms, ShiftRule
from flute_sync.pseudonym_settings import PseudonymSettings
from flute_sync.pseudonymous import Pseudonymiser, Source, refuse_other, source_of
from flute_sync.study import (
    Accession,
    Code,
    Header,
    KeyObjects,
    PatientAttributes,
    SeriesAttributes,
    Step,
    StepStatus,
    Study,
    StudyAttributes,
)
from flute_sync.valuerep import Moment
from tests.studies import MR, PATIENT, STUDY, context, header, mpmri, series_of, study_of

SYSTEM = "urn:test:pseudonyms"
KEY = PseudonymKey(bytes(range(32)))
ROME = ZoneInfo("Europe/Rome")
MARKER = "GEHEIM"
# What a scanner writes by itself, and what says what was removed.
TECHNICAL: dict[str, Any] = {
    "modality": "MR",
    "body_part": "PROSTATE",
    "image_type": ("ORIGINAL",),
    "sex": "M",
    **dict.fromkeys(("scanning_sequence", "sequence_variant", "deidentification"), ()),
    **dict.fromkeys(("laterality", "image_laterality", "sequence_name", "dates_modified")),
    **dict.fromkeys(("acquisition_contrast", "plane", "manufacturer", "model_name")),
}
ALL = ImagingStudySettings(
    accession_identifier=True,
    study_id_system="urn:hospital:study-ids",
    encounter=True,
    free_text=False,
    referrer=True,
    interpreter=True,
    location=True,
    performer=True,
)


def pseudonymiser(
    shift: ShiftRule | None = None, settings: ImagingStudySettings = ALL, **more: Any
) -> Pseudonymiser:
    return Pseudonymiser(Pseudonyms(KEY, SYSTEM, shift), settings, **more)


def marked(kind: Any, name: str = "") -> Any:
    """Make a value of a type in which every text is a marker, technical attributes apart.

    An attribute that is added to a header one day is in it.
    """
    if name in TECHNICAL:
        return TECHNICAL[name]
    if kind is Code:
        return Code("41216001", "SCT", f"{MARKER} meaning")
    if kind is str:
        return f"{MARKER} {name}"
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{key: marked(one, key) for key, one in hints.items()})  # type: ignore[operator]
    inner = [one for one in get_args(kind) if one not in (NoneType, Ellipsis)]
    if get_origin(kind) is tuple:
        return (marked(inner[0], name),)
    return marked(inner[0], name) if inner else None


def everything() -> Header:
    """A header in which every attribute holds something, and every text a marker."""
    return replace(
        Header(MR),
        patient=replace(marked(PatientAttributes), birth_date=date(1951, 5, 6)),
        study=replace(marked(StudyAttributes), started=Moment(date(2024, 3, 1), time(9, 0))),
        series=replace(marked(SeriesAttributes), started=None, acquired=None, content=None),
        title=MARKER,
        key_objects=KeyObjects(Code("113001", "DCM", MARKER)),
    )


def hidden(study: Study, settings: ImagingStudySettings = ALL, **more: Any) -> Study:
    return pseudonymiser(settings=settings, **more).study(study, "PSEUDONYM", ROME)


def test_nothing_marked_is_left_in_the_resource() -> None:
    said = everything()
    assert repr(said).count(MARKER) > 30
    steps = (Step("1.2.9", StepStatus.IN_PROGRESS, said),)
    ids = {"pacs": frozenset({said.patient.id})}
    people = {"pacs": frozenset({said.patient})}
    study = study_of(series_of(1, said), steps=steps, patient_ids=ids, patients=people)
    for settings in (ALL, ImagingStudySettings(identifiers="eu-strict", free_text=False)):
        found = hidden(study, settings)
        assert MARKER not in repr(found)
        mapped = map_study(found, context(), settings)
        text = orjson.dumps(mapped.resource).decode()
        assert MARKER not in text
        assert "41216001" in text


def test_nothing_marked_is_left_of_whom_it_names() -> None:
    study = study_of(series_of(1, everything()))
    settings = PatientSettings(
        default_system="urn:hospital",
        systems={f"{MARKER} namespace": "urn:hospital"},
        use_other_ids=True,
    )
    named = identify(study, settings)
    named = replace(named, others=(PatientKey("urn:laboratory", f"{MARKER} 7"),))
    found = pseudonymiser().identity(named)
    assert MARKER not in repr(found)
    assert MARKER not in str(minimal_patient(found))
    assert found.others == (
        PatientKey(SYSTEM, KEY.pseudonym(Kind.PATIENT, "urn:laboratory", f"{MARKER} 7")),
    )
    assert found.key == PatientKey(
        SYSTEM, KEY.pseudonym(Kind.PATIENT, "urn:hospital", f"{MARKER} value")
    )


def test_each_of_several_numbers_has_its_pseudonym_and_none_decides_by_which_days_dates_go() -> (
    None
):
    named = Identity(PatientKey("urn:a", "17"), also=(PatientKey("urn:b", "4711"),))
    found = pseudonymiser().identity(named)
    assert found.keys == (
        PatientKey(SYSTEM, KEY.pseudonym(Kind.PATIENT, "urn:a", "17")),
        PatientKey(SYSTEM, KEY.pseudonym(Kind.PATIENT, "urn:b", "4711")),
    )
    with pytest.raises(PatientConflict):
        pseudonymiser(ShiftRule(7)).identity(named)


def test_only_accession_admission_and_study_id_are_left_as_pseudonyms() -> None:
    said = study_of(series_of(1, header(modality="MR", description="t2 of Adam")))
    settings = ALL.model_copy(update={"encounter_system": "urn:hospital:stays"})
    resource = map_study(hidden(said, settings), context(), settings).resource
    accession = KEY.pseudonym(Kind.ACCESSION, "urn:oid:1.2.826.0.1.3680043.9", "ACC200000")
    assert resource["basedOn"][0]["identifier"]["value"] == accession
    assert resource["basedOn"][0]["identifier"]["system"] == SYSTEM
    admission = resource["encounter"]["identifier"]
    stay = KEY.pseudonym(Kind.ADMISSION, "urn:hospital:stays", "V77")
    assert (admission["system"], admission["value"]) == (SYSTEM, stay)
    ids = [one["value"] for one in resource["identifier"] if one.get("use") == "secondary"]
    assert ids == [KEY.pseudonym(Kind.STUDY_ID, "urn:hospital:study-ids", "S1")]
    gone = ("description", "reasonCode.text", "referrer", "interpreter", "location")
    assert not [name for name in gone if name in resource]
    assert not [name for name in ("description", "performer") if name in resource["series"][0]]
    assert "text" not in resource["procedureCode"][0]


def test_who_asks_for_free_text_has_it() -> None:
    settings = ImagingStudySettings(free_text=True)
    resource = map_study(hidden(mpmri(), settings), context(), settings).resource
    assert resource["description"] == "MRI prostate multiparametric"
    assert "Referrer" not in str(resource)


def test_an_accession_number_that_cannot_be_read_is_left_out_and_remarked() -> None:
    study = replace(STUDY, accessions=(Accession("A\x07"), Accession("  ")))
    mapped = map_study(hidden(study_of(series_of(1, header(study=study)))), context(), ALL)
    assert "basedOn" not in mapped.resource
    assert [(one.code, one.tag) for one in mapped.remarks if one.tag == "(0008,0050)"] == [
        ("value-unusable", "(0008,0050)")
    ]


def test_headers_stay_shared() -> None:
    study = study_of(series_of(1, header(modality="MR"), 500))
    found = hidden(study)
    assert len({id(one.header) for _, one in found.instances()}) == 1


@pytest.mark.parametrize(
    ("stated", "shift", "kept"),
    [
        ("1951-05-06", None, {"1951"}),
        ("1951", None, {"1951"}),
        ("1951-01-03", 7, {"1950"}),
        ("1951-01-08", 7, {"1951"}),
        ("1951", 7, {"1951"}),
        ("0001-01-02", 7, {"0001"}),
    ],
)
def test_of_birth_a_year_is_left(stated: str, shift: int | None, kept: set[str]) -> None:
    who = Identity(PatientKey("urn:h", "1"), Demographics(birth_dates=frozenset({stated})))
    rule = None if shift is None else ShiftRule(shift)
    assert pseudonymiser(rule).identity(who).demographics.birth_dates == kept
    without = pseudonymiser(rule, birth_year=False).identity(who)
    assert "birthDate" not in minimal_patient(without)


# -- dates -----------------------------------------------------------------------------------


def started(study: Study, told: Mapping[str, Any] | None = None) -> Any:
    settings = ImagingStudySettings(free_text=False)
    return map_study(study, context(**(told or {})), settings).resource.get("started")


def shifted_study(moment: Moment, zone: ZoneInfo | None = ROME, largest: int = 7) -> Study:
    study = study_of(series_of(1, header(study=replace(STUDY, started=moment), modality="MR")))
    return pseudonymiser(ShiftRule(largest)).study(study, "PSEUDONYM", zone)


@pytest.mark.parametrize(
    ("moment", "zone", "expected"),
    [
        (Moment(date(2024, 3, 8), time(9, 15)), ROME, "2024-03-01T09:15:00+01:00"),
        (Moment(date(2024, 3, 8)), ROME, "2024-03-01"),
        (Moment(date(2024, 3, 8), time(9, 15)), None, "2024-03-01"),
        (Moment(date(2024, 3, 8), time(9, 15), timedelta(hours=1)), None, "2024-03-01"),
        # An offset of summer does not tell that a date in winter was one in summer.
        (Moment(date(2024, 4, 4), time(9), timedelta(hours=2)), ROME, "2024-03-28T09:00:00+01:00"),
        # What is told in UTC is of the local day.
        (Moment(date(2024, 3, 7), time(23, 30), timedelta(0)), ROME, "2024-03-01T00:30:00+01:00"),
        (Moment(date(1, 1, 3), time(9)), ROME, None),
    ],
)
def test_a_shifted_time_is_told_in_the_zone_of_the_site(
    moment: Moment, zone: ZoneInfo | None, expected: str | None
) -> None:
    assert started(shifted_study(moment, zone), {"zone": zone}) == expected


@given(st.dates(date(1990, 1, 1), date(2025, 1, 1)), st.dates(date(1990, 1, 1), date(2025, 1, 1)))
def test_intervals_between_the_dates_of_a_patient_stay(one: date, other: date) -> None:
    days = [
        shifted_study(Moment(day), largest=364).series[0].instances[0].header.study.started
        for day in (one, other)
    ]
    assert days[0] is not None
    assert days[1] is not None
    assert days[1].date - days[0].date == other - one
    assert days[0].date < one


@pytest.mark.parametrize(
    ("dates", "unmarked", "modified", "code", "tags"),
    [
        ("recorded", "identified", None, None, set()),
        ("recorded", "identified", "MODIFIED", None, {"date-untrusted"}),
        ("recorded", "identified", "UNMODIFIED", "113107", {"date-untrusted"}),
        ("shifted-alike", "identified", "MODIFIED", None, {"date-shifted"}),
        ("shifted-alike", "identified", None, "113107", {"date-shifted"}),
        ("shifted-alike", "identified", None, None, {"date-untrusted"}),
        ("shifted-alike", "pseudonymised", None, None, set()),
        ("shifted-alike", "pseudonymised", "UNMODIFIED", None, {"date-untrusted"}),
        ("shifted-alike", "identified", "REMOVED", None, {"date-untrusted"}),
        ("shifted-alike", "identified", "MODIFIED", "113106", {"date-shifted", "date-untrusted"}),
        ("shifted-here", "identified", None, None, {"date-shifted"}),
        ("shifted-here", "identified", "UNMODIFIED", "113106", {"date-shifted"}),
        ("shifted-here", "identified", "MODIFIED", None, {"date-shifted", "date-untrusted"}),
    ],
)
def test_shifted_dates_decide_only_where_clinical_data_go_with_them(
    dates: str, unmarked: str, modified: str | None, code: str | None, tags: set[str]
) -> None:
    codes = (Code(code, "DCM"),) if code else ()
    patient = replace(PATIENT, dates_modified=modified, deidentification=codes)
    said: dict[str, Any] = {"dates": dates, "unmarked": unmarked}
    if dates == "shifted-here":
        said |= {"mode": "hmac", "key_file": "/key", "system": SYSTEM}
    told = context(pseudonyms=PseudonymSettings(**said))
    study = study_of(series_of(1, header(patient=patient, modality="MR")))
    resource = map_study(study, told, ImagingStudySettings()).resource
    assert {one["code"] for one in resource["meta"].get("tag", [])} == tags


def test_a_doubt_about_the_clinical_datas_shift_is_tagged() -> None:
    study = study_of(series_of(1, header(modality="MR")))
    resource = map_study(study, context(dates_doubted=True), ImagingStudySettings()).resource
    assert resource["meta"]["tag"][0]["code"] == "date-untrusted"


def test_a_shifted_birth_does_not_come_after_the_study() -> None:
    born = replace(PATIENT, birth_date=date(2024, 3, 1))
    said = header(study=replace(STUDY, started=Moment(date(2024, 3, 2))), patient=born)
    found = pseudonymiser(ShiftRule(364)).study(study_of(series_of(1, said)), "P", ROME)
    told = context(now=datetime(2026, 1, 1, tzinfo=UTC))
    assert "tag" not in map_study(found, told, ImagingStudySettings()).resource["meta"]


# -- kinds of sources ------------------------------------------------------------------------


def of(*patients: PatientAttributes) -> Study:
    return study_of(*(series_of(n, header(patient=one)) for n, one in enumerate(patients, 1)))


REMOVED = replace(PATIENT, identity_removed=True)
DENIED = replace(PATIENT, identity_removed=False, deidentification=(Code("113100", "DCM"),))
CODED = replace(PATIENT, deidentification=(Code("113100", "DCM"),))


@pytest.mark.parametrize(
    ("patients", "unmarked", "kind"),
    [
        ([REMOVED], "identified", Source.PSEUDONYMISED),
        ([CODED, REMOVED], "identified", Source.PSEUDONYMISED),
        ([DENIED], "pseudonymised", Source.IDENTIFIED),
        ([PATIENT], "identified", Source.IDENTIFIED),
        ([PATIENT, DENIED], "identified", Source.IDENTIFIED),
        ([PATIENT, REMOVED], "pseudonymised", Source.PSEUDONYMISED),
        ([], "identified", None),
    ],
)
def test_a_study_says_of_which_kind_it_is(
    patients: list[PatientAttributes], unmarked: Any, kind: Source | None
) -> None:
    assert source_of(of(*patients), unmarked) is kind


def test_a_study_of_both_kinds_is_refused() -> None:
    with pytest.raises(StudyPartlyIdentified):
        source_of(of(PATIENT, REMOVED), "identified")


@pytest.mark.parametrize(
    ("kind", "wanted", "error"),
    [
        (Source.IDENTIFIED, Source.PSEUDONYMISED, StudyIdentified),
        (Source.PSEUDONYMISED, Source.IDENTIFIED, StudyPseudonymised),
        (Source.IDENTIFIED, Source.IDENTIFIED, None),
        (Source.IDENTIFIED, None, None),
        (None, Source.IDENTIFIED, None),
    ],
)
def test_a_study_of_the_other_kind_is_refused(
    kind: Source | None, wanted: Source | None, error: type[IdentityError] | None
) -> None:
    if error is None:
        refuse_other(kind, wanted)
        return
    with pytest.raises(error):
        refuse_other(kind, wanted)
