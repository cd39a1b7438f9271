"""What a header becomes: every attribute, every fallback, every rule on bad values."""

from datetime import date, time, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from flute_sync.dicom_errors import HeaderError, HeaderUidInvalid, HeaderUidMissing
from flute_sync.intake import Received
from flute_sync.sources.dicom_json import JsonReader
from flute_sync.sources.header import HeaderReader, HeaderSettings
from flute_sync.study import (
    Accession,
    Code,
    Header,
    Issuer,
    Moment,
    PatientAttributes,
    PatientId,
    Person,
    Reference,
    Remark,
    SeriesAttributes,
    StudyAttributes,
)
from tests.headers import (
    COMPREHENSIVE_3D_SR,
    ENCAPSULATED_PDF,
    KEY_OBJECT_SELECTION,
    MR_IMAGE,
    PRESENTATION_STATE,
    as_json,
    code,
    example,
    item,
    part10,
)

READER = HeaderReader()
TWO_HOURS = timedelta(hours=2)


def read(**changes: Any) -> Received:
    """Read an example twice, as a file and as JSON; they must agree but for character sets."""
    return both(example(**changes))


def both(dataset: Dataset) -> Received:
    received = READER.read(part10(dataset))
    assert JsonReader().received(as_json(dataset)) == received
    return received


def header(**changes: Any) -> Header:
    return read(**changes).instance.header


def remarks(found: Header) -> list[tuple[str, str]]:
    return [(remark.code, remark.tag) for remark in found.remarks]


def test_every_attribute():
    assert read() == (
        "1.2.3",
        "1.2.3.1",
        (
            "1.2.3.1.1.7",
            7,
            Header(
                sop_class_uid=MR_IMAGE,
                patient=PatientAttributes(
                    id=PatientId("0007", Issuer("HOSP", "1.2.3.4", "ISO")),
                    other_ids=(PatientId("X9", Issuer("NATIONAL")),),
                    name="Müller^Jörg^Karl Otto^Dr.^Jr.=李^明",
                    birth_date=date(1960, 2, 29),
                    sex="M",
                    identity_removed=False,
                    dates_modified="UNMODIFIED",
                ),
                study=StudyAttributes(
                    started=Moment(date(2024, 6, 10), time(9, 15, 30, 123_000), TWO_HOURS),
                    study_id="S1",
                    accessions=(Accession("A-0017"), Accession("A-0018")),
                    description="MRI prostate",
                    procedure_codes=(Code("719178004", "SCT", "Multiparametric MRI of prostate"),),
                    reason_codes=(Code("R97.2", "I10", "Raised PSA"),),
                    reason_text="PSA raised",
                    admission_id="V-55",
                    referring=(Person("Ansel^Rita"),),
                    reading=(Person("Dorn^Ulf"),),
                ),
                series=SeriesAttributes(
                    number=3,
                    modality="MR",
                    description="t2_tse_tra",
                    started=Moment(date(2024, 6, 10), time(9, 20), TWO_HOURS),
                    body_part="PROSTATE",
                    anatomic_regions=(Code("41216001", "SCT", "Prostate"),),
                    protocol_name="prostate",
                    performing=(Person("Berg^Ole"), Person("Cole^Ann")),
                    operators=(Person("Egli^Max"),),
                    location="Radiology",
                    manufacturer="Phantom Works",
                    model_name="Phantom 3T",
                    station_name="MR1",
                    device_serial="4711",
                    image_type=("ORIGINAL", "PRIMARY", "M", "ND"),
                    scanning_sequence=("SE", "IR"),
                    sequence_name="*tse2d1",
                    diffusion_b_value=1000.0,
                    repetition_time=4000.5,
                    echo_time=101.0,
                    contrast_agent=True,
                    temporal_positions=35,
                ),
                title="ORIGINAL\\PRIMARY\\M\\ND",
                number_of_frames=1,
            ),
        ),
    )


def test_almost_nothing():
    bare = item(
        SOPClassUID="1.2", SOPInstanceUID="1.3", StudyInstanceUID="1.4", SeriesInstanceUID="1.5"
    )
    assert both(bare) == ("1.4", "1.5", ("1.3", None, Header(sop_class_uid="1.2")))


