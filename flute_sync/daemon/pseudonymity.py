"""What a node may tell of persons, in force: its pseudonyms, and the one kind of studies it takes.

A pipeline cannot be built without it, so that nothing is written in another way than before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from zoneinfo import ZoneInfo

from flute_sync.daemon.config import Config
from flute_sync.identity import Identity, PatientKey
from flute_sync.ledger import ANY_SOURCES, Ledger
from flute_sync.pseudonym import Pseudonyms, ShiftRule, is_pseudonym
from flute_sync.pseudonym_settings import PseudonymSettings
from flute_sync.pseudonymous import Pseudonymiser, Source, refuse_other, source_of
from flute_sync.study import Study
from flute_sync.transport.secret import read_pseudonym_key
from flute_sync.valuerep import Unusable

ONE_KIND: Final = "one-kind"


def read_pseudonyms(settings: PseudonymSettings) -> Pseudonyms | None:
    """Return how identifiers are replaced; None where they are not.

    Raises
    ------
    SecretUnreadable, PseudonymKeyUnusable
        The key cannot be had, or is none.
    """
    if settings.mode == "off" or settings.key_file is None or settings.system is None:
        return None
    shift = None
    if settings.dates == "shifted-here":
        shift = ShiftRule(settings.largest_shift, settings.whole_weeks)
    return Pseudonyms(read_pseudonym_key(settings.key_file), settings.system, shift)


def pseudonymiser(config: Config) -> Pseudonymiser | None:
    """Return what takes from studies what names a person; None where that stays.

    Raises
    ------
    SecretUnreadable, PseudonymKeyUnusable
    """
    pseudonyms = read_pseudonyms(config.pseudonyms)
    if pseudonyms is None:
        return None
    settings = config.imaging_study.model_copy(update={"free_text": config.mapping.free_text})
    return Pseudonymiser(pseudonyms, settings, birth_year=config.pseudonyms.birth_date == "year")


def known_as(config: Config) -> Callable[[str, str], tuple[PatientKey, ...]] | None:
    """Return by what the FHIR server may be asked for a patient whom a person names.

    It takes an identifier system, which may be empty, and an identifier. None: where identifiers
    are not replaced.

    Raises
    ------
    SecretUnreadable, PseudonymKeyUnusable
    """
    masked, systems = pseudonymiser(config), sorted(config.hospital_systems)
    if masked is None:
        return None
    own = masked.pseudonyms.system

    def keys(system: str, value: str) -> tuple[PatientKey, ...]:
        if system == own or (not system and is_pseudonym(value)):
            return (PatientKey(own, value),)
        try:
            return tuple(
                masked.key(PatientKey(one, value)) for one in ([system] if system else systems)
            )
        except Unusable:
            return ()

    return keys


def seal(pseudonyms: Pseudonyms | None) -> dict[str, str]:
    """Say what of the pseudonyms must never change under a ledger, without the key."""
    if pseudonyms is None:
        return {}
    shift = pseudonyms.shift
    told = "none" if shift is None else f"{shift.largest} days, whole weeks {shift.whole_weeks}"
    return {"key": pseudonyms.key.id, "system": pseudonyms.system, "shift of dates": told}


@dataclass
class Pseudonymity:
    """What a node may tell of persons.

    ``in_force``: the kind of sources, None where nothing decided it, or `ANY_SOURCES`.
    """

    ledger: Ledger
    settings: PseudonymSettings
    pseudonymiser: Pseudonymiser | None
    in_force: str | None
    _seal: Mapping[str, str]
    _is_settled: bool = field(default=False, init=False)

    @classmethod
    def bind(cls, config: Config, ledger: Ledger, *, only_look: bool = False) -> "Pseudonymity":
        """Bind the ledger to the settings.

        Parameters
        ----------
        only_look
            Change nothing of the ledger: for who writes no study.

        Raises
        ------
        LedgerPseudonymsChanged
            It was filled in another way.
        SecretUnreadable, PseudonymKeyUnusable
        """
        settings, found = config.pseudonyms, pseudonymiser(config)
        sealed = seal(found.pseudonyms if found else None)
        stated = None if settings.sources == ONE_KIND else settings.sources
        agree = ledger.regime.look if only_look else ledger.regime.bind
        return cls(ledger, settings, found, agree(sealed, stated), sealed)

    @property
    def rules(self) -> list[Any]:
        """What of it decides about a study."""
        return [self.settings.model_dump(mode="json", exclude={"key_file"}), dict(self._seal)]

    def admit(self, study: Study) -> Source | None:
        """Return the kind of a study, where it is the one that this node takes.

        Raises
        ------
        SourceRefused
            It is not, or is of both kinds.
        """
        if self.in_force == ANY_SOURCES:
            return None
        kind = source_of(study, self.settings.unmarked)
        refuse_other(kind, None if self.in_force is None else Source(self.in_force))
        return kind

    def settle(self, kind: Source | None) -> None:
        """Let a study that is about to be written decide what this node takes.

        Raises
        ------
        SourceRefused
            Another study decided otherwise a moment ago.
        LedgerPseudonymsChanged
            Another process bound the ledger in another way.
        """
        if kind is None:
            return
        if not self._is_settled:
            self.in_force = self.ledger.regime.decide(self._seal, kind.value)
            self._is_settled = True
        if self.in_force not in (None, ANY_SOURCES):
            refuse_other(kind, Source(self.in_force))

    def identity(self, identity: Identity) -> Identity:
        """Return whom a study names as the FHIR server may know him."""
        return identity if self.pseudonymiser is None else self.pseudonymiser.identity(identity)

    def key(self, key: PatientKey) -> PatientKey:
        """Return an identifier of a patient as the FHIR server may know it; a pseudonym stays.

        Raises
        ------
        Unusable
            It is none that a Patient ID can be.
        """
        masked = self.pseudonymiser
        if masked is None or key.system == masked.pseudonyms.system:
            return key
        return masked.key(key)

    def study(self, study: Study, identity: Identity, zone: ZoneInfo | None) -> Study:
        """Return a study as the FHIR server may know it.

        Parameters
        ----------
        identity
            As `identity` returned it.
        """
        if self.pseudonymiser is None:
            return study
        return self.pseudonymiser.study(study, identity.key.value, zone)

    def doubts_dates(self, identity: Identity, patient: Mapping[str, Any] | None) -> bool:
        """Tell whether clinical data may be shifted by other days than the study.

        So it is where several pseudonyms became one Patient: each has days of its own.
        """
        masked = self.pseudonymiser
        if masked is None or masked.pseudonyms.shift is None or patient is None:
            return False
        system = masked.pseudonyms.system
        stated = patient.get("identifier")
        borne = {
            one.get("value")
            for one in (stated if isinstance(stated, list) else [])
            if isinstance(one, dict) and one.get("system") == system
        }
        return borne != {identity.key.value}
