"""Moving an ImagingStudy to another patient, with a Provenance that says so.

References
----------
FHIR R4 provenance.html, http.html#transaction
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flute_sync.bundle import Entry, Resource, Result, full_url, provenance
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir_errors import (
    FhirCapabilityMissing,
    FhirRejected,
    FhirServerError,
    FhirUnauthorized,
)

REASON: Final = "The study is of another patient than was stated before."
_REFUSALS: Final = (FhirRejected, FhirUnauthorized, FhirCapabilityMissing)


@dataclass(frozen=True, slots=True)
class Mover:
    """Writes moves; a server that takes no Provenance does not keep a study on a wrong patient.

    Parameters
    ----------
    agent
        Who moves, as a FHIR Reference.
    now
        Aware time of the move.
    """

    client: FhirClient
    agent: Mapping[str, Any]
    now: datetime

    def put(self, moved: Resource, version: str) -> tuple[Result, bool]:
        """Write the resource over the version that it was made from; tell whether with Provenance.

        Raises
        ------
        FhirConflict
            Another version is current.
        FhirRejected
            The server refuses the resource itself.
        """
        address = f"{moved['resourceType']}/{moved['id']}"
        before = f"{address}/_history/{version}"
        if self.client.transactions:
            said = self._provenance(address, before)
            entry = Entry("PUT", address, moved, if_match=version)
            witness = Entry("POST", "Provenance", said, full_url("Provenance", before))
            try:
                return self.client.transaction([entry, witness])[0], True
            except _REFUSALS:
                pass  # the resource, or the Provenance: alone it is seen which
        result = self.client.update(moved, if_match=version)
        target = f"{address}/_history/{result.version}" if result.version else address
        return result, self._witness(self._provenance(target, before))

    def _witness(self, said: Resource) -> bool:
        try:
            self.client.create(said)
        except (*_REFUSALS, FhirServerError):
            return False
        return True

    def _provenance(self, target: str, before: str) -> Resource:
        return provenance(target, "UPDATE", self.now, self.agent, reason=REASON, revision_of=before)