# -- identity ------------------------------------------------------------------------------------

UIDS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]


def refusals(dataset: Dataset) -> list[HeaderError]:
    with pytest.raises(HeaderError) as from_file:
        READER.read(part10(dataset))
    with pytest.raises(HeaderError) as from_json:
        JsonReader().received(as_json(dataset))
    return [from_file.value, from_json.value]


@pytest.mark.parametrize("keyword", UIDS)
@pytest.mark.parametrize("value", [None, ""])
def test_missing_uid_is_refused(keyword: str, value: str | None):
    for refusal in refusals(example(**{keyword: value})):
        assert isinstance(refusal, HeaderUidMissing)
        assert (
            refusal.tag
            == f"({example()[keyword].tag.json_key[:4]},{example()[keyword].tag.json_key[4:]})"
        )
        assert refusal.tag in refusal.sentence


@pytest.mark.parametrize("keyword", UIDS)
@pytest.mark.parametrize("value", ["1.2.x", "1..2", "1.2.3\\1.2.4", "1." + "2" * 63, "1.2-3"])
def test_illegal_uid_is_refused_and_not_repeated(keyword: str, value: str):
    for refusal in refusals(example(**{keyword: value})):
        assert isinstance(refusal, HeaderUidInvalid)
        assert value not in refusal.sentence
        known = refusal.study_instance_uid, refusal.sop_class_uid, refusal.sop_instance_uid
        stated = (
            ("StudyInstanceUID", "1.2.3"),
            ("SOPClassUID", MR_IMAGE),
            ("SOPInstanceUID", "1.2.3.1.1.7"),
        )
        assert known == tuple(None if key == keyword else uid for key, uid in stated)


@pytest.mark.parametrize("keyword", UIDS)
def test_leading_zeros_of_a_uid_stay(keyword: str):
    received = read(**{keyword: "1.2.007.4"})
    stated = (
        *received[:2],
        received.instance.sop_instance_uid,
        received.instance.header.sop_class_uid,
    )
    assert "1.2.007.4" in stated
    assert [c for c, _ in remarks(received.instance.header)] == ["uid-leading-zero"]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [(" 0007 ", "0007"), ("aB 7", "aB 7"), ("007", "007"), ("", None), ("   ", None)],
)
def test_patient_id_is_kept_to_the_letter(stated: str, expected: str | None):
    found = header(PatientID=stated).patient.id
    assert (found and found.value) == expected


def test_several_patient_ids_are_none():
    found = header(PatientID="0007\\0008")
    assert found.patient.id is None
    assert remarks(found) == [("value-unusable", "(0010,0020)")]


@pytest.mark.parametrize(
    ("changes", "tag"),
    [
        ({"IssuerOfPatientID": "A\\B"}, "(0010,0021)"),
        (
            {
                "IssuerOfPatientIDQualifiersSequence": [
                    item(UniversalEntityID="1.2"),
                    item(UniversalEntityID="1.3"),
                ]
            },
            "(0010,0024)",
        ),
    ],
)
def test_an_issuer_that_cannot_be_read_is_not_no_issuer(changes: dict[str, Any], tag: str):
    found = header(**changes)
    assert found.patient.id is None
    assert tag in [where for _, where in remarks(found)]


def test_patient_id_without_issuer():
    found = header(IssuerOfPatientID=None, IssuerOfPatientIDQualifiersSequence=None)
    assert found.patient.id == PatientId("0007")


def test_patient_id_that_cannot_be_decoded_is_none():
    dataset = example(SpecificCharacterSet="ISO_IR 6", PatientName="A")
    data = part10(dataset).replace(b"0007", b"0\xfc07")
    found = READER.read(data).instance.header
    assert found.patient.id is None
    assert ("value-unusable", "(0010,0020)") in remarks(found)


