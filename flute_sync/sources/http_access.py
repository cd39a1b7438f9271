"""Who may use a listener of ours: addresses, TLS and credentials, in one set of rules."""

import base64
import binascii
import hmac
import ipaddress
from typing import Annotated

from pydantic import Field, model_validator

from flute_sync.settings import Port, SecretFile, Settings
from flute_sync.transport.credentials import BasicAuth, BearerAuth, NoAuth
from flute_sync.transport.secret import Secret

ListenerAuth = Annotated[NoAuth | BasicAuth | BearerAuth, Field(discriminator="method")]


def is_loopback(host: str) -> bool:
    """Tell whether only programs of this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TlsSettings(Settings):
    """The certificate chain a listener shows, and its key where the chain's file lacks it."""

    cert_file: SecretFile
    """PEM certificate chain that the listener shows."""

    key_file: SecretFile | None = None
    """PEM key of it, without a passphrase; none: it is in ``cert_file``."""


class AddressSettings(Settings):
    """Where a listener stands."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on; beyond loopback it needs ``tls`` and ``auth``, or ``insecure``."""

    port: Port
    """Port to listen on; 0 takes any that is free."""

    tls: TlsSettings | None = None
    """The certificate by which clients know this service; none: plain HTTP."""

    insecure: bool = False
    """Listen beyond loopback although ``tls`` or ``auth`` is lacking."""

    @property
    def loopback(self) -> bool:
        """Whether only programs of this machine can reach the listener."""
        return is_loopback(self.host)


class ListenerSettings(AddressSettings):
    """Where a listener stands and whom it lets in.

    A host beyond loopback needs ``tls`` and ``auth``, or ``insecure = true``.
    """

    auth: ListenerAuth = NoAuth()
    """What clients must show."""

    @model_validator(mode="after")
    def _is_protected(self) -> "ListenerSettings":
        protected = self.tls is not None and self.authenticates
        if not (self.loopback or protected or self.insecure):
            raise ValueError(
                "a host beyond this machine needs tls and auth, or an explicit insecure = true"
            )
        return self

    @property
    def authenticates(self) -> bool:
        """Whether credentials are asked for."""
        return not isinstance(self.auth, NoAuth)


class Access:
    """Check the credentials of a request, in time that does not tell how nearly they fit."""

    def __init__(self, auth: NoAuth | BasicAuth | BearerAuth) -> None:
        self._user: bytes | None = None
        self._secret: Secret | None = None
        self.challenge = b""
        if isinstance(auth, BasicAuth):
            self._user = auth.user.encode()
            self._secret = Secret(auth.password_file)
            self.challenge = b'Basic realm="flute-sync", charset="UTF-8"'
        elif isinstance(auth, BearerAuth):
            self._secret = Secret(auth.token_file)
            self.challenge = b'Bearer realm="flute-sync"'

    def admits(self, authorization: bytes | None) -> bool:
        """Tell whether a request may pass.

        Parameters
        ----------
        authorization
            The value of the Authorization header.

        Raises
        ------
        SecretUnreadable
            When the file with the password or token cannot be read.

        References
        ----------
        RFC 7617, RFC 6750 2.1
        """
        if self._secret is None:
            return True
        scheme, _, given = (authorization or b"").strip().partition(b" ")
        expected = self._secret.read().strip().encode()
        if self._user is None:
            return hmac.compare_digest(given.strip(), expected) & (scheme.lower() == b"bearer")
        try:
            pair = base64.b64decode(given.strip(), validate=True)
        except binascii.Error:
            pair = b""
        expected = self._user + b":" + expected
        return hmac.compare_digest(pair, expected) & (scheme.lower() == b"basic")
