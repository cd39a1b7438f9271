"""One request, one answer: bounded, decoded, checked to be FHIR JSON, errors translated."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import orjson

from flute_sync.fhir.outcome import Interaction, failure
from flute_sync.fhir.settings import FhirSettings
from flute_sync.fhir_errors import FhirServerError, FhirUnavailable
from flute_sync.transport.client import client
from flute_sync.transport.failure import what_failed

FHIR_JSON: Final = "application/fhir+json"
RequestCounter = Callable[[Interaction, int | None], None]
"""Called after each request: what it was, and the HTTP status, None when there was no answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer, or one whose status the caller said it expects."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any] | None


class Wire:
    """Sends requests to one FHIR server.

    Parameters
    ----------
    transport
        Replaces the network.
    on_request
        Counts requests.
    """

    def __init__(
        self,
        settings: FhirSettings,
        *,
        transport: httpx.BaseTransport | None = None,
        on_request: RequestCounter | None = None,
    ) -> None:
        self._settings = settings
        self.base_url = settings.base_url.rstrip("/")
        self._http = client(settings, self.base_url, transport=transport)
        self._count = on_request or (lambda _interaction, _status: None)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(
        self,
        interaction: Interaction,
        method: str,
        url: str,
        *,
        resource: Mapping[str, Any] | None = None,
        form: list[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset(),
        exact: bool = False,
    ) -> Answer:
        """Send a request and return its answer.

        Parameters
        ----------
        url
            Relative to the base, or absolute where the caller has checked it.
        accept
            Statuses beyond 2xx that are answers to the caller.
        exact
            Whether decimals keep their precision, as `Decimal`: 4.50 is not 4.5 (FHIR R4
            datatypes.html#decimal). Such a body cannot be sent again.

        Raises
        ------
        FluteSyncError
            As `flute_sync.fhir.outcome.failure` tells, `FhirUnavailable` where there was no
            answer, or what the credentials need.
        """
        sent = {"Accept": FHIR_JSON, "Cache-Control": "no-cache", **(headers or {})}
        content: bytes | None = None
        if resource is not None:
            content = orjson.dumps(resource)
            sent["Content-Type"] = f"{FHIR_JSON}; charset=utf-8"
        elif form is not None:
            content = urlencode(form).encode("ascii")
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        request = self._http.build_request(method, url, content=content, headers=sent)
        status, received, data = self._exchange(interaction, request)
        body = _json(data, exact=exact)
        if not (200 <= status < 300 or status in accept):
            conditional = "If-None-Exist" in sent
            raise failure(status, received, body, interaction, conditional=conditional)
        if data.strip() and body is None:
            raise FhirServerError(f"HTTP {status} on {interaction}, but the body is not FHIR JSON")
        return Answer(status, received, body)

    def _exchange(
        self, interaction: Interaction, request: httpx.Request
    ) -> tuple[int, httpx.Headers, bytes]:
        deadline = time.monotonic() + self._settings.answer_timeout.total_seconds()
        status: int | None = None
        try:
            response = self._http.send(request, stream=True)
            try:
                status = response.status_code
                data = self._read(response, deadline)
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise FhirUnavailable(what_failed(error)) from None
        finally:
            self._count(interaction, status)
        return response.status_code, response.headers, data

    def _read(self, response: httpx.Response, deadline: float) -> bytes:
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > self._settings.largest_answer_bytes:
                raise FhirServerError("the answer is larger than fhir.largest_answer_bytes")
            if time.monotonic() > deadline:
                raise FhirUnavailable("the answer did not end within fhir.answer_timeout")
        return bytes(data)


def _json(data: bytes, *, exact: bool) -> dict[str, Any] | None:
    try:
        body = _loads(data, exact=exact) if data else None
    except (ValueError, RecursionError, InvalidOperation):  # the last: 1e99999999999999999999
        return None
    if not isinstance(body, dict) or not isinstance(body.get("resourceType"), str):
        return None
    return body


def _loads(data: bytes, *, exact: bool) -> object:
    if not exact:
        plain: object = orjson.loads(data)
        return plain
    body: object = json.loads(data, parse_float=Decimal, parse_constant=_refuse)
    return body


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
