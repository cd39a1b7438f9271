"""What all pages share: templates, headers, refusals, and who looks."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader
from starlette.middleware.base import RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import HTTPExceptionHandler

from flute_sync.console.pages import forms
from flute_sync.console.pages.admission import Admission
from flute_sync.console.pages.audit import Audit
from flute_sync.console.pages.cookies import Cookies
from flute_sync.console.pages.elements import moment
from flute_sync.console.pages.sessions import Person
from flute_sync.console.templating import environment
from flute_sync.console_errors import (
    FormRefused,
    OpenIdRefused,
    PageAbsent,
    PeerRefused,
    RoleLacking,
)
from flute_sync.errors import FluteSyncError, PermanentError

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_TEMPLATES: Final = Path(__file__).with_name("templates")
_AUDITED: Final = (FormRefused, OpenIdRefused, PeerRefused, RoleLacking)

Handler = Callable[[Request], Awaitable[Response]]
PersonsHandler = Callable[[Request, Person], Awaitable[Response]]


@dataclass(frozen=True)
class Shell:
    """What the pages are made with.

    Parameters
    ----------
    key
        Random, of this process; what is handed to browsers is signed by it.
    """

    admission: Admission
    cookies: Cookies
    audit: Audit
    key: bytes

    def __post_init__(self) -> None:
        templates = environment(FileSystemLoader(_TEMPLATES))
        templates.filters["moment"] = moment
        object.__setattr__(self, "_templates", templates)

    def page(
        self,
        request: Request,
        template: str,
        person: Person | None,
        http_status: int = 200,
        **said: Any,
    ) -> Response:
        """Write a page."""
        binding = person.binding if person else self.cookies.binding(request)
        templates: Environment = getattr(self, "_templates")  # noqa: B009 - set once, above
        text = templates.get_template(template).render(
            person=person, form_field=forms.FIELD, form_token=forms.token(self.key, binding), **said
        )
        response = HTMLResponse(text, status_code=http_status)
        self.cookies.keep(request, response)
        return response

    async def form(self, request: Request, person: Person | None) -> dict[str, str]:
        """Read a form of ours.

        Raises
        ------
        FormRefused
        """
        shown = person.binding if person else self.cookies.binding(request)
        return await forms.fields_of(request, self.key, shown)

    def admitted(self, handler: PersonsHandler, *, is_page: bool = True) -> Handler:
        """Let a handler answer only whom the settings admit; others are led to the sign-in.

        Not after a form: browsers follow no form to an OpenID provider (CSP 3 ``form-action``).
        """

        async def answer(request: Request) -> Response:
            person = self.admission.person(request)
            if person is not None:
                request.state.person = person
                return await handler(request, person)
            if not is_page:
                return Response(status_code=401)
            if request.method == "POST":
                return self.page(request, "signed_out.html", None, 401, at_provider=False)
            return RedirectResponse(f"/sign-in?next={quote(_asked(request))}", status_code=303)

        return answer

    def refusals(self) -> dict[Any, HTTPExceptionHandler]:
        """Tell how errors become pages."""
        return {FluteSyncError: self._refuse, 404: self._absent, 405: self._absent}

    async def _refuse(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, FluteSyncError):
            raise error
        if isinstance(error, _AUDITED):
            self.audit.refused(error)
        elif not isinstance(error, PermanentError):
            self.audit.failed(error)
        return self.refusal(request, error)

    def refusal(self, request: Request, error: FluteSyncError) -> Response:
        """Write the page that tells of an error; strangers are not told where what runs here."""
        person: Person | None = getattr(request.state, "person", None)
        is_told = person is not None or isinstance(error, PermanentError)
        said = error.sentence if is_told else error.message()
        shown = {"error": error, "sentence": said}
        response = self.page(request, "error.html", person, error.http_status, **shown)
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(max(int(error.retry_after.total_seconds()), 1))
        return response

    async def _absent(self, request: Request, _error: Exception) -> Response:
        return self.refusal(request, PageAbsent())


async def with_headers(request: Request, proceed: RequestResponseEndpoint) -> Response:
    """Put the headers on every answer by which browsers protect what it shows."""
    response = await proceed(request)
    for name, value in HEADERS.items():
        response.headers[name] = value
    return response


def _asked(request: Request) -> str:
    query = request.url.query if request.method == "GET" else ""
    return f"{request.url.path}?{query}" if query else request.url.path


def local_path(text: str | None) -> str:
    """Return a path of ours to go on to: one that was asked for, or the list."""
    is_ours = text is not None and text.startswith("/studies") and text.isprintable()
    return text if is_ours and text is not None and "\\" not in text else "/studies"
