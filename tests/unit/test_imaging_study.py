"""Study -> ImagingStudyFlute, element by element."""

from dataclasses import replace
from datetime import date, time

import pytest
from pydantic import ValidationError

from flute_sync.fhir_errors import MappingError
from flute_sync.imaging_study import ImagingStudySettings, map_study
from flute_sync.study import Accession, Code, Issuer, Person
from flute_sync.terminology import FLUTE_SYNC_TAG
from flute_sync.valuerep import Moment
from tests.studies import (
    ARCHIVE,
    EU_STRICT,
    EVERYTHING,
    HOUR,
    MR,
    PATIENT,
    STUDY,
    context,
    header,
    moment,
    mpmri,
    series_of,
    study_of,
    with_series,
)

DEFAULT = ImagingStudySettings()


def resource(study, settings=DEFAULT, **told):
    return map_study(study, context(**told), settings).resource


def remarks(study, settings=DEFAULT, **told):
    mapped = map_study(study, context(**told), settings)
    return {one.code: one.count for one in mapped.remarks}


def single(study_attributes=STUDY, patient=PATIENT, sop_class=MR, count=1, **series):
    one = header(sop_class, study=study_attributes, patient=patient, **series)
    return study_of(series_of(1, one, count))


# -- identity and orders ---------------------------------------------------------------------


def test_eu_strict_states_the_study_uid_once():
    assert len(resource(mpmri(), EU_STRICT)["identifier"]) == 1
    assert resource(mpmri(), EU_STRICT)["meta"]["profile"][1].endswith("/ImagingStudyEuImaging")


@pytest.mark.parametrize(
    "other",
    [{"accession_identifier": True}, {"study_id_system": "urn:oid:1.2"}, {"performer": True}],
)
def test_eu_strict_refuses_what_the_guide_does_not_allow(other):
    with pytest.raises(ValidationError, match="eu-strict"):
        ImagingStudySettings(identifiers="eu-strict", **other)


@pytest.mark.parametrize(
    ("issuer", "system"),
    [
        (Issuer(None, "1.2.3", "ISO"), "urn:oid:1.2.3"),
        (Issuer(None, "01.x", "ISO"), None),
        (Issuer("RIS", None, None), "https://ris.example.org/accession"),
        (Issuer("OTHER", None, None), None),
        (None, "urn:oid:1.9"),
    ],
)
def test_the_issuer_of_an_accession_decides_its_system(issuer, system):
    settings = ImagingStudySettings(
        accession_systems={"RIS": "https://ris.example.org/accession"},
        accession_default_system="urn:oid:1.9",
    )
    study = single(replace(STUDY, accessions=(Accession("A1", issuer),)))
    assert resource(study, settings)["basedOn"][0]["identifier"].get("system") == system


def test_an_accession_without_a_system_is_left_out_only_where_eu_demands_one():
    study = single(replace(STUDY, accessions=(Accession("A1"),)))
    assert resource(study)["basedOn"][0]["identifier"]["value"] == "A1"
    assert "basedOn" not in resource(study, EU_STRICT)
    assert remarks(study)["accession-without-system"] == 1


def test_accessions_are_listed_once_each_and_found_orders_are_referred_to():
    found, other = Accession("A2"), Accession("A1")
    study = study_of(
        series_of(1, header(study=replace(STUDY, accessions=(found, other)))),
        series_of(2, header(study=replace(STUDY, accessions=(other, Accession(" "))))),
    )
    based_on = resource(study, service_requests={found: "ServiceRequest/7"})["basedOn"]
    assert [one["identifier"]["value"] for one in based_on] == ["A1", "A2"]
    assert [one.get("reference") for one in based_on] == [None, "ServiceRequest/7"]


def test_people_places_and_local_numbers_stay_out_unless_asked_for():
    private = {"encounter", "referrer", "interpreter", "location"}
    assert private.isdisjoint(resource(mpmri()))
    assert private <= resource(mpmri(), EVERYTHING).keys()
    assert all("performer" not in one for one in resource(mpmri())["series"])


def test_a_coded_person_is_an_identifier():
    person = Person("Referrer^Rita", Code("4711", "99HOSP", "staff", "1.2.3.4"))
    study = single(replace(STUDY, referring=(person,)))
    referrer = resource(study, ImagingStudySettings(referrer=True))["referrer"]
    assert referrer["identifier"] == {"system": "urn:oid:1.2.3.4", "value": "4711"}


