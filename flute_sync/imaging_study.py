"""Study -> ImagingStudyFlute.

The resource is a function of the study, the settings and what the context tells: the same study
gives the same bytes, whatever the order or the repetition in which its instances came.

References
----------
FLUTE guide 0.1.0, ImagingStudyFlute; FHIR R4 imagingstudy-mappings.html#dicom; PS3.3 C.7.2.1
(2026b); HL7 Europe Imaging Report R4 1.0.0-ballot.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from flute_sync.body_part import ANATOMICAL_REGIONS
from flute_sync.coding import accession_identifier, concepts, identifier, issuer_system
from flute_sync.imaging_series import SeriesScope, in_order, practitioners, series_element
from flute_sync.mapping import (
    Context,
    CountedRemark,
    FhirJson,
    ImagingStudySettings,
    Remarks,
)
from flute_sync.rejection import Standing, Status, standing
from flute_sync.resource_check import check
from flute_sync.started import Started, date_untrusted, is_shifted, other_days
from flute_sync.study import (
    Accession,
    Header,
    Issuer,
    Series,
    Study,
    prevalent,
    union,
)
from flute_sync.terminology import (
    ACQUISITION_MODALITY,
    DCM,
    DICOM_UID,
    EU_ANATOMICAL_REGION,
    EU_IMAGING_STUDY,
    FLUTE_IMAGING_STUDY,
    FLUTE_SYNC_TAG,
    OBSERVATION_VALUE,
    OID,
    SECURITY_LABEL,
    SNOMED_CT,
)
from flute_sync.valuerep import Moment, Unusable, clean_identifier, clean_text, fhir_datetime

__all__ = ["Context", "CountedRemark", "ImagingStudySettings", "Mapped", "map_study", "to_json"]

_Headers = Mapping[Header, int]


@dataclass(frozen=True, slots=True)
class Mapped:
    """An ImagingStudyFlute that is valid, and what was left out or doubted on the way."""

    resource: FhirJson
    remarks: tuple[CountedRemark, ...]


def to_json(resource: Mapping[str, object]) -> bytes:
    """Write a resource as JSON in UTF-8."""
    return orjson.dumps(resource)


def map_study(study: Study, context: Context, settings: ImagingStudySettings) -> Mapped:
    """Say a study as ImagingStudyFlute, with its status.

    Raises
    ------
    MappingError
        When the result would not be valid; it names the element, never a value.
    """
    remarks = Remarks(study.evidence)
    state = standing(study, context.status_before)
    if state.rejected:
        remarks.add("instance-rejected", "(0040,A043)", state.rejected)
    if state.reappeared:
        remarks.add("study-reappeared", "(0020,000D)")
    if state.withheld:
        remarks.add("study-withheld", "(0040,A043)")
    if state.partly_expired:
        remarks.add("retention-expired-in-part", "(0040,A043)")
    resource = _Mapping(state, context, settings, remarks, study).resource()
    check(resource)
    return Mapped(resource, remarks.counted())


class _Mapping:
    """One study being mapped: what several of its elements need."""

    def __init__(
        self,
        state: Standing,
        context: Context,
        settings: ImagingStudySettings,
        remarks: Remarks,
        whole: Study,
    ) -> None:
        self._state = state
        self._context = context
        self._settings = settings
        self._remarks = remarks
        self._headers: _Headers = state.study.headers or whole.evidence
        self._whole = whole
        self._started = Started(self._headers, remarks)
        self._accessions = self._listed_accessions()
        self._home = [] if state.retention_expired else _home(state.study, context)

    def resource(self) -> FhirJson:
        if self._state.status is Status.ENTERED_IN_ERROR:
            return {
                "resourceType": "ImagingStudy",
                "meta": self._meta([]),
                "identifier": self._identifiers(),
                "status": self._state.status.value,
                "subject": dict(self._context.subject),
            }
        series = self._series()
        moment = self._started.of_study(self._headers)
        tags = ["retention-expired"] if self._state.retention_expired else []
        tags += self._dating(moment)
        zone = self._context.zone
        elements: FhirJson = {
            "resourceType": "ImagingStudy",
            "meta": self._meta(sorted(tags)),
            "extension": self._anatomical_regions(series),
            "identifier": self._identifiers(),
            "status": self._state.status.value,
            "modality": _modalities(series) or self._planned_modalities(),
            "subject": dict(self._context.subject),
            "encounter": self._encounter(),
            "started": fhir_datetime(moment, zone) if moment else None,
            "basedOn": self._based_on(),
            "referrer": next(iter(self._referrers()), None),
            "interpreter": self._interpreters(),
            "endpoint": [{"reference": reference} for reference in self._study_endpoints()],
            **self._counts(series),
            "procedureCode": self._procedure_codes(),
            "location": self._location(),
            "reasonCode": self._reason_codes(),
            "description": self._free_text(lambda header: header.study.description),
            "series": series,
        }
        return {name: value for name, value in elements.items() if value not in (None, [])}

    def _dating(self, moment: Moment | None) -> list[str]:
        """Tag dates that are shifted, and those that must not decide anything."""
        told, headers = self._context, self._headers
        tags = ["date-shifted"] if is_shifted(headers, told.pseudonyms) else []
        doubted = told.dates_doubted or other_days(headers, told.pseudonyms)
        if doubted or date_untrusted(moment, headers, told.zone, told.now):
            self._remarks.add("date-untrusted", "(0008,0020)")
            tags.append("date-untrusted")
        return tags

    # -- identity ----------------------------------------------------------------------------

    def _meta(self, tags: Sequence[str]) -> FhirJson:
        meta: FhirJson = {"profile": [FLUTE_IMAGING_STUDY]}
        if self._settings.eu_strict:
            meta["profile"].append(EU_IMAGING_STUDY)
        if self._context.source:
            meta["source"] = self._context.source
        if label := self._security_label():
            meta["security"] = [
                {"system": OBSERVATION_VALUE, "code": label, "display": SECURITY_LABEL[label]}
            ]
        if tags:
            meta["tag"] = [{"system": FLUTE_SYNC_TAG, "code": tag} for tag in tags]
        return meta

    def _security_label(self) -> str | None:
        if self._settings.deidentification == "anonymised":
            return "ANONYED"
        stated = bool(self._headers) and all(
            header.patient.identity_removed for header in self._headers
        )
        return "PSEUDED" if stated or self._settings.deidentification != "none" else None

    def _identifiers(self) -> list[FhirJson]:
        uid = self._whole.study_instance_uid
        kind = {"system": DCM, "code": "110180", "display": "Study Instance UID"}
        official = {"use": "official", "type": {"coding": [kind]}}
        identifiers: list[FhirJson] = [official | {"system": DICOM_UID, "value": OID + uid}]
        if not self._settings.eu_strict:
            identifiers.append({"value": uid})
        if self._settings.accession_identifier:
            identifiers += [
                accession_identifier(value, system) for system, value, _ in self._accessions
            ]
        study_id = clean_text(prevalent(self._headers, lambda h: h.study.study_id) or "")
        if self._settings.study_id_system and study_id:
            local = identifier(study_id, self._settings.study_id_system)
            identifiers.append({"use": "secondary"} | local)
        return identifiers

    def _listed_accessions(self) -> list[tuple[str | None, str, Accession]]:
        found: dict[tuple[str, str], tuple[str | None, str, Accession]] = {}
        stated = union(self._headers, lambda header: header.study.accessions)
        for accession in sorted(stated, key=repr):
            system = self._accession_system(accession.issuer)
            if value := self._identifier_value(accession.value, "(0008,0050)"):
                found.setdefault((system or "", value), (system, value, accession))
        return [found[key] for key in sorted(found)]

    def _identifier_value(self, text: str | None, tag: str) -> str | None:
        try:
            return clean_identifier(text or "")
        except Unusable:
            self._remarks.add("value-unusable", tag)
            return None

    def _accession_system(self, issuer: Issuer | None) -> str | None:
        return issuer_system(
            issuer, self._settings.accession_systems, self._settings.accession_default_system
        )

    def _based_on(self) -> list[FhirJson]:
        requests = []
        for system, value, accession in self._accessions:
            if system is None:
                self._remarks.add("accession-without-system", "(0008,0050)")
                if self._settings.eu_strict:
                    continue
            request: FhirJson = {}
            if reference := self._context.service_requests.get(accession):
                request["reference"] = reference
            request["type"] = "ServiceRequest"
            request["identifier"] = accession_identifier(value, system)
            requests.append(request)
        return requests

    # -- people and places, off unless asked for ---------------------------------------------

    def _encounter(self) -> FhirJson | None:
        admission = prevalent(self._headers, lambda header: header.study.admission_id)
        if not self._settings.encounter:
            return None
        value = self._identifier_value(admission, "(0038,0010)")
        if value is None:
            return None
        issuer = prevalent(
            self._headers,
            lambda h: h.study.admission_issuer if h.study.admission_id == admission else None,
        )
        system = issuer_system(issuer, {}, self._settings.encounter_system)
        return {"type": "Encounter", "identifier": identifier(value, system, "VN")}

    def _referrers(self) -> list[FhirJson]:
        people = prevalent(self._headers, lambda header: header.study.referring or None)
        return practitioners((people or ())[:1]) if self._settings.referrer else []

    def _interpreters(self) -> list[FhirJson]:
        people = union(self._headers, lambda header: header.study.reading)
        return practitioners(people) if self._settings.interpreter else []

    def _location(self) -> FhirJson | None:
        place = clean_text(prevalent(self._headers, lambda h: h.series.location) or "")
        return {"display": place} if self._settings.location and place else None

    # -- what was done and why ---------------------------------------------------------------

    def _procedure_codes(self) -> list[FhirJson]:
        codes = union(self._headers, lambda header: header.study.procedure_codes)
        return concepts(codes, self._settings.coding_schemes, self._remarks, "(0008,1032)")

    def _reason_codes(self) -> list[FhirJson]:
        codes = union(self._headers, lambda header: header.study.reason_codes)
        reasons = concepts(codes, self._settings.coding_schemes, self._remarks, "(0040,100A)")
        text = self._free_text(lambda header: header.study.reason_text)
        return reasons or ([{"text": text}] if text else [])

    def _free_text(self, value: Callable[[Header], str | None]) -> str | None:
        if not self._settings.free_text:
            return None
        return clean_text(prevalent(self._headers, value) or "")

    # -- series, counts, endpoints -----------------------------------------------------------

    def _series(self) -> list[FhirJson]:
        scope = SeriesScope(
            self._settings,
            self._context,
            self._remarks,
            self._started,
            self._series_endpoints,
            set(),
        )
        elements = (series_element(one, scope) for one in in_order(self._state.study.series))
        return [element for element in elements if element is not None]

    def _counts(self, series: Sequence[FhirJson]) -> dict[str, int]:
        """Take what the archive counts, less what was taken back, where that is more."""
        gone = self._state.rejected + self._state.notes
        series_gone = len(self._whole.series) - len(self._state.study.series)
        mapped = sum(one.get("numberOfInstances", 0) for one in series)
        return {
            "numberOfSeries": max(len(series), (self._whole.series_count or 0) - series_gone),
            "numberOfInstances": max(mapped, (self._whole.instance_count or 0) - gone),
        }

    def _study_endpoints(self) -> list[str]:
        return [ref for archive in self._home for ref in self._context.endpoints[archive]]

    def _series_endpoints(self, series: Series) -> list[str]:
        """Name where a series lives, unless it lives where the study does."""
        if self._state.retention_expired or not series.archives.isdisjoint(self._home):
            return []
        known = self._context.endpoints
        return [ref for archive in known if archive in series.archives for ref in known[archive]]

    def _planned_modalities(self) -> list[FhirJson]:
        """Name the modalities of procedure steps that brought no series yet."""
        if self._whole.series:
            return []
        return _acquisition_modalities({step.header.series.modality for step in self._whole.steps})

    # -- HL7 Europe --------------------------------------------------------------------------

    def _anatomical_regions(self, series: Sequence[FhirJson]) -> list[FhirJson]:
        if not self._settings.eu_strict:
            return []
        sites = {one["bodySite"]["code"] for one in series if "code" in one.get("bodySite", {})}
        regions = {region for site in sites for region in ANATOMICAL_REGIONS.get(site, ())}
        return [
            {
                "url": EU_ANATOMICAL_REGION,
                "valueCodeableConcept": {
                    "coding": [{"system": SNOMED_CT, "code": region.code}],
                    "text": region.meaning,
                },
            }
            for region in sorted(regions)
        ]


def _home(study: Study, context: Context) -> list[str]:
    """Name the archives that give the whole study, else the one that gives most series."""
    held = [archive for archive in context.endpoints if archive in study.archives]
    series = [one for one in study.series if one.archives and one.headers]
    whole = [archive for archive in held if all(archive in one.archives for one in series)]
    if whole or not held:
        return whole
    votes = Counter(archive for one in series for archive in one.archives)
    return [max(held, key=lambda archive: votes[archive])]


def _modalities(series: Sequence[FhirJson]) -> list[FhirJson]:
    return _acquisition_modalities({one["modality"].get("code") for one in series})


def _acquisition_modalities(stated: Iterable[str | None]) -> list[FhirJson]:
    codes = {code for code in stated if code} & ACQUISITION_MODALITY.keys()
    return [
        {"system": DCM, "code": code, "display": ACQUISITION_MODALITY[code]}
        for code in sorted(codes)
    ]
