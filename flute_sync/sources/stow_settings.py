"""``[stow_rs]``: the DICOMweb address that senders and clients use."""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from flute_sync.settings import Bytes, HttpUrl, Port, PositiveDuration
from flute_sync.sources.http_access import ListenerSettings


def _path(value: str) -> str:
    if not re.fullmatch(r"(?:/[A-Za-z0-9._~-]*[A-Za-z0-9_~-])*/?", value):
        raise ValueError('a path such as "/dicom-web", of letters, digits and . _ ~ -')
    return value.rstrip("/")


class StowRsSettings(ListenerSettings):
    """``[stow_rs]``: the STOW-RS service, and the DICOMweb gateway to the archive.

    A site that sets no other source has it without asking. Reads are passed through in mode
    ``forward``, beyond loopback only with ``auth``.
    """

    enabled: bool = True
    """Whether to listen."""

    port: Port = 8104
    """Port to listen on; 0 takes any that is free."""

    path: Annotated[str, AfterValidator(_path)] = "/dicom-web"
    """Root of the DICOMweb address: uploads go to ``{path}/studies``."""

    mode: Literal["forward", "index"] = "forward"
    """forward: stream uploads on to the archive; index: record headers and discard pixels."""

    archive: str | None = None
    """The name of the archive behind it, where there are several; none: the first."""

    public_url: HttpUrl | None = None
    """This service's DICOMweb address for clients, where it is not the one they ask for (behind a
    proxy)."""

    max_request_bytes: Bytes = 1 << 40
    """Largest upload."""

    max_part_bytes: Bytes = 16 << 30
    """Largest instance of an upload."""

    max_parts: Annotated[int, Field(ge=1)] = 100_000
    """Most instances in an upload."""

    max_uploads: Annotated[int, Field(ge=1, le=1000)] = 32
    """Most uploads at once; one more is answered 503."""

    header_timeout: PositiveDuration = timedelta(seconds=20)
    """How long a client may take for the head of a request."""

    idle_timeout: PositiveDuration = timedelta(seconds=60)
    """How long a sender may send nothing, and a reader leave an answer unread."""

    longest_upload: PositiveDuration = timedelta(hours=12)
    """How long one upload may take."""

    answer_timeout: PositiveDuration = timedelta(minutes=10)
    """How long the archive may take to answer an upload."""

    @property
    def passes_reads(self) -> bool:
        """Whether QIDO-RS and WADO-RS go through to the archive.

        Never to strangers: beyond loopback only with authentication, ``insecure`` or not.
        """
        return self.mode == "forward" and (self.loopback or self.authenticates)
