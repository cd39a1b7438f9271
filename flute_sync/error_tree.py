"""Every error there is: for the documentation, and to look one up by its code."""

from collections.abc import Iterator
from typing import Final

from flute_sync import (
    archive_errors,
    auth_errors,
    command_errors,
    console_errors,
    criterion_errors,
    dicom_errors,
    dimse_errors,
    erase_errors,
    errors,
    fetch_errors,
    fhir_errors,
    ledger_errors,
    notice_errors,
    patient_errors,
    settings_errors,
    upload_errors,
)
from flute_sync.errors import FluteSyncError

MODULES: Final = (
    errors,
    archive_errors,
    auth_errors,
    command_errors,
    console_errors,
    criterion_errors,
    dicom_errors,
    dimse_errors,
    erase_errors,
    fetch_errors,
    fhir_errors,
    ledger_errors,
    notice_errors,
    patient_errors,
    settings_errors,
    upload_errors,
)


def every_error() -> Iterator[type[FluteSyncError]]:
    """Yield each class of the tree once, parents before children."""
    for module in MODULES:
        for value in vars(module).values():
            if getattr(value, "__module__", None) == module.__name__:
                yield value
