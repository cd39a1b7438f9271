"""Which OpenID provider signs people in, and who of them is admitted."""

from typing import Annotated

from pydantic import AfterValidator, Field

from flute_sync.settings import HttpUrl, SecretFile, Settings
from flute_sync.transport.credentials import is_private


def _private(url: str) -> str:
    if not is_private(url):
        raise ValueError("an OpenID provider beyond this machine needs https")
    return url


class OpenIdSettings(Settings):
    """An OpenID provider, by its discovery document."""

    issuer: Annotated[HttpUrl, AfterValidator(_private)]
    """The issuer, exactly as its discovery document states it."""

    client_id: Annotated[str, Field(min_length=1)]
    """Under which this console is registered there."""

    client_secret_file: SecretFile | None = None
    """File that holds the client secret; none: a public client, by PKCE alone."""

    scope: str = "openid profile"
    """Scopes to ask for, separated by spaces; ``openid`` is needed."""

    role_claim: Annotated[str, Field(min_length=1)] = "roles"
    """The claim of the ID token that names roles; a dot leads into an object, as in
    "realm_access.roles"."""

    role: Annotated[str, Field(min_length=1)]
    """The role that is admitted."""

    name_claim: Annotated[str, Field(min_length=1)] = "preferred_username"
    """The claim that is shown as the person's name; without it, ``sub``."""

    ca_file: SecretFile | None = None
    """PEM certificate authorities to trust instead of the system's."""

    def admits(self, claims: object) -> bool:
        """Tell whether the claims name the role."""
        found = claims
        for part in self.role_claim.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found == self.role or (isinstance(found, list) and self.role in found)
