"""Cookies: for this console alone, unseen by scripts, by https alone where there is https.

References
----------
RFC 6265 4.1.2; RFC 6265bis 4.1.3.2 (``__Host-``)
"""

import secrets
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

SESSION: Final = "flute_sync_session"
FORM: Final = "flute_sync_form"
WAY: Final = "flute_sync_way"
_MOST: Final = 1000


class Cookies:
    """Reads and writes them.

    Parameters
    ----------
    secure
        Whether browsers reach the console by https.
    """

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure

    def read(self, request: Request, name: str) -> str | None:
        """Return what the browser shows."""
        value = request.cookies.get(self._name(name))
        return value if value and len(value) <= _MOST else None

    def write(self, response: Response, name: str, value: str) -> None:
        """Let the browser show it until it ends."""
        response.set_cookie(
            self._name(name), value, path="/", secure=self._secure, httponly=True, samesite="lax"
        )

    def drop(self, response: Response, name: str) -> None:
        """Let the browser forget it."""
        response.delete_cookie(
            self._name(name), path="/", secure=self._secure, httponly=True, samesite="lax"
        )

    def binding(self, request: Request) -> str:
        """Return the word that ties forms to a browser that is not signed in.

        Where it shows none, a new one, which `keep` hands out.
        """
        shown = self.read(request, FORM)
        if shown is None:
            shown = secrets.token_urlsafe(24)
            request.state.new_binding = shown
        return shown

    def keep(self, request: Request, response: Response) -> None:
        """Hand out a word that `binding` made."""
        made = getattr(request.state, "new_binding", None)
        if made is not None:
            self.write(response, FORM, made)

    def _name(self, name: str) -> str:
        return f"__Host-{name}" if self._secure else name
