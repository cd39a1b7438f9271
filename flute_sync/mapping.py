"""What the mapping to ImagingStudyFlute is told besides the study, and what it remarks.

References
----------
FHIR R4 imagingstudy.html; PS3.15 Annex E (2026b) on de-identification.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from flute_sync.pseudonym_settings import PseudonymSettings
from flute_sync.settings import Settings, Uri
from flute_sync.study import Accession, Header, Remark

FhirJson = dict[str, Any]
"""A FHIR element or resource in its JSON form; built fresh for each study, never shared."""


class ImagingStudySettings(Settings):
    """``[imaging_study]``: what an ImagingStudyFlute holds.

    People (referrer, interpreter, performer), places, admissions and the Study ID stay out unless
    asked for: research needs none of them.
    """

    identifiers: Literal["default", "eu-strict"] = "default"
    """default: the Study Instance UID as urn:oid and once more in plain; eu-strict: as HL7
    Europe's imaging guide has it, with its extensions."""
    accession_identifier: bool = False
    """Repeat the accession number as an identifier of the study."""
    accession_systems: Mapping[str, Uri] = {}
    """Issuer of accession numbers -> identifier system."""
    accession_default_system: Uri | None = None
    """Identifier system of accession numbers that name no issuer."""
    coding_schemes: Mapping[str, Uri] = {}
    """Private coding scheme designator -> code system."""
    study_id_system: Uri | None = None
    """Identifier system of the Study ID; none: the Study ID is left out."""
    encounter: bool = False
    """State the admission as encounter."""
    encounter_system: Uri | None = None
    """Identifier system of admissions that name no issuer."""
    referrer: bool = False
    """State the referring physician."""
    interpreter: bool = False
    """State the reading physicians."""
    location: bool = False
    """State the department."""
    performer: bool = False
    """State performing physicians, operators and the device of each series."""
    instances: Literal["full", "none"] = "full"
    """full: list every instance; none: only count them."""
    deidentification: Literal["none", "pseudonymised", "anonymised"] = "none"
    """What this site's images are; becomes a security label."""
    free_text: bool = Field(
        default_factory=lambda said: said.get("deidentification", "none") == "none"
    )
    """Keep descriptions, document titles and reasons; default: unless de-identified."""
    id_strategy: Literal["server", "hash"] = "server"
    """Who chooses the resource's id: the server, or a hash of the study's UID."""

    @property
    def eu_strict(self) -> bool:
        """Whether the resource must also be one of HL7 Europe's imaging guide."""
        return self.identifiers == "eu-strict"

    @model_validator(mode="after")
    def _eu_guide_forbids(self) -> Self:
        if self.eu_strict and (self.accession_identifier or self.study_id_system):
            raise ValueError(
                "eu-strict allows one identifier: no accession_identifier, no study_id_system"
            )
        if self.eu_strict and self.performer:
            raise ValueError("eu-strict allows no performer that is not a resource")
        return self


@dataclass(frozen=True, slots=True)
class Context:
    """What is known outside the study when it is mapped.

    Parameters
    ----------
    subject
        The Reference to the Patient, literal or logical.
    now
        The time against which dates are judged.
    endpoints
        Name of an archive -> references to its Endpoint resources; the first archive comes first.
    source
        DICOMweb address of the archive; becomes ``meta.source``.
    zone
        Zone of DICOM times that state no offset from UTC.
    service_requests
        References to ServiceRequests known to hold an accession number.
    status_before
        The status of the resource as it is, None where there is none.
    pseudonyms
        Whether the dates of the study and of clinical data go together.
    dates_doubted
        Whether they may not although the settings say so.
    """

    subject: Mapping[str, Any]
    now: datetime
    endpoints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str | None = None
    zone: ZoneInfo | None = None
    service_requests: Mapping[Accession, str] = field(default_factory=dict)
    status_before: str | None = None
    pseudonyms: PseudonymSettings = field(default_factory=PseudonymSettings)
    dates_doubted: bool = False


@dataclass(frozen=True, slots=True)
class CountedRemark:
    """A remark and how many instances (or, for a series or study, elements) it concerns."""

    code: str
    tag: str
    count: int


class Remarks:
    """Remarks of one mapping, counted: what was left out, mended or doubted, never a value."""

    def __init__(self, headers: Mapping[Header, int]) -> None:
        self._counts: Counter[Remark] = Counter()
        for header, instances in headers.items():
            for remark in header.remarks:
                self._counts[remark] += instances

    def add(self, code: str, tag: str, count: int = 1) -> None:
        """Note a remark; ``tag`` is ``"(gggg,eeee)"``."""
        self._counts[Remark(code, tag)] += count

    def counted(self) -> tuple[CountedRemark, ...]:
        """Return all remarks by code and tag."""
        return tuple(
            CountedRemark(remark.code, remark.tag, count)
            for remark, count in sorted(
                self._counts.items(), key=lambda item: (item[0].code, item[0].tag)
            )
        )
