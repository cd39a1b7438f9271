"""Writing what must be accounted for: a move to another patient, links; with a Provenance.

References
----------
FHIR R4 provenance.html, http.html#transaction
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flute_sync.bundle import Account, Entry, Resource, Result, full_url, provenance
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
    """Writes with an account; a server that takes no Provenance gets the resource all the same.

    Otherwise a study would stay on a wrong patient.

    Parameters
    ----------
    agent
        Who writes, as a FHIR Reference.
    now
        Aware time of the write.
    account
        Why.
    """

    client: FhirClient
    agent: Mapping[str, Any]
    now: datetime
    account: Account

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

    def created(self, target: str) -> bool:
        """Account for a resource that was just created; tell whether the server took that."""
        said = provenance(target, "CREATE", self.now, self.agent, account=self.account)
        return self._witness(said)

    def _witness(self, said: Resource) -> bool:
        try:
            self.client.create(said)
        except (*_REFUSALS, FhirServerError):
            return False
        return True

    def _provenance(self, target: str, before: str) -> Resource:
        account, when = self.account, self.now
        return provenance(target, "UPDATE", when, self.agent, account=account, revision_of=before)
