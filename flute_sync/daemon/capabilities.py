"""What the settings ask of the FHIR server."""

from flute_sync.daemon.config import Config
from flute_sync.fhir.capability import Capabilities
from flute_sync.fhir.client import FhirClient


def required(client: FhirClient, config: Config) -> Capabilities:
    """Return what the server can do, after making sure that it is enough.

    Raises
    ------
    FhirCapabilityMissing
        It lacks something without which no study can be written as the settings say.
    FluteSyncError
        It does not answer.
    """
    found = client.capabilities()
    found.require(
        client_ids=config.imaging_study.id_strategy == "hash",
        create_patients=config.patient.policy == "create",
        transactions=config.fhir.provenance,
    )
    return found
