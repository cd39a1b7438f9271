"""A study and whom it names, without all that names a person, and which kind of study it is.

What goes to the FHIR server is made of what these return alone, so that nothing else can get
there: identifiers become pseudonyms, people, places and free text go, dates may be shifted. UIDs
stay: they are those by which clients ask the DICOMweb server.

References
----------
PS3.15 Annex E "Attribute Confidentiality Profiles", PS3.3 C.7.1.1 and C.12.1 (2026b); PS3.16
CID 7050 "De-identification Method".
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from enum import StrEnum
from typing import Final, Literal
from zoneinfo import ZoneInfo

from flute_sync.coding import issuer_system
from flute_sync.identity import Demographics, Identity, PatientKey
from flute_sync.mapping import ImagingStudySettings
from flute_sync.patient_errors import (
    PatientConflict,
    StudyIdentified,
    StudyPartlyIdentified,
    StudyPseudonymised,
)
from flute_sync.pseudonym import Kind, Pseudonyms
from flute_sync.study import (
    Accession,
    Code,
    Header,
    Issuer,
    PatientAttributes,
    Remark,
    Series,
    SeriesAttributes,
    Study,
    StudyAttributes,
)
from flute_sync.valuerep import Moment, Unusable

_YEAR_DIGITS: Final = 4


class Source(StrEnum):
    """Which kind of study an archive gives out."""

    IDENTIFIED = "identified"
    PSEUDONYMISED = "pseudonymised"


_REFUSALS: Final = {
    Source.IDENTIFIED: StudyIdentified,
    Source.PSEUDONYMISED: StudyPseudonymised,
}


def source_of(study: Study, unmarked: Literal["identified", "pseudonymised"]) -> Source | None:
    """Tell which kind a study is by (0012,0062), else by (0012,0064); None: nothing is known yet.

    Parameters
    ----------
    unmarked
        What instances are that state neither.

    Raises
    ------
    StudyPartlyIdentified
        Its instances are of both kinds.
    """
    kinds = {_source(header.patient, Source(unmarked)) for header in study.evidence}
    if len(kinds) > 1:
        raise StudyPartlyIdentified()
    return next(iter(kinds), None)


def refuse_other(kind: Source | None, wanted: Source | None) -> None:
    """Refuse a study of another kind than the node holds.

    Raises
    ------
    StudyIdentified, StudyPseudonymised
        It is of the other kind.
    """
    if kind is not None and wanted is not None and kind is not wanted:
        raise _REFUSALS[kind]()


def _source(patient: PatientAttributes, unmarked: Source) -> Source:
    if patient.identity_removed is None:
        return Source.PSEUDONYMISED if patient.deidentification else unmarked
    return Source.PSEUDONYMISED if patient.identity_removed else Source.IDENTIFIED


@dataclass(frozen=True, slots=True)
class Pseudonymiser:
    """Takes from studies what names a person.

    Parameters
    ----------
    imaging_study
        In which systems accession numbers, admissions and Study IDs are, and whether free text
        stays.
    birth_year
        Whether the year of the birth date stays.
    """

    pseudonyms: Pseudonyms
    imaging_study: ImagingStudySettings
    birth_year: bool = True

    def identity(self, identity: Identity) -> Identity:
        """Return whom a study names, under pseudonyms: no names, and of birth no more than a year.

        The pseudonym of the patient is that of the identifier in its identifier system.

        Raises
        ------
        PatientConflict
            Archives number him differently, so that each number shifts dates by other days.
        """
        if identity.also and self.pseudonyms.shift is not None:
            raise PatientConflict("its archives' numbers differ, and each shifts dates differently")
        key = self.key(identity.key)
        days = self.pseudonyms.days(key.value) or 0
        said = identity.demographics
        years = {_year(one, days) for one in said.birth_dates} if self.birth_year else ()
        return replace(
            identity,
            key=key,
            others=tuple(sorted(map(self.key, identity.others), key=str)),
            also=tuple(map(self.key, identity.also)),
            demographics=Demographics(birth_dates=frozenset(years), sexes=said.sexes),
        )

    def key(self, key: PatientKey) -> PatientKey:
        """Return the pseudonym of a Patient ID, in the system of pseudonyms.

        Raises
        ------
        Unusable
            It is none that a Patient ID can be.
        """
        named = self.pseudonyms.key.pseudonym(Kind.PATIENT, key.system, key.value)
        return PatientKey(self.pseudonyms.system, named)

    def study(self, study: Study, pseudonym: str, zone: ZoneInfo | None) -> Study:
        """Return a study without what names a person.

        Parameters
        ----------
        pseudonym
            Of its patient, by whom dates are shifted.
        zone
            Zone of times that state no offset from UTC; shifted times are told in it.
        """
        shift = _Shift(self.pseudonyms.days(pseudonym), zone)
        # Instances share headers, and what they make of it must stay shared.
        known: dict[int, Header] = {}

        def header(one: Header) -> Header:
            if id(one) not in known:
                known[id(one)] = self._header(one, shift)
            return known[id(one)]

        return replace(
            study,
            series=tuple(_series(one, header) for one in study.series),
            steps=tuple(step._replace(header=header(step.header)) for step in study.steps),
            patient_ids={},
            patients={},
        )

    def _header(self, header: Header, shift: "_Shift") -> Header:
        study, unusable = self._study(header.study, shift)
        selected = header.key_objects
        if selected is not None and selected.title is not None:
            selected = replace(selected, title=replace(selected.title, meaning=None))
        said = header.patient
        return Header(
            sop_class_uid=header.sop_class_uid,
            patient=PatientAttributes(
                birth_date=shift.day(said.birth_date),
                sex=said.sex,
                identity_removed=said.identity_removed,
                dates_modified=said.dates_modified,
                deidentification=_without_meanings(said.deidentification),
            ),
            study=study,
            series=self._series(header.series, shift),
            title=self._text(header.title),
            number_of_frames=header.number_of_frames,
            key_objects=selected,
            remarks=header.remarks + unusable,
        )

    def _study(
        self, said: StudyAttributes, shift: "_Shift"
    ) -> tuple[StudyAttributes, tuple[Remark, ...]]:
        settings = self.imaging_study
        accessions = [(one, self._accession(one)) for one in said.accessions]
        admission_system = issuer_system(said.admission_issuer, {}, settings.encounter_system)
        admission = self._pseudonym(Kind.ADMISSION, admission_system, said.admission_id)
        kept = StudyAttributes(
            started=shift.moment(said.started),
            study_id=self._pseudonym(Kind.STUDY_ID, settings.study_id_system, said.study_id),
            accessions=tuple(one for _, one in accessions if one is not None),
            description=self._text(said.description),
            procedure_codes=self._codes(said.procedure_codes),
            reason_codes=self._codes(said.reason_codes),
            reason_text=self._text(said.reason_text),
            admission_id=admission,
            admission_issuer=self._issuer if admission else None,
        )
        lost = any(one is None and stated.value.strip(" \0") for stated, one in accessions)
        return kept, (Remark("value-unusable", "(0008,0050)"),) if lost else ()

    def _series(self, said: SeriesAttributes, shift: "_Shift") -> SeriesAttributes:
        return replace(
            said,
            description=self._text(said.description),
            started=shift.moment(said.started),
            acquired=shift.moment(said.acquired),
            content=shift.moment(said.content),
            anatomic_regions=self._codes(said.anatomic_regions),
            protocol_name=self._text(said.protocol_name),
            performing=(),
            operators=(),
            location=None,
            station_name=None,
            device_serial=None,
        )

    @property
    def _issuer(self) -> Issuer:
        return Issuer(universal_id=self.pseudonyms.system, universal_id_type="URI")

    def _accession(self, stated: Accession) -> Accession | None:
        settings = self.imaging_study
        system = issuer_system(
            stated.issuer, settings.accession_systems, settings.accession_default_system
        )
        named = self._pseudonym(Kind.ACCESSION, system, stated.value)
        return None if named is None else Accession(named, self._issuer)

    def _pseudonym(self, kind: Kind, system: str | None, value: str | None) -> str | None:
        try:
            return self.pseudonyms.key.pseudonym(kind, system or "", value or "")
        except Unusable:
            return None

    def _text(self, text: str | None) -> str | None:
        return text if self.imaging_study.free_text else None

    def _codes(self, codes: Iterable[Code]) -> tuple[Code, ...]:
        # What a code means is text that anybody may have typed.
        return tuple(codes) if self.imaging_study.free_text else _without_meanings(codes)


def _without_meanings(codes: Iterable[Code]) -> tuple[Code, ...]:
    return tuple(replace(code, meaning=None) for code in codes)


def _series(series: Series, header: Callable[[Header], Header]) -> Series:
    return replace(
        series,
        instances=tuple(one._replace(header=header(one.header)) for one in series.instances),
        stated=None if series.stated is None else header(series.stated),
    )


def _year(birth_date: str, days: int) -> str:
    """Return the year in which a birth date lies once it is shifted; a bare year stays."""
    if len(birth_date) == _YEAR_DIGITS:
        return birth_date
    day = _Shift(days, None).day(date.fromisoformat(birth_date))
    return birth_date[:_YEAR_DIGITS] if day is None else day.isoformat()[:_YEAR_DIGITS]


@dataclass(frozen=True, slots=True)
class _Shift:
    """The shift of one patient; ``days`` is None where dates stay."""

    days: int | None
    zone: ZoneInfo | None

    def day(self, day: date | None) -> date | None:
        if day is None or self.days is None:
            return day
        try:
            return day + timedelta(days=self.days)
        except OverflowError:
            return None

    def moment(self, moment: Moment | None) -> Moment | None:
        """Shift a moment.

        The offset of a summer's day on a date in winter would tell the season: a shifted time has
        the offset of the zone on that date, and is left out where no zone is known.
        """
        if moment is None or self.days is None:
            return moment
        local = self._local(moment)
        day = None if local is None else self.day(local.date)
        return None if day is None or local is None else Moment(day, local.time)

    def _local(self, moment: Moment) -> Moment | None:
        if self.zone is None or moment.time is None:
            return Moment(moment.date)
        if moment.utc_offset is None:
            return moment
        try:
            stated = datetime.combine(moment.date, moment.time, timezone(moment.utc_offset))
            there = stated.astimezone(self.zone)
        except (OverflowError, ValueError):
            return Moment(moment.date)
        return Moment(there.date(), there.time().replace(fold=0))
