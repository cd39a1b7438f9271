"""The lists that a choice of studies comes to: one of each modality and patient."""

from datetime import date
from itertools import product
from typing import NamedTuple

from flute_sync.sources.listing import Choice
from flute_sync.sources.peer import Json
from flute_sync.sources.search import MODALITIES_IN_STUDY, PATIENT_ID, text, texts


class Part(NamedTuple):
    """One of the lists that a choice comes to: of one modality, or of one patient."""

    modality: str | None
    earlier: frozenset[str]
    patient_id: str | None

    def takes(self, row: Json) -> bool:
        """Compare again: a server may ignore a key, and no study should come twice."""
        if self.patient_id is not None and text(row, PATIENT_ID) != self.patient_id:
            return False
        stated = set(texts(row, MODALITIES_IN_STUDY))
        if self.modality is None or not stated:
            return True  # servers need not state it (PS3.18 10.6.3.3.1): the study's read tells
        return self.modality in stated and not stated & self.earlier


def parts_of(choice: Choice) -> list[Part]:
    """Return the lists that a choice comes to, one for each modality of each patient."""
    modalities: list[str] | list[None] = sorted(choice.modalities) or [None]
    patients: list[str] | list[None] = list(dict.fromkeys(choice.patient_ids)) or [None]
    return [
        Part(modality, frozenset(filter(None, modalities[:number])), patient_id)
        for patient_id, (number, modality) in product(patients, enumerate(modalities))
    ]


def is_in(choice: Choice, day: date | None) -> bool:
    """Tell whether a Study Date is chosen; one that is not stated is where none is asked for."""
    if choice.since is None and choice.until is None:
        return True
    if day is None:
        return False
    return (choice.since or day) <= day <= (choice.until or day)
