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
    """STOW-RS service and DICOMweb gateway.

    ``mode`` is "forward" (stream on to the archive) or "index" (record headers, discard pixels).
    ``public_url`` is the service's address for clients where it is not the one they ask for.
    ``idle_timeout`` is how long a sender may send nothing, ``longest_upload`` how long one
    request may take, ``answer_timeout`` how long the archive may take to answer an upload.
    """

    enabled: bool = True
    port: Port = 8104
    path: Annotated[str, AfterValidator(_path)] = "/dicom-web"
    mode: Literal["forward", "index"] = "forward"
    public_url: HttpUrl | None = None
    max_request_bytes: Bytes = 1 << 40
    max_part_bytes: Bytes = 16 << 30
    max_parts: Annotated[int, Field(ge=1)] = 100_000
    max_uploads: Annotated[int, Field(ge=1, le=1000)] = 32
    header_timeout: PositiveDuration = timedelta(seconds=20)
    idle_timeout: PositiveDuration = timedelta(seconds=60)
    longest_upload: PositiveDuration = timedelta(hours=12)
    answer_timeout: PositiveDuration = timedelta(minutes=10)

    @property
    def passes_reads(self) -> bool:
        """Whether QIDO-RS and WADO-RS go through to the archive.

        Never to strangers: beyond loopback only with authentication, ``insecure`` or not.
        """
        return self.mode == "forward" and (self.loopback or self.authenticates)
