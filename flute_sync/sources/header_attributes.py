"""From the elements of a header to what the study model says of an instance.

References
----------
PS3.3 C.7.1 to C.7.5, C.10.9, C.17.6 and C.24.2 (2026b).
"""

from dataclasses import replace
from functools import partial
from typing import Final

from flute_sync.sources import header_tags as tags
from flute_sync.sources.header_elements import Elements
from flute_sync.sources.header_parts import (
    accessions,
    admission,
    codes,
    diffusion_b_values,
    patient_id,
    person_name,
    persons,
    plane,
    references,
    scheme_uids,
    unique,
)
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.study import (
    Code,
    Header,
    KeyObjects,
    Moment,
    PatientAttributes,
    Person,
    SeriesAttributes,
    StudyAttributes,
)
from flute_sync.valuerep import (
    parse_date,
    parse_datetime,
    parse_decimal,
    parse_integer,
    parse_time,
    parse_utc_offset,
)

KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
STRUCTURED_REPORTS: Final = "1.2.840.10008.5.1.4.1.1.88."
PRESENTATION_STATES: Final = "1.2.840.10008.5.1.4.1.1.11."
ENCAPSULATED_DOCUMENTS: Final = "1.2.840.10008.5.1.4.1.1.104."


def read_header(elements: Elements, settings: HeaderSettings) -> Header:
    """Return what a header says, without the instance's own UIDs and number.

    Raises
    ------
    HeaderError
        When the SOP Class UID is absent or illegal.
    """
    return _Reader(elements, settings).header(elements.uid(tags.SOP_CLASS_UID))


def read_series(elements: Elements, settings: HeaderSettings) -> Header:
    """Return what is said of patient, study and series where no instance is told of.

    Its SOP class is empty.
    """
    return _Reader(elements, settings).header("")


