"""The ledger: what is known of each study, and how the work on it stands."""

from flute_sync.ledger.ask import (
    WAITING_FOR_PATIENT,
    ArchiveView,
    EventView,
    Status,
    StudyView,
)
from flute_sync.ledger.erasures import ErasureBook
from flute_sync.ledger.ledger import Ledger
from flute_sync.ledger.link_book import LinkBook, LinkView
from flute_sync.ledger.migrate import upgrade
from flute_sync.ledger.regime import ANY as ANY_SOURCES
from flute_sync.ledger.scratch import Scratch
from flute_sync.ledger.settings import LedgerSettings
from flute_sync.ledger.survey import Standing
from flute_sync.ledger.values import (
    Absence,
    Claim,
    Erasure,
    FhirRow,
    HeldLink,
    HeldStudy,
    LinkDecision,
    LinkedStudy,
    LinkNews,
    LinkRow,
    Missing,
    PatientLinks,
    PatientMarks,
    Settlement,
    Snapshot,
)

__all__ = [
    "ANY_SOURCES",
    "WAITING_FOR_PATIENT",
    "Absence",
    "ArchiveView",
    "Claim",
    "Erasure",
    "ErasureBook",
    "EventView",
    "FhirRow",
    "HeldLink",
    "HeldStudy",
    "Ledger",
    "LedgerSettings",
    "LinkBook",
    "LinkDecision",
    "LinkNews",
    "LinkRow",
    "LinkView",
    "LinkedStudy",
    "Missing",
    "PatientLinks",
    "PatientMarks",
    "Scratch",
    "Settlement",
    "Snapshot",
    "Standing",
    "Status",
    "StudyView",
    "upgrade",
]
