"""``[store_scp.commitment]``: where reports on storage commitment go."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import Field, StringConstraints

from flute_sync.settings import PositiveDuration, Settings
from flute_sync.sources.dimse_peer import AeTitle, DimsePeerSettings, PeerTlsSettings

Address = Annotated[str, StringConstraints(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):\d{1,5}$")]
"""``host:port``."""


class CommitmentSettings(Settings):
    """``[store_scp.commitment]``: how senders are told what the archive holds."""

    peers: Mapping[AeTitle, Address] = {}
    """Addresses ("host:port") of senders by AE title, where they take reports on an association of
    our own; the others get theirs on the association on which they asked, while it is open."""

    calling_ae_title: AeTitle | None = None
    """The title by which we call them; none: ``store_scp.ae_title``."""

    tls: PeerTlsSettings | None = None
    """TLS towards them; none: they are called in the clear."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """How often the archive is asked, and a report tried, before that is given up."""

    pause: PositiveDuration = timedelta(seconds=10)
    """How long to wait before the second attempt; each further wait is twice as long."""

    max_requests: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Most requests that may wait; one more is refused with 0213H."""

    max_instances: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Most instances in one request; one with more is refused with 0213H."""

    def peer(self, ae_title: str, own_ae_title: str) -> DimsePeerSettings | None:
        """Return how a sender is called; None where its address is not known."""
        address = self.peers.get(ae_title)
        if address is None:
            return None
        host, _, port = address.rpartition(":")
        return DimsePeerSettings(
            host=host.strip("[]"),
            port=int(port),
            ae_title=ae_title,
            calling_ae_title=self.calling_ae_title or own_ae_title,
            tls=self.tls,
        )