@pytest.mark.parametrize(
    ("keyword", "value", "tag"),
    [
        ("PatientSex", "W", "(0010,0040)"),
        ("PatientSex", "m", "(0010,0040)"),
        ("PatientSex", "M\\F", "(0010,0040)"),
        ("PatientBirthDate", "19600230", "(0010,0030)"),
        ("PatientBirthDate", "1960", "(0010,0030)"),
        ("PatientIdentityRemoved", "MAYBE", "(0012,0062)"),
        ("LongitudinalTemporalInformationModified", "A BIT", "(0028,0303)"),
        ("PatientName", "A^B\\C^D", "(0010,0010)"),
        ("Modality", "MR\\CT", "(0008,0060)"),
        ("AccessionNumber", "A1\\A2", "(0008,0050)"),
        ("StudyDate", "2024-06-10", "(0008,0020)"),
        ("StudyTime", "noon", "(0008,0030)"),
        ("SeriesTime", "2561", "(0008,0031)"),
        ("TimezoneOffsetFromUTC", "CEST", "(0008,0201)"),
    ],
)
def test_a_bad_value_is_absent_with_a_remark(keyword: str, value: str, tag: str):
    found = header(**{keyword: value})
    without = header(**{keyword: None})
    assert [where for _, where in remarks(found)] == [tag]
    assert (found.patient, found.study, found.series) == (
        without.patient,
        without.study,
        without.series,
    )


@pytest.mark.parametrize("text", [b"-1", b"99999999999", b"1.5", b"seven", b"1\\2"])
def test_bad_numbers_are_absent(text: bytes):
    stated = part10(example(SeriesNumber=12345678, InstanceNumber=7))
    padded = text.ljust(len(text) + len(text) % 2)
    data = stated.replace(b"IS\x08\x0012345678", b"IS" + len(padded).to_bytes(2, "little") + padded)
    found = READER.read(data).instance.header
    assert found.series.number is None
    assert [where for _, where in remarks(found)] == ["(0020,0011)"]


def test_bad_instance_number_is_remarked_upon():
    data = part10(example(InstanceNumber=1234)).replace(b"IS\x04\x001234", b"IS\x04\x0012.5")
    received = READER.read(data)
    assert received.instance.number is None
    assert remarks(received.instance.header) == [("value-unusable", "(0020,0013)")]
    assert READER.read(data).instance.header is received.instance.header


def test_description_keeps_its_backslash():
    found = header(StudyDescription="T1\\T2")
    assert found.study.description == "T1\\T2"
    assert remarks(found) == [("several-values", "(0008,1030)")]


# -- dates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("placeholder", ["00000000", "00010101", "19000101", ""])
def test_placeholder_dates_are_absent_without_remark(placeholder: str):
    found = header(StudyDate=placeholder, PatientBirthDate=placeholder)
    assert found.study.started is None
    assert found.patient.birth_date is None
    assert found.remarks == ()


def test_placeholder_dates_are_the_sites():
    reader = HeaderReader(HeaderSettings(placeholder_dates=(date(2024, 6, 10),)))
    found = reader.read(part10(example(ContentDate="20240611", ContentTime="10"))).instance.header
    assert found.study.started is None
    assert found.series.content == Moment(date(2024, 6, 11))


def test_an_hour_alone_is_no_time():
    assert header(StudyTime="09").study.started == Moment(date(2024, 6, 10))


MOMENTS: dict[str, Any] = {
    "AcquisitionDate": "20240611",
    "AcquisitionTime": "1001",
    "ContentDate": "20240612",
    "ContentTime": "1002",
}


@pytest.mark.parametrize("missing", ["StudyDate", "SeriesDate"])
def test_acquisition_and_content_stand_in_for_missing_dates(missing: str):
    found = header(**{missing: None}, **MOMENTS).series
    assert found.acquired == Moment(date(2024, 6, 11), time(10, 1), TWO_HOURS)
    assert found.content == Moment(date(2024, 6, 12), time(10, 2), TWO_HOURS)
    both_dates = header(**MOMENTS).series
    assert (both_dates.acquired, both_dates.content) == (None, None)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (
            "20240613101112.5-0300",
            Moment(date(2024, 6, 13), time(10, 11, 12, 500_000), timedelta(hours=-3)),
        ),
        ("202406131011", Moment(date(2024, 6, 13), time(10, 11), TWO_HOURS)),
        ("20240613", Moment(date(2024, 6, 13))),
        ("2024", Moment(date(2024, 6, 11), time(10, 1), TWO_HOURS)),
    ],
)
def test_acquisition_date_time_comes_first(stated: str, expected: Moment):
    found = header(StudyDate=None, AcquisitionDateTime=stated, **MOMENTS)
    assert found.series.acquired == expected


