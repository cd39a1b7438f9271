"""``[store_scp]``: the DICOM address that modalities and the PACS send to."""

import ssl
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from flute_sync.settings import Port, PositiveDuration, SecretFile, Settings
from flute_sync.settings_errors import SecretUnreadable
from flute_sync.sources.commitment_settings import CommitmentSettings
from flute_sync.sources.dimse_peer import AeTitle, DimsePeerSettings
from flute_sync.sources.http_access import TlsSettings, is_loopback
from flute_sync.transport.secret import secret_path

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # RFC 9325 4.2; TLS 1.3 has its own
_Uid = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*$", max_length=64)]


class DimseTlsSettings(TlsSettings):
    """The certificate this service shows, and which certificates senders must show."""

    ca_file: SecretFile | None = None
    """PEM certificates of the authorities whose client certificates are let in; none: senders
    need no certificate."""

    def context(self) -> ssl.SSLContext:
        """Return what connections are wrapped with.

        Raises
        ------
        SecretUnreadable
            When a certificate or its key cannot be used.

        References
        ----------
        PS3.15 B.12 (2026b): the BCP 195 RFC 8996, 9325 TLS profile.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_ciphers(_CIPHERS)
        key = None if self.key_file is None else secret_path(self.key_file)
        try:
            # A key with a passphrase must fail here, not ask at a terminal that nobody watches.
            context.load_cert_chain(secret_path(self.cert_file), key, password="")
            if self.ca_file is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(secret_path(self.ca_file))
        except (OSError, ssl.SSLError):
            raise SecretUnreadable("cert_file, key_file, ca_file: not usable together") from None
        return context


class PacsSettings(DimsePeerSettings):
    """``[store_scp.pacs]``: the PACS to which instances go on by C-STORE."""


class StoreScpSettings(Settings):
    """``[store_scp]``: the C-STORE service, and what else is told by DIMSE.

    A host beyond loopback needs ``tls`` with ``ca_file``, or ``insecure = true``.
    """

    enabled: bool = False
    """Whether to listen."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on; beyond loopback it needs ``tls`` with ``ca_file``, or ``insecure``."""

    port: Port = 11112
    """Port to listen on; 0 takes any that is free."""

    ae_title: AeTitle = "FLUTE_SYNC"
    """AE title of this service."""

    require_called_ae_title: bool = True
    """Whether senders must call this service by ``ae_title``."""

    calling_ae_titles: tuple[AeTitle, ...] = ()
    """Senders that are let in; empty: any. An AE title proves nothing: certificates do."""

    mode: Literal["index", "forward"] = "index"
    """index: record headers and discard pixels; forward: hand instances on to the PACS."""

    archive: str | None = None
    """Name of the archive that holds what is received; none: the first."""

    forward: Literal["stow-rs", "c-store"] | None = None
    """How instances go on in mode ``forward``: stow-rs to the archive's ``dicomweb_url``, c-store
    to ``pacs``; none: c-store where ``pacs`` is set, else stow-rs."""

    pacs: PacsSettings | None = None
    """The PACS behind the archive's name, where it takes C-STORE."""

    answer_timeout: PositiveDuration = timedelta(minutes=10)
    """How long the archive may take to answer an upload by stow-rs."""

    ian: bool = True
    """Whether Instance Availability Notifications are taken, where there is an archive to read."""

    mpps: bool = True
    """Whether Modality Performed Procedure Steps are taken."""

    storage_commitment: bool = True
    """Whether Storage Commitment is answered, by what the archive's ``dicomweb_url`` finds; not
    without an archive, nor with one that is read by C-FIND."""

    commitment: CommitmentSettings = CommitmentSettings()
    """How it is answered."""

    private_sop_classes: tuple[_Uid, ...] = ()
    """SOP classes to take beside the standard's storage classes."""

    unrestricted: bool = False
    """Take every SOP class that is not one of another service, as if it were for storage."""

    max_associations: Annotated[int, Field(ge=1, le=1000)] = 64
    """Most associations at once; one more is rejected."""

    max_pdu_bytes: Annotated[int, Field(ge=4096, le=1 << 20)] = 128 << 10
    """Largest P-DATA that senders may send at once."""

    acse_timeout: PositiveDuration = timedelta(seconds=30)
    """How long a sender may take for TLS, for its request, and to close after its release."""

    network_timeout: PositiveDuration = timedelta(seconds=60)
    """How long a sender may send nothing in the middle of a message."""

    idle_timeout: PositiveDuration = timedelta(hours=1)
    """How long an association may be open without a message: modalities keep them."""

    dimse_timeout: PositiveDuration = timedelta(seconds=30)
    """How long a peer may take to answer what we ask of it."""

    data_path: Literal["lean", "pynetdicom"] = "lean"
    """Who reads the network: lean is several times faster; pynetdicom is for comparison, or where
    the lean one is at fault."""

    tls: DimseTlsSettings | None = None
    """The certificate by which senders know this service; none: no TLS."""

    insecure: bool = False
    """Listen beyond loopback although ``tls`` or its ``ca_file`` is lacking."""

    @property
    def way(self) -> Literal["stow-rs", "c-store"]:
        """How instances go on in mode ``forward``."""
        return self.forward or ("stow-rs" if self.pacs is None else "c-store")

    @model_validator(mode="after")
    def _leads_on(self) -> "StoreScpSettings":
        if self.way == "c-store" and self.pacs is None:
            raise ValueError('forward = "c-store" needs [store_scp.pacs]')
        here = {self.host, "127.0.0.1", "localhost", "::1"}
        if self.pacs is not None and self.pacs.host in here and self.pacs.port == self.port:
            raise ValueError("[store_scp.pacs] is the address of [store_scp] itself")
        return self

    @model_validator(mode="after")
    def _is_protected(self) -> "StoreScpSettings":
        protected = self.tls is not None and self.tls.ca_file is not None
        if not (is_loopback(self.host) or protected or self.insecure):
            raise ValueError(
                "a host beyond this machine needs tls with ca_file, or an explicit insecure = true"
            )
        return self
