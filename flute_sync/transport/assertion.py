"""Signed assertions of SMART Backend Services.

References
----------
SMART App Launch 2.2.0, "Client Authentication: Asymmetric"; RFC 7523 2.2
"""

from typing import Final

import orjson
from authlib.oauth2.rfc7523 import private_key_jwt_sign
from joserfc.errors import JoseError
from joserfc.jwk import import_key

from flute_sync.settings_errors import SecretUnreadable
from flute_sync.transport.credentials import SmartAuth
from flute_sync.transport.secret import Secret

_SECONDS: Final = 240  # SMART allows at most five minutes


def assertion(settings: SmartAuth, key: Secret, audience: str) -> str:
    """Sign who we are for a token server.

    Parameters
    ----------
    audience
        URL of the token endpoint.

    Raises
    ------
    SecretUnreadable
        When the key cannot sign.
    """
    try:
        text = key.read()
        written = orjson.loads(text) if text.lstrip().startswith("{") else text  # JWK or PEM
        imported = import_key(written, "RSA" if settings.alg == "RS384" else "EC")
        signed: str = private_key_jwt_sign(
            imported,
            settings.client_id,
            audience,
            alg=settings.alg,
            header={"kid": settings.kid},
            expires_in=_SECONDS,
        )
    except (JoseError, ValueError, TypeError):
        # The library's texts may quote the key.
        raise SecretUnreadable(f"{key.name}: not a private key for {settings.alg}") from None
    return signed
