"""HTTP clients in which only the settings decide: no environment, no redirects, no plain trust."""

import ssl
from functools import cache, partial
from typing import Final

import httpx

from flute_sync import __version__
from flute_sync.settings import SecretFile
from flute_sync.settings_errors import ConfigurationError, SecretUnreadable
from flute_sync.transport.auth import OriginAuth, credentials
from flute_sync.transport.credentials import NoAuth, is_private
from flute_sync.transport.download import DownloadTransport
from flute_sync.transport.http_settings import HttpSettings
from flute_sync.transport.secret import secret_path
from flute_sync.transport.upload import UploadTransport

_HEADERS: Final = {"User-Agent": f"flute-sync/{__version__}"}


def client(
    settings: HttpSettings, base_url: str, *, transport: httpx.BaseTransport | None = None
) -> httpx.Client:
    """Open a client for one peer.

    Parameters
    ----------
    transport
        Replaces the network, for the peer and for its token server.

    Raises
    ------
    ConfigurationError, SecretUnreadable
        When a certificate or key cannot be used. Requests raise, besides httpx's own errors,
        `TokenUnavailable`, `TokenRefused` and `SecretUnreadable`.
    """
    return _signing(settings, base_url, transport, transport)


def async_client(
    settings: HttpSettings,
    base_url: str,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    token_transport: httpx.BaseTransport | None = None,
) -> httpx.AsyncClient:
    """Open a client for one peer, for use in an event loop; otherwise as `client`."""
    source = credentials(settings.auth, base_url, partial(_plain, settings, token_transport))
    return httpx.AsyncClient(
        base_url=base_url,
        auth=None if source is None else OriginAuth(source, base_url),
        verify=_tls(settings),
        proxy=settings.proxy,
        timeout=_timeout(settings),
        headers=_HEADERS,
        trust_env=False,
        transport=transport,
    )


def upload_client(settings: HttpSettings, base_url: str) -> httpx.AsyncClient:
    """Open a client for streamed uploads; otherwise as `client`.

    Through a proxy httpx's own transport does the work, at its price.
    """
    transport = None if settings.proxy is not None else UploadTransport(_tls(settings))
    return async_client(settings, base_url, transport=transport)


def download_client(settings: HttpSettings, base_url: str) -> httpx.Client:
    """Open a client for large answers; otherwise as `client`.

    Through a proxy httpx's own transport does the work, at its price.
    """
    transport = None if settings.proxy is not None else DownloadTransport(_tls(settings))
    return _signing(settings, base_url, None, transport)


def exposes_credentials(settings: HttpSettings, base_url: str) -> bool:
    """Tell whether credentials would cross the network in the clear."""
    return not isinstance(settings.auth, NoAuth) and not is_private(base_url)


def _signing(
    settings: HttpSettings,
    base_url: str,
    token_transport: httpx.BaseTransport | None,
    transport: httpx.BaseTransport | None,
) -> httpx.Client:
    source = credentials(settings.auth, base_url, partial(_plain, settings, token_transport))
    opened = _plain(settings, transport)
    opened.base_url = httpx.URL(base_url)
    if source is not None:
        opened.auth = OriginAuth(source, base_url)
    return opened


def _plain(settings: HttpSettings, transport: httpx.BaseTransport | None) -> httpx.Client:
    return httpx.Client(
        verify=_tls(settings),
        proxy=settings.proxy,
        timeout=_timeout(settings),
        headers=_HEADERS,
        trust_env=False,
        transport=transport,
    )


def _timeout(settings: HttpSettings) -> httpx.Timeout:
    read = settings.read_timeout.total_seconds()
    return httpx.Timeout(read, connect=settings.connect_timeout.total_seconds())


def _tls(settings: HttpSettings) -> ssl.SSLContext:
    if settings.ca_file is None and settings.client_cert is None:
        return _system_trust()
    context = _trusting(settings.ca_file)
    if settings.client_cert is not None:
        key = settings.client_key_file
        try:
            # A key with a passphrase must fail here, not ask at a terminal that nobody watches.
            context.load_cert_chain(
                secret_path(settings.client_cert), key and secret_path(key), password=""
            )
        except (OSError, ssl.SSLError):
            raise SecretUnreadable("client_cert, client_key_file: not a usable pair") from None
    return context


@cache
def _system_trust() -> ssl.SSLContext:
    return _trusting(None)


def _trusting(ca_file: SecretFile | None) -> ssl.SSLContext:
    authorities = None if ca_file is None else str(secret_path(ca_file))
    try:
        context = ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError):
        raise ConfigurationError("ca_file: no readable PEM certificates") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