# -- sharing -------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=5, unique=True))
def test_instances_share_one_header(numbers: list[int]):
    headers, of_json = set(), JsonReader()
    expected = of_json.received(as_json(example())).instance.header
    for number in numbers:
        dataset = example(
            SOPInstanceUID=f"1.2.3.1.1.{number}",
            InstanceNumber=number,
            AcquisitionTime=f"10{number % 60:02}",
        )
        received = READER.read(part10(dataset))
        assert received.instance[:2] == (f"1.2.3.1.1.{number}", number)
        headers.add(id(received.instance.header))
        assert of_json.received(as_json(dataset)).instance.header is expected
    assert len(headers) == 1


def test_the_cache_is_bounded():
    reader = HeaderReader(HeaderSettings(cached_headers=2))
    read_twice = [
        reader.read(part10(example(StudyID=str(n)))).instance.header.study.study_id
        for n in (1, 2, 3, 1)
    ]
    assert read_twice == ["1", "2", "3", "1"]


# -- documents -----------------------------------------------------------------------------------


def test_key_objects():
    evidence = [
        item(
            StudyInstanceUID="1.2.3",
            ReferencedSeriesSequence=[
                item(
                    SeriesInstanceUID="1.2.3.1",
                    ReferencedSOPSequence=[
                        item(
                            ReferencedSOPClassUID=MR_IMAGE, ReferencedSOPInstanceUID=f"1.2.3.1.{n}"
                        )
                        for n in (1, 2)
                    ],
                )
            ],
        )
    ]
    found = header(
        SOPClassUID=KEY_OBJECT_SELECTION,
        ConceptNameCodeSequence=[code("113001", "DCM", "Rejected for Quality Reasons")],
        CurrentRequestedProcedureEvidenceSequence=evidence,
        ContentSequence=[item(TextValue="x")],
    )
    assert found.title == "Rejected for Quality Reasons"
    assert found.key_objects is not None
    assert found.key_objects.title == Code("113001", "DCM", "Rejected for Quality Reasons")
    assert found.key_objects.references == (
        Reference("1.2.3", "1.2.3.1", "1.2.3.1.1"),
        Reference("1.2.3", "1.2.3.1", "1.2.3.1.2"),
    )
    assert header(CurrentRequestedProcedureEvidenceSequence=evidence).key_objects is None


def test_a_broken_reference_is_left_out_with_a_remark():
    sops = [item(ReferencedSOPInstanceUID="1.x"), item(ReferencedSOPInstanceUID="1.9")]
    series = [item(SeriesInstanceUID="1.8", ReferencedSOPSequence=sops)]
    found = header(
        SOPClassUID=KEY_OBJECT_SELECTION,
        CurrentRequestedProcedureEvidenceSequence=[
            item(StudyInstanceUID="1.7", ReferencedSeriesSequence=series)
        ],
    )
    assert found.key_objects is not None
    assert found.key_objects.references == (Reference("1.7", "1.8", "1.9"),)
    assert remarks(found) == [("value-unusable", "(0008,1155)")]


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        (
            {
                "SOPClassUID": COMPREHENSIVE_3D_SR,
                "ConceptNameCodeSequence": [code("126000", "DCM", "Imaging Report")],
                "ContentSequence": [item(TextValue="x")],
            },
            "Imaging Report",
        ),
        ({"SOPClassUID": COMPREHENSIVE_3D_SR}, None),
        ({"SOPClassUID": PRESENTATION_STATE, "ContentLabel": "LESION"}, "LESION"),
        ({"SOPClassUID": ENCAPSULATED_PDF, "DocumentTitle": "Report\\1"}, "Report\\1"),
        ({"ConceptNameCodeSequence": [code("1", "DCM", "x")]}, "ORIGINAL\\PRIMARY\\M\\ND"),
        ({"ImageType": ["DERIVED", "", "MIP"]}, "DERIVED\\\\MIP"),
        ({"ImageType": None}, None),
    ],
)
def test_title(changes: dict[str, Any], title: str | None):
    assert header(**changes).title == title


