"""``auth``: how flute-sync shows who it is, one settings class per way."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from flute_sync.settings import HttpUrl, SecretFile, Settings


def is_loopback(url: str) -> bool:
    """Tell whether an address stays on this machine."""
    return urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"}


def is_private(url: str) -> bool:
    """Tell whether nobody on the network can read what is sent to an address."""
    return urlsplit(url).scheme == "https" or is_loopback(url)


def _private(url: str) -> str:
    if not is_private(url):
        raise ValueError("a token server beyond this machine needs https (RFC 6749 3.2)")
    return url


TokenUrl = Annotated[HttpUrl, AfterValidator(_private)]


class NoAuth(Settings):
    """No credentials."""

    method: Literal["none"] = "none"


class BasicAuth(Settings):
    """A user and a password (RFC 7617)."""

    method: Literal["basic"]
    user: Annotated[str, Field(pattern=r"^[^:\x00-\x1f\x7f]+$")]
    password_file: SecretFile


class BearerAuth(Settings):
    """A token that somebody else keeps fresh in a file (RFC 6750)."""

    method: Literal["bearer"]
    token_file: SecretFile


class OAuth2Auth(Settings):
    """OAuth 2.0 client credentials with a client secret (RFC 6749 4.4)."""

    method: Literal["oauth2"]
    token_url: TokenUrl
    client_id: Annotated[str, Field(min_length=1)]
    client_secret_file: SecretFile
    scope: str | None = None
    client_authentication: Literal["basic", "post"] = "basic"
    audience: str | None = None


class SmartAuth(Settings):
    """SMART Backend Services: a key instead of a secret (SMART App Launch 2.2.0).

    Without ``token_url`` it is read from ``.well-known/smart-configuration`` of the server.
    """

    method: Literal["smart"]
    client_id: Annotated[str, Field(min_length=1)]
    key_file: SecretFile
    kid: Annotated[str, Field(min_length=1)]
    alg: Literal["RS384", "ES384"] = "RS384"
    token_url: TokenUrl | None = None
    scope: str = (
        "system/ImagingStudy.cruds system/Patient.rs system/Endpoint.cruds"
        " system/Group.r system/ServiceRequest.rs"
    )


AuthSettings = Annotated[
    NoAuth | BasicAuth | BearerAuth | OAuth2Auth | SmartAuth, Field(discriminator="method")
]
