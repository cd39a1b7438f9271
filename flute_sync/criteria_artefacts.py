"""The criteria as FHIR resources, for engines of others: EvidenceVariables and a Library with CQL.

What the site has set is in them, so that they say what `flute-sync criteria` says; only a regular
expression for descriptions is not, since engines have dialects of their own.

References
----------
FHIR R4 evidencevariable.html, library.html, metadatatypes.html#Expression; CQL 1.5.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

import orjson

from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.errors import FluteSyncError
from flute_sync.link_settings import LinkSettings
from flute_sync.own_criterion import OwnCriterion
from flute_sync.own_resources import DEFINED, PUBLISHER, Definition, Resource

LIBRARY: Final = "FluteMriBeforeBiopsy"
"""The name of the Library, and of the library in CQL."""
VERSION: Final = "1.0.0"
"""Of the built-in criterion, in each of its forms."""
_CQF_LIBRARY: Final = "http://hl7.org/fhir/StructureDefinition/cqf-library"
_LIBRARY_TYPE: Final = "http://terminology.hl7.org/CodeSystem/library-type"
_STRING: Final = "{urn:hl7-org:elm-types:r1}String"


def fhirpath_names(settings: CriteriaSettings, site: LinkSettings) -> dict[str, str]:
    """Return what names in the built-in criterion stand for at a site that has set this."""
    found = {}
    if settings.prostate == "certain":
        found["prostate"] = "%shown"
    if settings.same_day == "include":
        found["before"] = "%started.%last <= %from"
    if settings.same_day == "exclude":
        found["after"] = "%started.%first >= %to"
    if site.untrusted_dates:
        found["trusted"] = "true"
    if site.prostate_procedures:
        pairs = [tuple(map(_quoted, one.split("|", 1))) for one in site.prostate_procedures]
        which = " or ".join(f"(system = {system} and code = {code})" for system, code in pairs)
        found["procedure"] = f"procedureCode.coding.where({which}).exists()"
    return found


def cql_parameters(settings: CriteriaSettings, site: LinkSettings) -> dict[str, Any]:
    """Return the values of the parameters of the CQL at a site that has set this."""
    return {
        "Same Day": settings.same_day,
        "Prostate": settings.prostate,
        "Untrusted Dates": site.untrusted_dates,
        "Prostate Procedures": list(site.prostate_procedures),
    }


def library_contents(cql: str, elm: bytes, values: Mapping[str, Any]) -> dict[str, bytes]:
    """Return what the Library of the built-in criterion holds, by media type.

    Parameters
    ----------
    cql, elm
        As they come with flute-sync.
    values
        Of the parameters, which become their defaults.
    """
    return {"text/cql": _with_defaults(cql, values), "application/elm+json": _elm(elm, values)}


def library(base: str, system: str, contents: Mapping[str, bytes]) -> Definition:
    """Return the Library of the built-in criterion.

    Parameters
    ----------
    base
        Address under which criteria are published.
    system
        The site's own identifier system.
    contents
        By media type.
    """
    resource = {
        "resourceType": "Library",
        **_metadata(base, system, "Library", LIBRARY, VERSION),
        "name": LIBRARY,
        "experimental": False,
        "title": "MRI of the prostate within one year before the biopsy",
        "type": {"coding": [{"system": _LIBRARY_TYPE, "code": "logic-library"}]},
        "description": "Judges each completed biopsy of a patient: included, excluded or unknown.",
        "content": [
            {"contentType": kind, "data": b64encode(text).decode()}
            for kind, text in contents.items()
        ],
    }
    return _definition(resource)


def by_cql(base: str, system: str, criterion: OwnCriterion) -> Definition:
    """Return the EvidenceVariable of the built-in criterion that refers to the Library."""
    canonical = f"{base}/Library/{LIBRARY}"
    found = _evidence_variable(
        base,
        system,
        criterion,
        criterion.name,
        {name: f'"{LIBRARY}"."{name.title()}"' for name in ("excluded", "included")},
        {"language": "text/cql", "reference": canonical},
    )
    extension = [{"url": _CQF_LIBRARY, "valueCanonical": f"{canonical}|{VERSION}"}]
    return _definition({**found, "extension": extension})


def by_fhirpath(base: str, system: str, criterion: OwnCriterion, suffix: str = "") -> Definition:
    """Return the EvidenceVariable of a criterion that has its FHIRPath expressions.

    Parameters
    ----------
    suffix
        What tells it from another EvidenceVariable of the same criterion.
    """
    language = {"language": "text/fhirpath"}
    name = criterion.name + suffix
    return _definition(
        _evidence_variable(base, system, criterion, name, criterion.expressions, language)
    )


def _evidence_variable(
    base: str,
    system: str,
    criterion: OwnCriterion,
    name: str,
    expressions: Mapping[str, str],
    common: Mapping[str, str],
) -> Resource:
    """Of R4: its characteristics are all to hold, so that whoever is left open is not chosen."""
    index = expressions.get("index")
    judged = f"\n\nOf a Bundle of one patient in which this finds one: {index}" if index else ""
    return {
        "resourceType": "EvidenceVariable",
        **_metadata(base, system, "EvidenceVariable", name, criterion.version),
        "name": re.sub(r"\W", "", name.title()),
        "title": criterion.title,
        "description": criterion.description + judged,
        "type": "dichotomous",
        "characteristic": [
            {
                "description": f"{criterion.title}: {verdict}",
                "definitionExpression": {
                    "name": verdict,
                    "expression": expressions[verdict],
                    **common,
                },
                "exclude": verdict == "excluded",
            }
            for verdict in ("excluded", "included")
        ],
    }


def _metadata(base: str, system: str, kind: str, name: str, version: str) -> Resource:
    return {
        "url": f"{base}/{kind}/{name}",
        "identifier": [{"system": system, "value": f"criteria/{kind}/{name}"}],
        "version": version,
        "status": "active",
        "date": DEFINED,
        "publisher": PUBLISHER,
    }


def _definition(resource: Resource) -> Definition:
    return Definition(resource, [("url", resource["url"])])


def _with_defaults(cql: str, values: Mapping[str, Any]) -> bytes:
    for name, value in values.items():
        stated = re.compile(rf'^(parameter "{re.escape(name)}" \S+ default ).*$', re.MULTILINE)
        cql, count = stated.subn(lambda found: found[1] + _cql(value), cql)  # noqa: B023
        if count != 1:
            raise FluteSyncError(f"the CQL has no parameter {name}")
    return cql.encode()


def _cql(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    return "List<String>{" + ", ".join(map(_quoted, value)) + "}"


def _elm(elm: bytes, values: Mapping[str, Any]) -> bytes:
    tree = orjson.loads(elm)
    for one in tree["library"]["parameters"]["def"]:
        value, default = values[one["name"]], one["default"]
        if isinstance(value, list):
            literals = [{"valueType": _STRING, "value": text, "type": "Literal"} for text in value]
            default |= {"element": literals} if literals else {}
        else:
            default["value"] = str(value).lower() if isinstance(value, bool) else value
    return orjson.dumps(tree)


def _quoted(text: str) -> str:
    """Write a string of FHIRPath and CQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
