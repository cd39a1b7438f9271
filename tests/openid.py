"""A small OpenID provider: discovery, keys, authorization code with PKCE, and ID tokens.

It signs one person in without asking, keeps to the rules, and breaks those that a test names.
"""

import base64
import hmac
import json
import secrets
import time
from datetime import timedelta
from typing import Any
from urllib.parse import unquote_plus, urlencode

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from flute_sync.daemon.http_server import HttpServer, Listener

CLIENT = "the console"
SECRET = "a secret: with % and +"


class Provider:
    """The provider; ``claims`` go into ID tokens, over what belongs there."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {"roles": ["viewer"]}
        self.issuer_said: str | None = None
        self.algorithm = "RS256"
        self.key = self.published = RSAKey.generate_key(2048, {"kid": "one"}, private=True)
        self.down = False
        self.asked: list[dict[str, str]] = []
        self._codes: dict[str, dict[str, str]] = {}
        routes = [
            Route("/.well-known/openid-configuration", self._discovery),
            Route("/authorize", self._authorize),
            Route("/token", self._token, methods=["POST"]),
            Route("/keys", self._keys),
        ]
        self._server = HttpServer([Listener("openid", Starlette(routes=routes), "127.0.0.1", 0)])

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(timedelta(seconds=1))

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self._server.port('openid')}"

    async def _discovery(self, _request: Request) -> Response:
        if self.down:
            return Response(status_code=503)
        return JSONResponse(
            {
                "issuer": self.issuer_said or self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
            }
        )

    async def _keys(self, _request: Request) -> Response:
        return JSONResponse({"keys": [self.published.as_dict(private=False)]})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        answer = urlencode({"code": code, "state": asked["state"], "iss": self.issuer})
        return RedirectResponse(f"{asked['redirect_uri']}?{answer}", status_code=303)

    async def _token(self, request: Request) -> Response:
        form = {str(name): str(value) for name, value in (await request.form()).items()}
        asked = self._codes.pop(form["code"], None)
        pair = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        proven = create_s256_code_challenge(form["code_verifier"])
        if asked is None or [unquote_plus(one) for one in pair.split(":")] != [CLIENT, SECRET]:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        if proven != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        token = self._signed(asked["nonce"])
        return JSONResponse({"access_token": "at", "token_type": "Bearer", "id_token": token})

    def _signed(self, nonce: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "person-1",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 60,
            "nonce": nonce,
            "preferred_username": "anna",
            **self.claims,
        }
        header = {"alg": self.algorithm, "kid": "one"}
        if self.algorithm in ("none", "HS256"):
            return self._forged(header, claims)
        return jwt.encode(header, claims, self.key, algorithms=[self.algorithm])

    def _forged(self, header: dict[str, str], claims: dict[str, Any]) -> str:
        """Sign with nothing, or with what everybody can read."""
        signed = b".".join(_encoded(json.dumps(one).encode()) for one in (header, claims))
        key = self.published.as_pem(private=False)
        known = hmac.digest(key, signed, "sha256") if header["alg"] == "HS256" else b""
        return (signed + b"." + _encoded(known)).decode()


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
