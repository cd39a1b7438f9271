"""Which archive is read, where it is and how."""

from typing import Annotated, Literal

from pydantic import Field

from flute_sync.settings import HttpUrl
from flute_sync.sources.peer_settings import PeerSettings


class ArchiveSettings(PeerSettings):
    """``[archive]``: the PACS from which metadata is read and to which uploads are forwarded."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$")] = "pacs"
    """The archive's name in the log and in the identifier of its Endpoint; keep it."""

    dicomweb_url: HttpUrl = "http://127.0.0.1:8042/dicom-web"
    """The DICOMweb address that is read from and forwarded to."""

    public_url: HttpUrl | None = None
    """The address that Endpoint tells to others, where it is not ``dicomweb_url``."""

    metadata: Literal["auto", "wado-rs", "qido-rs", "c-find"] = "auto"
    """How a study is read: ``auto`` tries WADO-RS for the study, then by series, then QIDO-RS;
    ``c-find`` asks the DICOM application of ``find_scu``, as ``auto`` does where that alone watches
    the archive and no ``dicomweb_url`` is given."""

    page_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    """How many rows of a search are asked for at once; fewer may come."""

    @property
    def endpoint_url(self) -> str:
        """The address that others should use."""
        return (self.public_url or self.dicomweb_url).rstrip("/")
