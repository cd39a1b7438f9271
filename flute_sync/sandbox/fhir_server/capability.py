"""What the server says of itself (FHIR R4 capabilitystatement.html)."""

from collections.abc import Mapping
from typing import Final

from flute_sync.sandbox.fhir_server.parameters import (
    COMMON,
    PARAMETERS,
    Installed,
    Parameter,
    Resource,
    known,
)

_INTERACTIONS: Final = (
    "create",
    "read",
    "vread",
    "update",
    "delete",
    "history-instance",
    "history-type",
    "search-type",
)


def capability_statement(base: str, date: str, installed: Installed) -> Resource:
    """Describe the server.

    Parameters
    ----------
    base
        Its address.
    date
        When this description was made.
    installed
        Search parameters beyond those of the standard.
    """
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": date,
        "kind": "instance",
        "software": {"name": "flute-sync sandbox"},
        "implementation": {"description": "A sandbox for demo and tests", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "resource": [_resource(name, known(name, installed)) for name in PARAMETERS],
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
                "operation": [
                    {"name": "reindex", "definition": f"{base}/OperationDefinition/reindex"}
                ],
            }
        ],
    }


def _resource(name: str, parameters: Mapping[str, Parameter]) -> Resource:
    return {
        "type": name,
        "interaction": [{"code": code} for code in _INTERACTIONS],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
        "referencePolicy": ["literal", "logical", "enforced"],
        "searchParam": [
            {"name": parameter, "type": one.kind.value}
            for parameter, one in sorted({**COMMON, **parameters}.items())
        ],
    }
