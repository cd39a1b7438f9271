"""Where the FHIR server is, and how much it may answer."""

from datetime import timedelta

from flute_sync.settings import Bytes, HttpUrl, PositiveDuration
from flute_sync.transport.http_settings import HttpSettings


class FhirSettings(HttpSettings):
    """``[fhir]``: the FHIR server."""

    base_url: HttpUrl
    """The service base, such as "https://fhir.example/fhir". The ledger belongs to it: a changed
    address stops the service rather than write everything twice."""

    provenance: bool = False
    """Add a Provenance to every write, in one transaction with it."""

    answer_timeout: PositiveDuration = timedelta(minutes=5)
    """Longest time for one answer as a whole."""

    largest_answer_bytes: Bytes = 256 * 1024 * 1024
    """An answer beyond this is refused."""