# -- started ---------------------------------------------------------------------------------

WITHOUT_DATE = replace(STUDY, started=None)


@pytest.mark.parametrize(
    ("series", "started", "substituted"),
    [
        ({"started": moment(9, 20), "acquired": moment(9, 1)}, "2023-03-01T09:20:00+01:00", 1),
        ({"acquired": moment(9, 1), "content": moment(8, 0)}, "2023-03-01T09:01:00+01:00", 1),
        ({"content": moment(8, 0)}, "2023-03-01T08:00:00+01:00", 1),
        ({}, None, None),
    ],
)
def test_started_falls_back_in_the_order_of_the_rule(series, started, substituted):
    study = single(WITHOUT_DATE, **series)
    assert resource(study).get("started") == started
    assert remarks(study).get("started-substituted") == substituted


def test_the_first_of_the_substitutes_counts():
    study = study_of(
        series_of(1, header(study=WITHOUT_DATE, started=moment(9, 20))),
        series_of(2, header(study=WITHOUT_DATE, started=moment(9, 5))),
    )
    assert resource(study)["started"] == "2023-03-01T09:05:00+01:00"


def test_offsets_that_contradict_each_other_give_way_to_the_site_zone():
    later = replace(STUDY, started=moment(9, 15, 2 * HOUR))
    study = study_of(series_of(1, header()), series_of(2, header(study=later)))
    assert resource(study)["started"].startswith("2023-03-01T09:15:")
    assert resource(study)["started"].endswith("+01:00")
    assert resource(study, zone=None)["started"] == "2023-03-01"
    assert "offset-conflict" in remarks(study)


@pytest.mark.parametrize(
    ("study_attributes", "patient", "untrusted"),
    [
        (STUDY, PATIENT, False),
        (STUDY, replace(PATIENT, dates_modified="UNMODIFIED"), False),
        (STUDY, replace(PATIENT, dates_modified="MODIFIED"), True),
        (STUDY, replace(PATIENT, dates_modified="REMOVED"), True),
        (STUDY, replace(PATIENT, deidentification=(Code("113107", "DCM"),)), True),
        (STUDY, replace(PATIENT, deidentification=(Code("113106", "DCM"),)), False),
        (STUDY, replace(PATIENT, birth_date=date(2023, 3, 2)), True),
        (replace(STUDY, started=Moment(date(2026, 1, 3))), PATIENT, True),
        (replace(STUDY, started=Moment(date(2026, 1, 2))), PATIENT, False),
        (replace(STUDY, started=Moment(date(9999, 12, 31), time(23), -12 * HOUR)), PATIENT, True),
    ],
)
def test_a_date_that_cannot_be_believed_is_tagged(study_attributes, patient, untrusted):
    study = single(study_attributes, patient)
    tagged = {"system": FLUTE_SYNC_TAG, "code": "date-untrusted"}
    assert (tagged in resource(study)["meta"].get("tag", [])) is untrusted
    assert ("date-untrusted" in remarks(study)) is untrusted
    assert "started" in resource(study)


# -- codes and texts -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "coding"),
    [
        (Code("T-ZZZZZ", "SRT", "x"), None),
        (Code("T-92000", "SRT", "Prostate"), ("http://snomed.info/sct", "41216001")),
        (Code("T-92000", "99SDM", "Prostate"), ("http://snomed.info/sct", "41216001")),
        (Code("24627-2", "LN", "CT"), ("http://loinc.org", "24627-2")),
        (Code("A", "99SITE", "x", "1.2.3"), ("urn:oid:1.2.3", "A")),
        (Code("A", "99OURS", "x"), ("https://codes.example.org", "A")),
        (Code("A", "99SITE", "x"), None),
        (Code("A", "L", "x"), None),
        (Code("urn:oid:1.2.3", "", "x"), ("urn:ietf:rfc:3986", "urn:oid:1.2.3")),
    ],
)
def test_a_code_has_a_system_or_is_text(code, coding):
    settings = ImagingStudySettings(coding_schemes={"99OURS": "https://codes.example.org"})
    concept = resource(single(replace(STUDY, procedure_codes=(code,))), settings)["procedureCode"]
    found = [(one["system"], one["code"]) for one in concept[0].get("coding", [])]
    assert found == ([coding] if coding else [])
    assert concept[0]["text"] == code.meaning


