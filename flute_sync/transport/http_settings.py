"""How a peer is reached over HTTP."""

from datetime import timedelta
from typing import Self

from pydantic import model_validator

from flute_sync.settings import HttpUrl, PositiveDuration, SecretFile, Settings
from flute_sync.transport.credentials import AuthSettings, NoAuth


class HttpSettings(Settings):
    """How to reach a peer over HTTP; base of ``[fhir]`` and ``[archive]``.

    Certificates and host names are always verified.
    """

    auth: AuthSettings = NoAuth()
    """The credentials we show."""

    ca_file: SecretFile | None = None
    """PEM certificate authorities to trust instead of the system's."""

    client_cert: SecretFile | None = None
    """PEM certificate chain that shows who we are."""

    client_key_file: SecretFile | None = None
    """PEM key of ``client_cert``, without a passphrase; none: it is in that file."""

    proxy: HttpUrl | None = None
    """HTTP proxy to go through; the environment's is not looked at."""

    connect_timeout: PositiveDuration = timedelta(seconds=10)
    """Longest wait for a connection."""

    read_timeout: PositiveDuration = timedelta(seconds=60)
    """Longest silence of the peer."""

    @model_validator(mode="after")
    def _key_with_certificate(self) -> Self:
        if self.client_key_file is not None and self.client_cert is None:
            raise ValueError("client_key_file without client_cert")
        return self