# -- codes, persons, requests --------------------------------------------------------------------


def test_procedure_code_falls_back():
    asked = [code("MRP", "99LOCAL", "MR prostate")]
    found = header(
        ProcedureCodeSequence=None, RequestedProcedureCodeSequence=[code("X", "99A", "x")]
    )
    assert found.study.procedure_codes == (Code("X", "99A", "x"),)
    assert header(ProcedureCodeSequence=None).study.procedure_codes == (
        Code(asked[0].CodeValue, "99LOCAL", "MR prostate"),
    )


def test_codes_of_every_length_and_scheme():
    found = header(
        CodingSchemeIdentificationSequence=[
            item(CodingSchemeDesignator="99LOCAL", CodingSchemeUID="1.2.99")
        ],
        ProcedureCodeSequence=[
            code("A", "99LOCAL", "a"),
            item(LongCodeValue="L" * 20, CodingSchemeDesignator="99X", CodingSchemeUID="1.2.98"),
            item(URNCodeValue="urn:lex:eu", CodeMeaning="law"),
            item(CodeValue="B", CodeMeaning="no scheme"),
            code("A", "99LOCAL", "a"),
        ],
    )
    assert found.study.procedure_codes == (
        Code("A", "99LOCAL", "a", "1.2.99"),
        Code("L" * 20, "99X", None, "1.2.98"),
        Code("urn:lex:eu", "", "law"),
    )
    assert remarks(found) == [("code-incomplete", "(0008,0100)")]


def test_persons_and_codes_belong_together_only_in_equal_number():
    identified = [item(PersonIdentificationCodeSequence=[code("P1", "99STAFF", "Berg")])]
    berg = Code("P1", "99STAFF", "Berg")
    found = header(
        ReferringPhysicianIdentificationSequence=identified,
        PerformingPhysicianIdentificationSequence=identified,
    )
    assert found.study.referring == (Person("Ansel^Rita", berg),)
    assert found.series.performing == (Person("Berg^Ole"), Person("Cole^Ann"), Person(None, berg))


def test_accessions_are_one_when_only_the_issuer_is_missing():
    issuer = [
        item(LocalNamespaceEntityID="RIS", UniversalEntityID="1.2", UniversalEntityIDType="ISO")
    ]
    found = header(
        AccessionNumber="A1",
        RequestAttributesSequence=[
            item(AccessionNumber="A1", IssuerOfAccessionNumberSequence=issuer),
            item(AccessionNumber="A2"),
            item(AccessionNumber=""),
        ],
    )
    assert found.study.accessions == (Accession("A1", Issuer("RIS", "1.2", "ISO")), Accession("A2"))


def test_admission_issuer_and_deidentification():
    found = header(
        IssuerOfAdmissionIDSequence=[item(LocalNamespaceEntityID="HIS")],
        PatientIdentityRemoved="YES",
        DeidentificationMethodCodeSequence=[code("113107", "DCM", "Modified Dates Option")],
        LongitudinalTemporalInformationModified="MODIFIED",
    )
    assert (found.study.admission_id, found.study.admission_issuer) == ("V-55", Issuer("HIS"))
    assert found.patient.identity_removed is True
    assert found.patient.dates_modified == "MODIFIED"
    assert found.patient.deidentification == (Code("113107", "DCM", "Modified Dates Option"),)


def test_laterality_of_the_image_stands_in_for_that_of_the_series():
    assert header(ImageLaterality="L").series.image_laterality == "L"
    whole = header(Laterality="R", ImageLaterality="L").series
    assert (whole.laterality, whole.image_laterality) == ("R", None)


def test_remarks_are_in_order_and_unique():
    found = header(PatientSex="W", StudyTime="noon", Modality="MR\\CT")
    assert found.remarks == (
        Remark("value-unusable", "(0008,0030)"),
        Remark("several-values", "(0008,0060)"),
        Remark("value-unusable", "(0010,0040)"),
    )