def test_a_code_is_listed_once_whatever_it_is_called():
    one, other = Code("RPID2235", "RADLEX", "MR Prostate"), Code("RPID2235", "RADLEX", "prostata")
    study = study_of(
        series_of(1, header(study=replace(STUDY, procedure_codes=(one,)))),
        series_of(2, header(study=replace(STUDY, procedure_codes=(other,)))),
    )
    assert len(resource(study)["procedureCode"]) == 1


def test_reason_text_serves_where_no_reason_is_coded():
    study = single(replace(STUDY, reason_codes=()))
    assert resource(study)["reasonCode"] == [{"text": "rising PSA"}]
    assert "reasonCode" not in resource(study, ImagingStudySettings(free_text=False))


def test_free_text_can_be_kept_out():
    found = resource(mpmri(), ImagingStudySettings(free_text=False))
    assert "description" not in found
    assert all("description" not in one for one in found["series"])
    titles = {i.get("title") for one in found["series"] for i in one["instance"]}
    assert "Imaging Measurement Report" not in titles
    assert "DERIVED\\PRIMARY\\ADC" in titles


def test_blank_texts_are_absent():
    study = single(replace(STUDY, description=" \x00\n"), description=" ")
    assert "description" not in resource(study)
    assert "description" not in resource(study)["series"][0]


@pytest.mark.parametrize(
    ("settings", "removed", "label"),
    [
        ({}, None, None),
        ({}, True, "PSEUDED"),
        ({}, False, None),
        ({"deidentification": "pseudonymised"}, None, "PSEUDED"),
        ({"deidentification": "anonymised"}, True, "ANONYED"),
    ],
)
def test_what_was_de_identified_is_labelled(settings, removed, label):
    study = single(patient=replace(PATIENT, identity_removed=removed))
    security = resource(study, ImagingStudySettings(**settings))["meta"].get("security")
    assert (security[0]["code"] if security else None) == label


# -- counts and endpoints --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "told"), [((None, None), (6, 17)), ((1, 2), (6, 17)), ((9, 99), (9, 99))]
)
def test_the_archive_may_count_more_than_is_listed(stated, told):
    study = replace(mpmri(), series_count=stated[0], instance_count=stated[1])
    found = resource(study)
    assert (found["numberOfSeries"], found["numberOfInstances"]) == told


def test_an_endpoint_stands_at_the_study_where_all_of_it_lives():
    both = ARCHIVE | {"vna"}
    study = study_of(series_of(1, header(), 1, both), series_of(2, header(), 1, both))
    study = replace(study, archives=both)
    told = {"vna": ("Endpoint/v",), "pacs": ("Endpoint/p",)}
    found = resource(study, endpoints=told)
    assert [one["reference"] for one in found["endpoint"]] == ["Endpoint/v", "Endpoint/p"]
    assert all("endpoint" not in one for one in found["series"])


def test_a_series_without_instances_says_nothing_of_where_the_study_lives():
    empty = replace(series_of(1, header(), 1, ARCHIVE), instances=())
    study = study_of(empty, series_of(2, header(), 1, frozenset()))
    study = replace(study, archives=ARCHIVE | {"vna"})
    told = {"pacs": ("Endpoint/p",), "vna": ("Endpoint/v",)}
    found = resource(study, endpoints=told)
    assert [one["reference"] for one in found["endpoint"]] == ["Endpoint/p", "Endpoint/v"]


def test_a_study_no_archive_holds_has_no_endpoint():
    assert "endpoint" not in resource(replace(mpmri(), archives=frozenset()))


# -- nothing invalid leaves ------------------------------------------------------------------


def test_a_subject_that_is_none_is_refused_without_its_value():
    with pytest.raises(MappingError) as caught:
        resource(mpmri(), subject={"reference": "Patient/x", "secret-key": "secret"})
    assert "subject" in str(caught.value)
    assert "secret" not in str(caught.value).replace("secret-key", "")
    assert caught.value.__cause__ is None


def test_two_series_of_one_uid_are_refused():
    one = series_of(1, header())
    other = replace(series_of(2, header()), series_instance_uid=one.series_instance_uid)
    with pytest.raises(MappingError, match=r"series\.uid comes twice"):
        resource(with_series(study_of(one), other))


def test_hours_of_summer_follow_the_zone():
    summer = replace(STUDY, started=Moment(date(2023, 7, 1), time(9, 15)))
    assert resource(single(summer))["started"] == "2023-07-01T09:15:00+02:00"
