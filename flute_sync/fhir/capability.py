"""What a FHIR server says that it can do, and what flute-sync cannot do without.

References
----------
FHIR R4 capabilitystatement.html
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flute_sync.fhir_errors import FhirCapabilityMissing, FhirServerError

_R4: Final = re.compile(r"4\.0(\.\d+)?")
_NEEDED: Final[Mapping[str, frozenset[str]]] = {
    "ImagingStudy": frozenset({"read", "create", "update", "search-type"}),
    "Patient": frozenset({"read", "search-type"}),
    "Endpoint": frozenset({"read", "create", "search-type"}),
}


@dataclass(frozen=True)
class Capabilities:
    """A CapabilityStatement, as far as flute-sync asks.

    ``interactions`` and ``flags`` are by resource type; ``system`` are the whole server's
    interactions.
    """

    fhir_version: str
    software: str | None = None
    system: frozenset[str] = frozenset()
    interactions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def bundles(self) -> bool:
        """Whether several requests may go in one; HAPI names only the transaction."""
        return bool(self.system & {"batch", "transaction"})

    @property
    def searchable(self) -> frozenset[str]:
        """The resource types that may be searched."""
        return self._that_can("search-type")

    @property
    def historical(self) -> frozenset[str]:
        """The resource types of which the history is told as a whole."""
        return self._that_can("history-type")

    def _that_can(self, interaction: str) -> frozenset[str]:
        return frozenset(kind for kind, can in self.interactions.items() if interaction in can)

    def require(
        self, *, client_ids: bool = False, create_patients: bool = False, transactions: bool = False
    ) -> None:
        """Refuse a server that lacks something without which no study can be written.

        Parameters
        ----------
        client_ids
            Whether resources get ids of our choosing instead of conditional creates.
        create_patients
            Whether Patients are created.
        transactions
            Whether writes carry a Provenance.

        Raises
        ------
        FhirCapabilityMissing
            Names all that is missing.
        """
        missing = [*self._missing(client_ids, create_patients)]
        if transactions and "transaction" not in self.system:
            missing.append("transaction (for fhir.provenance)")
        if missing:
            raise FhirCapabilityMissing(", ".join(missing))

    def _missing(self, client_ids: bool, create_patients: bool) -> Iterator[str]:
        if not _R4.fullmatch(self.fhir_version):
            yield "FHIR version 4.0.1"
        for kind, needed in _NEEDED.items():
            extra = {"create"} if create_patients and kind == "Patient" else frozenset[str]()
            lacking = (needed | extra) - self.interactions.get(kind, frozenset())
            yield from (f"{interaction} of {kind}" for interaction in sorted(lacking))
            # A server need not list its search parameters; one that does should list this.
            listed = {one.get("name") for one in _dicts(self._of(kind).get("searchParam"))}
            if listed and "identifier" not in listed:
                yield f"search of {kind} by identifier"
        studies = self._of("ImagingStudy")
        if not client_ids and studies.get("conditionalCreate") is not True:
            yield "conditional create of ImagingStudy"
        # HAPI leaves updateCreate out although it can.
        if client_ids and studies.get("updateCreate") is False:
            yield "create by update of ImagingStudy"
        if studies.get("versioning") == "no-version":
            yield "versions of ImagingStudy"

    def _of(self, kind: str) -> Mapping[str, Any]:
        return self.flags.get(kind, {})


def capabilities(statement: object) -> Capabilities:
    """Read a CapabilityStatement.

    Raises
    ------
    FhirServerError
        It is none.
    """
    if not isinstance(statement, dict) or statement.get("resourceType") != "CapabilityStatement":
        raise FhirServerError("metadata is no CapabilityStatement")
    server = next((rest for rest in _dicts(statement.get("rest")) if _is_server(rest)), {})
    resources = {str(resource.get("type")): resource for resource in _dicts(server.get("resource"))}
    software = statement.get("software")
    return Capabilities(
        fhir_version=str(statement.get("fhirVersion", "")),
        software=str(software.get("name")) if isinstance(software, dict) else None,
        system=_codes(server),
        interactions={kind: _codes(resource) for kind, resource in resources.items()},
        flags=resources,
    )


def _is_server(rest: Mapping[str, Any]) -> bool:
    return rest.get("mode") == "server"


def _codes(holder: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(str(one.get("code")) for one in _dicts(holder.get("interaction")))


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
