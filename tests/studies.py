"""Invented studies for tests of the mapping and of selection; nobody's data."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from flute_sync.imaging_study import Context, ImagingStudySettings
from flute_sync.study import (
    Accession,
    Code,
    Header,
    Instance,
    Issuer,
    KeyObjects,
    PatientAttributes,
    PatientId,
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

ROOT = "1.2.826.0.1.3680043.8.498.20230301"
STORAGE = "1.2.840.10008.5.1.4.1.1."
MR, ENHANCED_MR, US, US_MULTIFRAME = (STORAGE + tail for tail in ("4", "4.1", "6.1", "3.1"))
SEG, SR, KO, SC = (STORAGE + tail for tail in ("66.4", "88.34", "88.59", "7"))
HOUR = timedelta(hours=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROME = ZoneInfo("Europe/Rome")
ARCHIVE = frozenset({"pacs"})

PATIENT = PatientAttributes(
    id=PatientId("PX100000", Issuer("SYNTH-HOSP")),
    name="Example^Adam",
    birth_date=date(1951, 1, 1),
    sex="M",
)
STUDY = StudyAttributes(
    started=Moment(date(2023, 3, 1), time(9, 15, 30), HOUR),
    study_id="S1",
    accessions=(Accession("ACC200000", Issuer(None, "1.2.826.0.1.3680043.9", "ISO")),),
    description="MRI prostate multiparametric",
    procedure_codes=(Code("RPID2235", "RADLEX", "MR Prostate"),),
    reason_codes=(Code("399068003", "SCT", "Malignant tumor of prostate"),),
    reason_text="rising PSA",
    admission_id="V77",
    referring=(Person("Referrer^Rita^^Dr"),),
    reading=(Person("Reader^Ron"),),
)


def moment(hour: int, minute: int, offset: timedelta | None = HOUR) -> Moment:
    """A time on the day of the invented examinations."""
    return Moment(date(2023, 3, 1), time(hour, minute), offset)


def header(
    sop_class_uid: str = MR,
    *,
    patient: PatientAttributes = PATIENT,
    study: StudyAttributes = STUDY,
    title: str | None = None,
    number_of_frames: int | None = None,
    key_objects: KeyObjects | None = None,
    **series: Any,
) -> Header:
    """A header whose series attributes are the keyword arguments."""
    return Header(
        sop_class_uid,
        patient,
        study,
        SeriesAttributes(**series),
        title,
        number_of_frames,
        key_objects,
    )


def series_of(
    number: int, shared: Header, count: int = 1, archives: frozenset[str] = ARCHIVE
) -> Series:
    """A series of ``count`` instances with one header."""
    uid = f"{ROOT}.{number}"
    instances = (
        Instance(SOPInstanceUID(f"{uid}.{index}"), index, shared) for index in range(1, count + 1)
    )
    return Series(SeriesInstanceUID(uid), tuple(instances), archives)


def study_of(*series: Series, **other: Any) -> Study:
    """A study of these series, held by the archive named pacs."""
    return Study(StudyInstanceUID(ROOT), series, **({"archives": ARCHIVE} | other))


def context(**other: Any) -> Context:
    """A context with one archive and a literal subject."""
    known: dict[str, Any] = {
        "subject": {"reference": "Patient/patient-001", "type": "Patient"},
        "now": NOW,
        "endpoints": {"pacs": ("Endpoint/wado", "Endpoint/qido")},
        "source": "https://pacs.example.org/dicom-web",
        "zone": ROME,
    }
    return Context(**(known | other))


def _prostate(number: int, description: str, minute: int, **other: Any) -> Header:
    attributes: dict[str, Any] = {
        "number": number,
        "modality": "MR",
        "description": description,
        "started": moment(9, minute),
        "body_part": "PROSTATE",
        "anatomic_regions": (Code("41216001", "SCT", "Prostate"),),
        "image_type": ("ORIGINAL", "PRIMARY", "M", "ND"),
        "manufacturer": "SYNTH",
        "model_name": "Synth3T",
        "device_serial": "12345",
        "performing": (Person("Reader^Ron"),),
        "operators": (Person("Tech^Tina"),),
        "location": "Radiology",
    }
    return header(**(attributes | other))


def mpmri(slices: int = 3) -> Study:
    """A multiparametric prostate MRI: T2, DWI, ADC and DCE, a segmentation and a report."""
    adc = ("DERIVED", "PRIMARY", "ADC")
    return study_of(
        series_of(1, _prostate(1, "t2_tse_tra", 20), slices),
        series_of(2, _prostate(2, "ep2d_diff_b1400", 25, diffusion_b_value=1400.0), slices),
        series_of(3, _prostate(3, "ep2d_diff_ADC", 26, image_type=adc), slices),
        series_of(4, _prostate(4, "t1_vibe_dce", 30, contrast_agent=True), 2 * slices),
        series_of(
            9,
            header(
                SEG,
                number=9,
                modality="SEG",
                description="Prostate zones",
                started=moment(10, 20),
                image_type=("DERIVED", "PRIMARY"),
                anatomic_regions=(Code("T-92000", "SRT", "Prostate"),),
            ),
        ),
        series_of(10, header(SR, number=10, modality="SR", title="Imaging Measurement Report")),
        series_count=6,
        instance_count=5 * slices + 2,
    )


def trus() -> Study:
    """A transrectal ultrasound with biopsy cores, and no offset from UTC anywhere."""
    said = replace(
        STUDY,
        started=moment(14, 5, None),
        description="TRUS guided prostate biopsy",
        procedure_codes=(Code("RPID2502", "RADLEX", "US Prostate transrectal"),),
    )
    return study_of(
        series_of(
            1,
            header(
                US_MULTIFRAME,
                study=said,
                number=1,
                modality="US",
                body_part="PROSTATE",
                number_of_frames=40,
            ),
            2,
        ),
        series_of(2, header(US, study=said, number=2, modality="US", body_part="ENDORECTAL"), 3),
    )


def enhanced_mr() -> Study:
    """One Enhanced MR instance of 1400 frames."""
    image_type = ("ORIGINAL", "PRIMARY", "PERFUSION", "NONE")
    shared = header(
        ENHANCED_MR, number=1, modality="MR", image_type=image_type, number_of_frames=1400
    )
    return study_of(series_of(1, shared))


def rejection_note(title: str, rejected: Sequence[Series], number: int = 99) -> Series:
    """A Key Object Selection that takes all instances of these series back."""
    references = tuple(
        Reference(ROOT, series.series_instance_uid, instance.sop_instance_uid)
        for series in rejected
        for instance in series.instances
    )
    objects = KeyObjects(Code(title, "DCM", "a rejection note"), references)
    return series_of(
        number, header(KO, number=number, modality="KO", title="note", key_objects=objects)
    )


def with_series(study: Study, *series: Series) -> Study:
    """The study and more series."""
    return replace(study, series=(*study.series, *series))


def de_identified() -> Study:
    """An mpMRI after the Basic Profile with shifted dates."""
    patient = replace(PATIENT, identity_removed=True, dates_modified="MODIFIED", birth_date=None)
    return _each_header(mpmri(), lambda one: replace(one, patient=patient))


def _each_header(study: Study, change: Any) -> Study:
    changed = tuple(
        replace(
            series,
            instances=tuple(
                instance._replace(header=change(instance.header)) for instance in series.instances
            ),
        )
        for series in study.series
    )
    return replace(study, series=changed)


def odd_texts() -> Study:
    """Texts of several scripts, with what FHIR strings may not hold."""
    said = replace(STUDY, description="MRI prostate \u2013 前列腺\x07\n  Männer ")
    return study_of(series_of(1, header(study=said, modality="MR", description="É\u0301tude\t1")))


def without_modality() -> Study:
    """Series that state no modality: one whose SOP class tells it, one whose does not."""
    return study_of(series_of(1, header(ENHANCED_MR)), series_of(2, header(SC)))


def two_archives() -> Study:
    """A study whose report lives in another archive."""
    other = frozenset({"vna"})
    return study_of(
        series_of(1, header(modality="MR"), 2),
        series_of(2, header(SR, modality="SR"), 1, other),
        archives=ARCHIVE | other,
    )


EU_STRICT = ImagingStudySettings(identifiers="eu-strict")
EVERYTHING = ImagingStudySettings(
    accession_identifier=True,
    study_id_system="urn:oid:1.2.3.4",
    encounter=True,
    encounter_system="urn:oid:1.2.3.5",
    referrer=True,
    interpreter=True,
    location=True,
    performer=True,
)
PSEUDONYMISED = ImagingStudySettings(deidentification="pseudonymised")


def golden_cases() -> dict[str, tuple[Study, Context, ImagingStudySettings]]:
    """Every case with a golden file, by the file's name."""
    default = ImagingStudySettings()
    full = mpmri()
    images = full.series[:4]
    elsewhere = {"pacs": ("Endpoint/wado",), "vna": ("Endpoint/vna-wado",)}
    return {
        "mpmri": (full, context(), default),
        "mpmri-everything": (full, context(), EVERYTHING),
        "mpmri-eu-strict": (full, context(), EU_STRICT),
        "mpmri-counted-only": (full, context(), ImagingStudySettings(instances="none")),
        "trus": (trus(), context(), default),
        "trus-without-zone": (trus(), context(zone=None), default),
        "enhanced-mr-eu-strict": (enhanced_mr(), context(), EU_STRICT),
        "rejected-in-part": (
            with_series(full, rejection_note("113001", images[:1])),
            context(),
            default,
        ),
        "rejected-for-quality": (
            with_series(full, rejection_note("113001", full.series)),
            context(),
            default,
        ),
        "rejected-for-safety": (
            with_series(full, rejection_note("113037", full.series)),
            context(),
            default,
        ),
        "retention-expired": (
            with_series(full, rejection_note("113039", full.series)),
            context(),
            default,
        ),
        "without-modality": (without_modality(), context(), default),
        "odd-texts": (odd_texts(), context(), default),
        "pseudonymised": (de_identified(), context(), PSEUDONYMISED),
        "two-archives": (two_archives(), context(endpoints=elsewhere), default),
        "registered": (study_of(), context(), default),
        "vanished": (replace(full, vanished=True, archives=frozenset()), context(), default),
    }
