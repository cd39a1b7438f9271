"""`[fetch]`: how images are brought to disk, and from where."""

from typing import Annotated

from pydantic import Field

from flute_sync.retrieval_names import Naming
from flute_sync.settings import Bytes, HttpUrl, SecretFile, Settings


class FetchSettings(Settings):
    """``[fetch]``: how ``flute-sync fetch`` brings images to disk."""

    connections: Annotated[int, Field(ge=1, le=64)] = 4
    """Series that are retrieved at once, each on a connection of its own."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 4
    """How often a request is sent that fails for a temporary reason, with the waits of
    ``[retry]``."""

    max_instance_bytes: Bytes = 16 << 30
    """Largest instance; a larger one is refused."""

    endpoints: tuple[HttpUrl, ...] = ()
    """DICOMweb addresses that an Endpoint may name beside those of the archives; credentials never
    go there."""

    names: Naming = "pseudonym"
    """How folders and files are named: by keyed pseudonyms, or ``uid``: by the patient's id on the
    FHIR server and by UIDs. What is in the files is as the archive holds it, either way."""

    key_file: SecretFile | None = None
    """Key of the pseudonyms, so that they are the same in every folder; none: each has its own."""
