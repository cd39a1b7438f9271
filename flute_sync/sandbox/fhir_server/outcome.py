"""What goes wrong on the FHIR server, and how the client is told."""

from typing import Any


class FhirError(Exception):
    """A request is refused.

    Parameters
    ----------
    status
        The HTTP status.
    code
        A code of ``http://hl7.org/fhir/issue-type``.
    diagnostics
        Why, without quoting values of resources or searches.
    """

    def __init__(self, status: int, code: str, diagnostics: str) -> None:
        super().__init__(diagnostics)
        self.status = status
        self.code = code
        self.diagnostics = diagnostics

    @property
    def resource(self) -> dict[str, Any]:
        """The OperationOutcome to send."""
        issue = {"severity": "error", "code": self.code, "diagnostics": self.diagnostics}
        return {"resourceType": "OperationOutcome", "issue": [issue]}
