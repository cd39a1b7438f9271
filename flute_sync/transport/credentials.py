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
    user: str = Field(pattern=r"^[^:\x00-\x1f\x7f]+$", description="user name")
    password_file: SecretFile = Field(description="file that holds the password")


class BearerAuth(Settings):
    """A token that somebody else keeps fresh in a file (RFC 6750)."""

    method: Literal["bearer"]
    token_file: SecretFile = Field(description="file that holds the token")


class OAuth2Auth(Settings):
    """OAuth 2.0 client credentials with a client secret (RFC 6749 4.4)."""

    method: Literal["oauth2"]
    token_url: TokenUrl = Field(description="token endpoint")
    client_id: str = Field(min_length=1, description="client identifier")
    client_secret_file: SecretFile = Field(description="file that holds the client secret")
    scope: str | None = Field(default=None, description="scopes to ask for, separated by spaces")
    client_authentication: Literal["basic", "post"] = Field(
        default="basic", description="where the secret goes: Authorization header, or form"
    )
    audience: str | None = Field(
        default=None, description="audience to ask for, where the token server wants one"
    )


class SmartAuth(Settings):
    """SMART Backend Services: a key instead of a secret (SMART App Launch 2.2.0)."""

    method: Literal["smart"]
    client_id: str = Field(min_length=1, description="client identifier")
    key_file: SecretFile = Field(description="file that holds the private key, PEM or JWK")
    kid: str = Field(min_length=1, description="id under which the public key is registered")
    alg: Literal["RS384", "ES384"] = Field(
        default="RS384", description="RS384 for an RSA key, ES384 for a P-384 key"
    )
    token_url: TokenUrl | None = Field(
        default=None, description="token endpoint; none: .well-known/smart-configuration says"
    )
    scope: str = Field(
        default="system/ImagingStudy.cruds system/Endpoint.cruds system/Patient.rs"
        " system/Group.r system/ServiceRequest.rs system/Observation.rs system/Procedure.rs"
        " system/FamilyMemberHistory.rs system/DiagnosticReport.rs system/Provenance.c",
        description="scopes to ask for; patient.policy create needs Patient.c",
    )


AuthSettings = Annotated[
    NoAuth | BasicAuth | BearerAuth | OAuth2Auth | SmartAuth, Field(discriminator="method")
]
