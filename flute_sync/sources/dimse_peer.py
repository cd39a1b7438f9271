"""How a DICOM application elsewhere is reached: address, titles, TLS.

References
----------
PS3.5 6.2 for AE, PS3.8 9.1 and PS3.15 B.12 for TLS (2026b).
"""

import socket
import ssl
from datetime import timedelta
from typing import Annotated, Final

from pydantic import Field

from flute_sync.settings import Port, PositiveDuration, SecretFile, Settings
from flute_sync.settings_errors import ConfigurationError, SecretUnreadable
from flute_sync.transport.secret import secret_path

_SILENT_FOR: Final = timedelta(minutes=1)
_ASKED_EVERY: Final = timedelta(seconds=20)
_ASKED_OFTEN: Final = 6

AeTitle = Annotated[str, Field(pattern=r"^[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?$")]
"""Up to 16 characters, neither backslash nor control, spaces only between (PS3.5 6.2)."""


class PeerTlsSettings(Settings):
    """TLS towards a DICOM application; its certificate and host name are always verified."""

    ca_file: SecretFile | None = None
    """PEM certificate authorities to trust instead of the system's."""

    cert_file: SecretFile | None = None
    """PEM certificate chain that shows who we are."""

    key_file: SecretFile | None = None
    """PEM key of ``cert_file``, without a passphrase; none: it is in that file."""

    def context(self) -> ssl.SSLContext:
        """Return what a connection is wrapped with.

        Raises
        ------
        ConfigurationError, SecretUnreadable
            When a certificate or key cannot be used.
        """
        authorities = None if self.ca_file is None else str(secret_path(self.ca_file))
        try:
            context = ssl.create_default_context(cafile=authorities)
        except (OSError, ssl.SSLError):
            raise ConfigurationError("ca_file: no readable PEM certificates") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file is not None:
            key = self.key_file
            try:
                context.load_cert_chain(
                    secret_path(self.cert_file), key and secret_path(key), password=""
                )
            except (OSError, ssl.SSLError):
                raise SecretUnreadable("cert_file, key_file: not a usable pair") from None
        return context


class DimsePeerSettings(Settings):
    """A DICOM application that we call."""

    host: Annotated[str, Field(min_length=1)]
    """Its host name or address."""

    port: Port = 104
    """The port it listens on."""

    ae_title: AeTitle
    """Its application entity title."""

    calling_ae_title: AeTitle = "FLUTE_SYNC"
    """The title by which we call it."""

    tls: PeerTlsSettings | None = None
    """TLS 1.2 or later towards it; none: it is called in the clear."""

    connect_timeout: PositiveDuration = timedelta(seconds=10)
    """Longest wait for a connection, and for an association on it."""

    answer_timeout: PositiveDuration = timedelta(seconds=60)
    """Longest wait for the answer to a request, and for it to take what it is sent."""


def keep_alive(connection: socket.socket) -> None:
    """Let TCP find out about a peer that is gone without a word, within three minutes.

    Associations may be open for hours. One whose modality was switched off would be counted for as
    long, and firewalls forget connections on which nothing moves.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", int(_SILENT_FOR.total_seconds())),
        ("TCP_KEEPINTVL", int(_ASKED_EVERY.total_seconds())),
        ("TCP_KEEPCNT", _ASKED_OFTEN),
    ):
        if option := getattr(socket, name, None):  # of Linux
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
