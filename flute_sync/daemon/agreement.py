"""Does the archive hold what an upload said? Identity and counts, from one study search.

Orthanc answers success to a duplicate with another header and keeps the old object; another
archive may have moved the study to another patient. What disagrees is read in full, and the
archive's word wins.
"""

from datetime import date

from flute_sync.sources.search import StudyRow, text
from flute_sync.study import PatientAttributes, Study, distinct
from flute_sync.valuerep import Unusable, parse_date

PATIENT_ID = "00100020"
ISSUER = "00100021"
BIRTH_DATE = "00100030"
SEX = "00100040"


def held_instances(study: Study, archive: str) -> int:
    """Count the instances that are known to be in an archive."""
    return sum(series.size for series in study.series if archive in series.archives)


def agrees(study: Study, archive: str, row: StudyRow) -> bool:
    """Tell whether a study search says the same as the headers we know.

    What the search does not state cannot disagree, except the number of instances: without it
    nothing was compared.
    """
    if row.instance_count != held_instances(study, archive) or len(row.attributes) != 1:
        return False
    stated = row.attributes[0]
    patients = distinct(study.headers, lambda header: header.patient)
    return all(
        _same(patient, text(stated, PATIENT_ID), text(stated, ISSUER))
        and _compatible(patient.sex, text(stated, SEX))
        and _compatible(patient.birth_date, _date(text(stated, BIRTH_DATE)))
        for patient in patients
    )


def _same(patient: PatientAttributes, patient_id: str | None, issuer: str | None) -> bool:
    known = patient.id.value if patient.id else None
    if known != (patient_id.strip(" ") if patient_id else None):
        return False
    namespace = patient.id.issuer.namespace if patient.id and patient.id.issuer else None
    return _compatible(namespace, issuer.strip(" ") if issuer else None)


def _compatible(known: object, stated: object) -> bool:
    return known is None or stated is None or known == stated


def _date(value: str | None) -> date | None:
    try:
        return parse_date(value or "")
    except Unusable:
        return None
