"""HTTP to other systems: TLS, credentials, proxy and timeouts, the same for every peer."""

from flute_sync.transport.client import (
    HttpSettings,
    async_client,
    client,
    download_client,
    exposes_credentials,
    upload_client,
)
from flute_sync.transport.credentials import (
    AuthSettings,
    BasicAuth,
    BearerAuth,
    NoAuth,
    OAuth2Auth,
    SmartAuth,
)
from flute_sync.transport.failure import http_date, retry_after, what_failed
from flute_sync.transport.secret import read_secret, secret_path

__all__ = [
    "AuthSettings",
    "BasicAuth",
    "BearerAuth",
    "HttpSettings",
    "NoAuth",
    "OAuth2Auth",
    "SmartAuth",
    "async_client",
    "client",
    "download_client",
    "exposes_credentials",
    "http_date",
    "read_secret",
    "retry_after",
    "secret_path",
    "upload_client",
    "what_failed",
]
