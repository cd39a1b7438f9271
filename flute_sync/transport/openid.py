"""Sign-in by OpenID Connect: authorization code with PKCE, and an ID token that is believed.

References
----------
OpenID Connect Core 1.0 3.1 (incorporating errata set 2), Discovery 1.0 4; RFC 7636; RFC 9700 2.1.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Any, Final
from urllib.parse import quote_plus

import httpx
import orjson
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from flute_sync.console_errors import OpenIdRefused, OpenIdUnavailable
from flute_sync.transport.client import client
from flute_sync.transport.credentials import is_private
from flute_sync.transport.failure import what_failed
from flute_sync.transport.http_settings import HttpSettings
from flute_sync.transport.openid_settings import OpenIdSettings
from flute_sync.transport.secret import Secret

_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384")
_LARGEST_BYTES: Final = 512 * 1024
_LEEWAY_SECONDS: Final = 60
_TOLD_FOR: Final = timedelta(hours=1).total_seconds()
_KEYS_AT_MOST_EVERY: Final = timedelta(seconds=30).total_seconds()
_TIMEOUT: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to the provider and back.

    Parameters
    ----------
    seed
        Random, kept by the browser that went; all else follows from it and from our key.
    """

    seed: str
    key: bytes

    def __repr__(self) -> str:
        return "Attempt(...)"

    @property
    def state(self) -> str:
        """What the provider hands back."""
        return self._derived("state")

    @property
    def nonce(self) -> str:
        """What the ID token must repeat."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """What proves that the code is ours (RFC 7636 4.1)."""
        return self._derived("verifier")

    def _derived(self, name: str) -> str:
        return hmac.new(self.key, f"{name}:{self.seed}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class _Told:
    """What the provider says of itself."""

    authorization: str
    token: str
    jwks: str


class OpenIdProvider:
    """One provider; safe to use from several threads.

    Every method raises `OpenIdUnavailable` where it does not answer, `OpenIdRefused` where its
    answer cannot be believed, `SecretUnreadable` where the client secret cannot be read.

    Parameters
    ----------
    redirect_url
        Where the provider leads back to.
    clock
        Seconds since 1970.
    """

    def __init__(
        self,
        settings: OpenIdSettings,
        redirect_url: str,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._redirect_url = redirect_url
        self._clock = clock
        self._secret = settings.client_secret_file and Secret(settings.client_secret_file)
        reach = HttpSettings(
            ca_file=settings.ca_file, connect_timeout=_TIMEOUT, read_timeout=_TIMEOUT
        )
        self._http = client(reach, settings.issuer, transport=transport)
        self._lock = Lock()
        self._told: tuple[float, _Told] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def probe(self) -> None:
        """Read what the provider says of itself, and its keys."""
        self._key_set(fresh=True)

    def address(self, attempt: Attempt) -> str:
        """Return where the browser goes to sign in."""
        url: str = prepare_grant_uri(
            self._discovered().authorization,
            self._settings.client_id,
            "code",
            redirect_uri=self._redirect_url,
            scope=self._settings.scope,
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return url

    def claims(self, code: str, attempt: Attempt) -> Mapping[str, Any]:
        """Exchange a code and return what the ID token says, once it is believed."""
        answer = self._token(code, attempt)
        id_token = answer.get("id_token")
        if not isinstance(id_token, str):
            raise OpenIdRefused("no ID token")
        expected = {
            "iss": {"essential": True, "value": self._settings.issuer},
            "aud": {"essential": True, "value": self._settings.client_id},
        }
        known = {"nonce": attempt.nonce, "client_id": self._settings.client_id}
        known["access_token"] = str(answer.get("access_token", ""))
        try:
            token = self._decoded(id_token)
            said = CodeIDToken(token.claims, token.header, expected, known)
            said.validate(now=int(self._clock()), leeway=_LEEWAY_SECONDS)
        except (JoseError, ValueError, TypeError, KeyError):
            # The library's texts may quote what the token says of a person.
            raise OpenIdRefused("the ID token is not valid for this sign-in") from None
        return dict(token.claims)

    def _decoded(self, id_token: str) -> jwt.Token:
        try:
            return jwt.decode(id_token, self._key_set(fresh=False), algorithms=_ALGORITHMS)
        except (JoseError, ValueError):
            # Keys are rolled: what was not signed by those known is read with those of now.
            return jwt.decode(id_token, self._key_set(fresh=True), algorithms=_ALGORITHMS)

    def _key_set(self, *, fresh: bool) -> KeySet:
        with self._lock:
            known, now = self._keys, time.monotonic()
            longest = _KEYS_AT_MOST_EVERY if fresh else _TOLD_FOR
            if known is not None and now - known[0] < longest:
                return known[1]
        url = self._discovered().jwks
        said = self._json(self._http.build_request("GET", url))
        try:
            keys = KeySet.import_key_set(said)  # type: ignore[arg-type]
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            raise OpenIdRefused("its keys cannot be read") from None
        with self._lock:
            self._keys = (now, keys)
        return keys

    def _discovered(self) -> _Told:
        with self._lock:
            if self._told is not None and time.monotonic() - self._told[0] < _TOLD_FOR:
                return self._told[1]
        url = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        said = self._json(self._http.build_request("GET", url))
        if said.get("issuer") != self._settings.issuer:
            raise OpenIdRefused("its discovery document states another issuer")
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        told = _Told(*(_endpoint(said, name) for name in names))
        with self._lock:
            self._told = (time.monotonic(), told)
        return told

    def _token(self, code: str, attempt: Attempt) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_url,
            "code_verifier": attempt.verifier,
        }
        url, name = self._discovered().token, self._settings.client_id
        request = self._http.build_request("POST", url, data={**form, "client_id": name})
        if self._secret:
            pair = httpx.BasicAuth(quote_plus(name), quote_plus(self._secret.read()))
            request = next(pair.auth_flow(self._http.build_request("POST", url, data=form)))
        return self._json(request)

    def _json(self, request: httpx.Request) -> dict[str, Any]:
        request.headers["Accept"] = "application/json"
        status, body = self._answer(request)
        if status >= 500 or status == 429:
            raise OpenIdUnavailable(f"HTTP {status}")
        if status != 200:
            raise OpenIdRefused(f"HTTP {status}")
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            said = None
        if not isinstance(said, dict):
            raise OpenIdRefused("its answer is not a JSON object")
        return said

    def _answer(self, request: httpx.Request) -> tuple[int, bytes]:
        body, until = bytearray(), time.monotonic() + 2 * _TIMEOUT.total_seconds()
        try:
            answer = self._http.send(request, stream=True)
            try:
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > _LARGEST_BYTES or time.monotonic() > until:
                        raise OpenIdUnavailable("its answer does not end")
            finally:
                answer.close()
        except httpx.HTTPError as error:
            raise OpenIdUnavailable(what_failed(error)) from None
        return answer.status_code, bytes(body)


def _endpoint(said: Mapping[str, Any], name: str) -> str:
    url = said.get(name)
    if not isinstance(url, str) or not is_private(url):
        raise OpenIdRefused(f"its discovery document names no https {name}")
    return url
