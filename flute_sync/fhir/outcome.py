"""HTTP status and OperationOutcome -> our errors, without a word that could name a patient."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from flute_sync.errors import FluteSyncError
from flute_sync.fhir_errors import (
    FhirAmbiguous,
    FhirBusy,
    FhirCapabilityMissing,
    FhirConflict,
    FhirGone,
    FhirRejected,
    FhirServerError,
    FhirUnauthorized,
    FhirUnavailable,
)
from flute_sync.settings_errors import ConfigurationError
from flute_sync.transport.failure import retry_after

Interaction = Literal[
    "read",
    "search",
    "history",
    "create",
    "update",
    "delete",
    "bundle",
    "capabilities",
    "operation",
]

_ISSUE_CODE: Final = re.compile(r"[a-z][a-z-]{1,39}")
_EXPRESSION: Final = re.compile(r"[A-Z][A-Za-z]*(\.[a-zA-Z]+(\[[0-9]{1,5}\]|\[x\])?){0,12}")
_MOST_ISSUES: Final = 3


def failure(
    status: int,
    headers: Mapping[str, str],
    body: object,
    interaction: Interaction,
    *,
    conditional: bool = False,
) -> FluteSyncError:
    """Return the error that an answer means.

    Parameters
    ----------
    body
        The answer's JSON, if it was JSON.
    conditional
        Whether the request was a conditional create, for which 412 means several matches.

    References
    ----------
    FHIR R4 http.html#summary, http.html#concurrency, http.html#ccreate
    """
    detail = f"HTTP {status} on {interaction}{issues(body)}"
    if status in {429, 503}:
        return FhirBusy(detail, retry_after=retry_after(headers, datetime.now(UTC)))
    if 300 <= status < 400:
        return ConfigurationError(f"fhir.base_url: the server answers with a redirect ({status})")
    if status == 412 and conditional:
        return FhirAmbiguous(detail)
    if status == 404:
        return _ABSENT.get(interaction, FhirServerError)(detail)
    if status in _BY_STATUS or not 400 <= status < 500:
        return _BY_STATUS.get(status, FhirServerError)(detail)
    return FhirRejected(detail)


_ABSENT: Final[Mapping[Interaction, type[FluteSyncError]]] = {
    "capabilities": FhirCapabilityMissing,  # most often a wrong fhir.base_url
    "operation": FhirCapabilityMissing,
    "update": FhirConflict,  # it was there a moment ago
}
_BY_STATUS: Final[Mapping[int, type[FluteSyncError]]] = {
    401: FhirUnauthorized,
    403: FhirUnauthorized,
    405: FhirCapabilityMissing,
    408: FhirServerError,
    409: FhirConflict,
    410: FhirGone,
    412: FhirConflict,
    415: FhirCapabilityMissing,
    421: FhirServerError,
    425: FhirServerError,
    501: FhirCapabilityMissing,
    502: FhirUnavailable,  # a proxy says that nobody is behind it
}


def issues(body: object) -> str:
    """Return codes and element paths of an OperationOutcome's errors, e.g. `` (invalid at X.y)``.

    Diagnostics and texts are left out: servers quote search criteria and values in them.
    """
    if not isinstance(body, dict) or body.get("resourceType") != "OperationOutcome":
        return ""
    found = body.get("issue")
    errors = [
        issue
        for issue in (found if isinstance(found, list) else [])
        if isinstance(issue, dict) and issue.get("severity") in {"error", "fatal"}
    ]
    said = [_issue(issue) for issue in errors[:_MOST_ISSUES]]
    more = f", and {len(errors) - _MOST_ISSUES} more" if len(errors) > _MOST_ISSUES else ""
    return f" ({', '.join(said)}{more})" if said else ""


def _issue(issue: Mapping[str, Any]) -> str:
    code = issue.get("code")
    said = code if isinstance(code, str) and _ISSUE_CODE.fullmatch(code) else "error"
    expression = issue.get("expression")
    path = expression[0] if isinstance(expression, list) and expression else None
    if isinstance(path, str) and _EXPRESSION.fullmatch(path):
        return f"{said} at {path}"
    return said