class _Reader:
    def __init__(self, elements: Elements, settings: HeaderSettings) -> None:
        self._of = elements
        self._day = partial(parse_date, placeholders=settings.placeholder_dates)
        self._datetime = partial(parse_datetime, placeholders=settings.placeholder_dates)
        self._schemes = scheme_uids(elements)
        self._offset = elements.parsed(tags.TIMEZONE_OFFSET_FROM_UTC, parse_utc_offset)
        self._requests = elements.items.get(tags.REQUEST_ATTRIBUTES_SEQUENCE, ())

    def header(self, sop_class_uid: str) -> Header:
        selection = sop_class_uid == KEY_OBJECT_SELECTION
        study = self._study()
        header = Header(
            sop_class_uid=sop_class_uid,
            patient=self._patient(),
            study=study,
            series=self._series(study.started),
            title=self._title(sop_class_uid),
            number_of_frames=self._of.parsed(tags.NUMBER_OF_FRAMES, parse_integer),
            key_objects=self._key_objects() if selection else None,
        )
        remarks = sorted(self._of.remarks, key=lambda remark: (remark.tag, remark.code))
        return replace(header, remarks=tuple(remarks))

    def _patient(self) -> PatientAttributes:
        of = self._of
        removed = of.chosen(tags.PATIENT_IDENTITY_REMOVED, "YES", "NO")
        modified = tags.LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED
        return PatientAttributes(
            id=patient_id(of),
            other_ids=unique(map(patient_id, of.items.get(tags.OTHER_PATIENT_IDS_SEQUENCE, ()))),
            name=person_name(of.text(tags.PATIENT_NAME)),
            birth_date=of.parsed(tags.PATIENT_BIRTH_DATE, self._day),
            sex=of.chosen(tags.PATIENT_SEX, "M", "F", "O"),
            identity_removed=None if removed is None else removed == "YES",
            dates_modified=of.chosen(modified, "UNMODIFIED", "MODIFIED", "REMOVED"),
            deidentification=self._codes(tags.DEIDENTIFICATION_METHOD_CODE_SEQUENCE),
        )

    def _study(self) -> StudyAttributes:
        of = self._of
        stay = admission(of)
        reason = tags.REASON_FOR_THE_REQUESTED_PROCEDURE
        return StudyAttributes(
            started=self._moment(tags.STUDY_DATE, tags.STUDY_TIME),
            study_id=of.text(tags.STUDY_ID),
            accessions=accessions((of, *self._requests)),
            description=of.description(tags.STUDY_DESCRIPTION),
            procedure_codes=self._codes(tags.PROCEDURE_CODE_SEQUENCE)
            or self._requested_codes(tags.REQUESTED_PROCEDURE_CODE_SEQUENCE),
            reason_codes=self._requested_codes(tags.REASON_FOR_REQUESTED_PROCEDURE_CODE_SEQUENCE),
            reason_text=next(
                filter(None, (asked.description(reason) for asked in (of, *self._requests))), None
            ),
            admission_id=stay[0] if stay else None,
            admission_issuer=stay[1] if stay else None,
            referring=self._persons(
                tags.REFERRING_PHYSICIAN_NAME, tags.REFERRING_PHYSICIAN_IDENTIFICATION_SEQUENCE
            ),
            reading=self._persons(
                tags.NAME_OF_PHYSICIANS_READING_STUDY,
                tags.PHYSICIANS_READING_STUDY_IDENTIFICATION_SEQUENCE,
            ),
        )

    def _series(self, study_started: Moment | None) -> SeriesAttributes:
        of = self._of
        started = self._moment(tags.SERIES_DATE, tags.SERIES_TIME)
        dated = study_started is not None and started is not None
        laterality = of.text(tags.LATERALITY)
        b_values = diffusion_b_values(of)
        return SeriesAttributes(
            number=of.parsed(tags.SERIES_NUMBER, parse_integer),
            modality=of.text(tags.MODALITY),
            description=of.description(tags.SERIES_DESCRIPTION),
            started=started,
            acquired=None if dated else self._acquired(),
            content=None if dated else self._moment(tags.CONTENT_DATE, tags.CONTENT_TIME),
            body_part=of.text(tags.BODY_PART_EXAMINED),
            anatomic_regions=self._codes(tags.ANATOMIC_REGION_SEQUENCE),
            laterality=laterality,
            image_laterality=None if laterality else of.text(tags.IMAGE_LATERALITY),
            protocol_name=of.description(tags.PROTOCOL_NAME),
            performing=self._persons(
                tags.PERFORMING_PHYSICIAN_NAME, tags.PERFORMING_PHYSICIAN_IDENTIFICATION_SEQUENCE
            ),
            operators=self._persons(tags.OPERATORS_NAME, tags.OPERATOR_IDENTIFICATION_SEQUENCE),
            location=of.description(tags.INSTITUTIONAL_DEPARTMENT_NAME)
            or of.description(tags.PERFORMED_LOCATION),
            manufacturer=of.description(tags.MANUFACTURER),
            model_name=of.description(tags.MANUFACTURER_MODEL_NAME),
            station_name=of.description(tags.STATION_NAME),
            device_serial=of.description(tags.DEVICE_SERIAL_NUMBER),
            image_type=of.texts(tags.IMAGE_TYPE),
            scanning_sequence=of.texts(tags.SCANNING_SEQUENCE),
            sequence_variant=of.texts(tags.SEQUENCE_VARIANT),
            sequence_name=of.description(tags.SEQUENCE_NAME),
            diffusion_b_value=b_values[0] if len(b_values) == 1 else None,
            diffusion_b_values=b_values if len(b_values) > 1 else (),
            acquisition_contrast=of.text(tags.ACQUISITION_CONTRAST),
            plane=plane(of),
            repetition_time=of.parsed(tags.REPETITION_TIME, parse_decimal),
            echo_time=of.parsed(tags.ECHO_TIME, parse_decimal),
            contrast_agent=bool(
                of.texts(tags.CONTRAST_BOLUS_AGENT)
                or of.items.get(tags.CONTRAST_BOLUS_AGENT_SEQUENCE)
            ),
            temporal_positions=of.parsed(tags.NUMBER_OF_TEMPORAL_POSITIONS, parse_integer),
        )

    def _title(self, sop_class_uid: str) -> str | None:
        of = self._of
        if sop_class_uid.startswith(STRUCTURED_REPORTS):
            concept = self._codes(tags.CONCEPT_NAME_CODE_SEQUENCE)
            return concept[0].meaning if concept else None
        if sop_class_uid.startswith(PRESENTATION_STATES):
            return of.text(tags.CONTENT_LABEL)
        if sop_class_uid.startswith(ENCAPSULATED_DOCUMENTS):
            return of.description(tags.DOCUMENT_TITLE)
        return "\\".join(of.texts(tags.IMAGE_TYPE)) or None

    def _key_objects(self) -> KeyObjects:
        title = self._codes(tags.CONCEPT_NAME_CODE_SEQUENCE)
        return KeyObjects(title[0] if title else None, tuple(references(self._of)))

    def _codes(self, tag: int) -> tuple[Code, ...]:
        return codes(self._of.items.get(tag, ()), self._schemes)

    def _requested_codes(self, tag: int) -> tuple[Code, ...]:
        asked = (item for request in self._requests for item in request.items.get(tag, ()))
        return self._codes(tag) or codes(asked, self._schemes)

    def _persons(self, names: int, identification: int) -> tuple[Person, ...]:
        return persons(self._of, names, identification, self._schemes)

    def _moment(self, day_tag: int, time_tag: int) -> Moment | None:
        day = self._of.parsed(day_tag, self._day)
        if day is None:
            return None
        at = self._of.parsed(time_tag, parse_time)
        return Moment(day, at, None if at is None else self._offset)

    def _acquired(self) -> Moment | None:
        stated = self._of.parsed(tags.ACQUISITION_DATE_TIME, self._datetime)
        if stated is None:
            return self._moment(tags.ACQUISITION_DATE, tags.ACQUISITION_TIME)
        if stated.time is None or stated.utc_offset is not None:
            return stated
        return replace(stated, utc_offset=self._offset)
