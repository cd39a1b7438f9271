"""From a question to judged patients: whom, read from where, by which settings."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from flute_sync.cohort import Tally
from flute_sync.cohort_resources import group, identifier, measure_report
from flute_sync.command_errors import PatientsUnknown
from flute_sync.criteria_evidence import name_of
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.daemon.cohort_reading import CohortReader, members_of
from flute_sync.daemon.cohort_writing import Outcome, write
from flute_sync.daemon.config import Config
from flute_sync.eligibility import CRITERION, TEXT, Eligibility, Judged
from flute_sync.exports.judging import OWN_ALONE_PIECES, BuiltIn, OwnRule, Part, judged, ready
from flute_sync.exports.loading import all_members, load
from flute_sync.exports.spool import Spool
from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir.queries import is_reference
from flute_sync.link_settings import LinkSettings
from flute_sync.own_criterion import OwnCriterion

_LARGEST_LISTING_BYTES: Final = 256 * 1024 * 1024
Tell = Callable[[int, int | None], None]
"""Called with how much was read, and of how much: patients of a server, bytes of files."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Parameters
    ----------
    source
        The files to read; None: the FHIR server of ``config``.
    group
        ``Group/ID`` of the patients; None: those listed.
    listed
        The patients, each ``Patient/ID``; None: all.
    own
        The criterion; None: the built-in one.
    """

    source: Path | None
    config: Config | None
    settings: CriteriaSettings
    group: str | None = None
    listed: tuple[str, ...] | None = None
    own: OwnCriterion | None = None

    @property
    def criterion(self) -> tuple[str, str]:
        """Name and text of the criterion."""
        return (self.own.name, self.own.description) if self.own else (CRITERION, TEXT)

    @property
    def whole(self) -> frozenset[str]:
        """Types of resources of which everything is needed."""
        return frozenset({"Patient", *self.own.resources}) if self.own else frozenset()

    @property
    def scope(self) -> str:
        """Who was judged, in the identifier of what is written back; empty: all."""
        if self.listed is None:
            return self.group or ""
        return f"listed-{sha256(' '.join(sorted(self.listed)).encode()).hexdigest()[:16]}"


def listed(path: Path) -> tuple[str, ...]:
    """Read a list of patients, a line for each, ``Patient/ID`` or ID.

    Raises
    ------
    PatientsUnknown
        It cannot be read, or a line is something else.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_LISTING_BYTES)
        lines = data.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise PatientsUnknown(f"{path.name} cannot be read") from None
    found = dict.fromkeys(_patient(line.strip(), path, at) for at, line in enumerate(lines, 1))
    found.pop(None, None)
    return tuple(one for one in found if one is not None)


def _patient(line: str, path: Path, at: int) -> str | None:
    if not line:
        return None
    name = line if "/" in line or line.startswith("urn:") else f"Patient/{line}"
    found = name_of(name)
    if found is None or not found.startswith(("Patient/", "urn:")):
        raise PatientsUnknown(f"line {at} of {path.name} names no Patient")
    return found


class Judging:
    """Reads what a question needs, then judges it, and may write the result back.

    Parameters
    ----------
    client
        Opens the FHIR server.
    """

    def __init__(
        self,
        question: Question,
        spool: Spool,
        *,
        client: Callable[[FhirSettings], FhirClient] = FhirClient,
    ) -> None:
        self.question = question
        self.tally = Tally()
        self.included: list[str] = []
        self._spool = spool
        self._client = client
        self._chosen: frozenset[str] | None = None
        self._own = None if question.own is None else ready(question.own)

    def read(self, tell: Tell) -> None:
        """Read the patients.

        Raises
        ------
        FluteSyncError
            The input is not sound, or the server does not serve.
        """
        question = self.question
        if question.source is not None:
            wanted = question.group is not None
            found = load(question.source, self._spool, tell, groups=wanted, whole=question.whole)
            self.tally.without_patient = found.without_patient
            self.tally.files_not_read = found.files_not_read
            self.tally.pages_missing = found.pages_missing
            names = question.listed
            if question.group is not None:
                groups = {name: one.members for name, one in found.groups.items()}
                names = all_members(question.group, groups.get, "in the input")
        else:
            names = self._ask(tell)
        self._spool.settle()
        if names is not None:
            self._chosen = frozenset(self._spool.name(one) for one in names)

    def _ask(self, tell: Tell) -> tuple[str, ...] | None:
        question = self.question
        config = _config(question)
        with self._client(config.fhir) as client:
            client.capabilities()
            names = question.listed
            if question.group is not None:
                read = partial(members_of, client)
                names = all_members(question.group, read, "on the FHIR server")
            asked = (
                None if names is None else [one for one in names if is_reference(one, "Patient")]
            )
            reader = CohortReader(client, workers=config.sync.workers, whole=question.whole)
            reader.load(self._spool, tell, asked)
        return names

    def results(self) -> Iterator[Judged]:
        """Yield all patients, in the order of their names, and count them."""
        links = self.question.config.links if self.question.config else LinkSettings()
        for part in self._judged(self.question.settings, links):
            self.tally.merge(part.tally)
            for one in part.judged:
                self.included += {
                    result.patient
                    for result in one.results
                    if result.verdict is Eligibility.INCLUDED
                }
                yield one
        self.tally.without_patient += self._spool.nameless
        if self._chosen is not None:
            self.tally.absent = len(self._chosen) - self.tally.patients

    def _judged(self, settings: CriteriaSettings, links: LinkSettings) -> Iterator[Part]:
        if self._own is None:
            return judged(self._spool, self._chosen, BuiltIn(settings, links))
        rule = OwnRule(self._own.model_dump_json(), settings, links)
        return judged(self._spool, self._chosen, rule, OWN_ALONE_PIECES)

    def write(self, now: datetime) -> list[tuple[str, Outcome]]:
        """Write Group and MeasureReport; return what became of each.

        Raises
        ------
        FluteSyncError
            The server does not take them.
        """
        config = _config(self.question)
        name, text = self.question.criterion
        key = identifier(config.identifier_system, self.question.scope, name)
        report = measure_report(
            key,
            self.tally,
            measure=f"{config.fhir.base_url.rstrip('/')}/Measure/{name}",
            text=text,
            written=now,
            subject=self.question.group,
        )
        with self._client(config.fhir) as client:
            return [write(client, one) for one in (group(key, self.included, name), report)]


def _config(question: Question) -> Config:
    if question.config is None:
        raise ValueError("a question to a server needs settings")
    return question.config
