"""What flute-sync itself is and defines on a FHIR server: its Device, and what searches links.

The definitions are the same at every site and have fixed canonicals, so that installing them
again finds them. The extension is the FLUTE guide's: ours stands in where a server lacks it.

References
----------
FHIR R4 device.html, searchparameter.html, structuredefinition.html; FLUTE guide 0.1.0,
resource-supportingInfo.
"""

from dataclasses import dataclass
from typing import Any, Final

from flute_sync import __version__
from flute_sync.terminology import FLUTE_SUPPORTING_INFO, URI

Resource = dict[str, Any]
Criteria = list[tuple[str, str]]

SEARCH_CODE: Final = "supporting-info"
SEARCH_PARAMETER: Final = "urn:uuid:0f0b8b6c-3f0e-5a51-9a4a-5d1f5c1e7a42"
EXTENSION_IDENTIFIER: Final = "urn:uuid:b8d0d9a4-0c1b-5c57-8a39-6c0f2e7f4d13"
EXTENSION_NAME: Final = "ResourceSupportingInfo"
OLD_SUPPORTING_INFO: Final = "https://flute.com/StructureDefinition/resource-supportingInfo"
"""Canonical of the guide's early drafts, which test data in circulation still bear."""

_DEVICE: Final = "flute-sync"
PUBLISHER: Final = "flute-sync"
DEFINED: Final = "2026-11-22"
"""When our definitions were made, and by whom."""
_CORE: Final = "http://hl7.org/fhir/StructureDefinition/"


@dataclass(frozen=True)
class Definition:
    """A resource of our own, and how it is found on a server.

    Parameters
    ----------
    unique
        Search that finds it, for a conditional create; none: by its identifier.
    others
        Search that also finds what somebody else put there for the same purpose.
    """

    resource: Resource
    unique: Criteria | None = None
    others: Criteria | None = None

    @property
    def kind(self) -> str:
        """Its resource type."""
        kind: str = self.resource["resourceType"]
        return kind


def agent(system: str) -> Resource:
    """Return the Reference by which a Provenance names flute-sync, in the version that wrote it.

    Parameters
    ----------
    system
        The site's own identifier system.
    """
    display = f"{_DEVICE} {__version__}"
    return {"type": "Device", "identifier": _identifier(system), "display": display}


def definitions(system: str) -> tuple[Definition, ...]:
    """Return all that is installed on request, in the order in which it is of use.

    Parameters
    ----------
    system
        The site's own identifier system.
    """
    return (_extension(), _search_parameter(), _device(system))


def search_of_links(reference: str) -> Criteria:
    """Return the search of ImagingStudy for what is linked to a resource, ``Type/id``."""
    return [(SEARCH_CODE, reference)]


def _identifier(system: str) -> dict[str, str]:
    return {"system": system, "value": _DEVICE}


def _device(system: str) -> Definition:
    resource = {
        "resourceType": "Device",
        "identifier": [_identifier(system)],
        "status": "active",
        "deviceName": [{"name": _DEVICE, "type": "user-friendly-name"}],
        "type": {"text": "Software that keeps ImagingStudy resources true to a DICOM archive"},
        "version": [{"value": __version__}],
    }
    return Definition(resource)


def _search_parameter() -> Definition:
    resource = {
        "resourceType": "SearchParameter",
        "url": SEARCH_PARAMETER,
        "version": "1",
        "name": "SupportingInfo",
        "status": "active",
        "experimental": False,
        "date": DEFINED,
        "publisher": PUBLISHER,
        "description": "The FLUTE variables that an imaging study is linked to: PSA, PI-RADS score,"
        " prostate volume, ISUP grade, biopsy, digital rectal examination, family history.",
        "code": SEARCH_CODE,
        "base": ["ImagingStudy"],
        "type": "reference",
        "expression": f"ImagingStudy.extension.where(url = '{FLUTE_SUPPORTING_INFO}')"
        ".value.ofType(Reference)",
        "xpath": f"f:ImagingStudy/f:extension[@url='{FLUTE_SUPPORTING_INFO}']/f:valueReference",
        "xpathUsage": "normal",
        "target": ["FamilyMemberHistory", "Observation", "Procedure"],
        "multipleOr": True,
        "multipleAnd": True,
    }
    others = [("code", SEARCH_CODE), ("base", "ImagingStudy")]
    return Definition(resource, [("url", SEARCH_PARAMETER)], others)


def _extension() -> Definition:
    resource = {
        "resourceType": "StructureDefinition",
        "url": FLUTE_SUPPORTING_INFO,
        "identifier": [{"system": URI, "value": EXTENSION_IDENTIFIER}],
        "version": "0.1.0",
        "name": EXTENSION_NAME,
        "title": "Link to clinical data",
        "status": "draft",
        "date": DEFINED,
        "publisher": PUBLISHER,
        "description": "Says that clinical data belong to an imaging study. This definition stands"
        " in for that of the FLUTE guide, with the same rules, where a server has none.",
        "fhirVersion": "4.0.1",
        "kind": "complex-type",
        "abstract": False,
        "context": [{"type": "element", "expression": "ImagingStudy"}],
        "type": "Extension",
        "baseDefinition": f"{_CORE}Extension",
        "derivation": "constraint",
        "differential": {
            "element": [
                {
                    "id": "Extension",
                    "path": "Extension",
                    "short": "Clinical data that belong to the study",
                    "definition": "One Observation, Procedure or FamilyMemberHistory.",
                },
                {"id": "Extension.extension", "path": "Extension.extension", "max": "0"},
                {
                    "id": "Extension.url",
                    "path": "Extension.url",
                    "fixedUri": FLUTE_SUPPORTING_INFO,
                },
                {
                    "id": "Extension.value[x]",
                    "path": "Extension.value[x]",
                    "type": [{"code": "Reference", "targetProfile": [f"{_CORE}Resource"]}],
                },
            ]
        },
    }
    unique = [("url", f"{FLUTE_SUPPORTING_INFO},{OLD_SUPPORTING_INFO}")]
    return Definition(resource, unique, [("name", EXTENSION_NAME)])
