"""What the criteria need of the patients of a FHIR server: batch by batch, several at once.

References
----------
FHIR R4 search.html, patient.html#links, group.html.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from flute_sync.bundle import Resource
from flute_sync.command_errors import PatientsUnknown
from flute_sync.criteria_evidence import other_names, piece
from flute_sync.errors import TransientError
from flute_sync.exports.loading import group_members, refuse_groups
from flute_sync.exports.spool import Row, Spool, row
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.queries import Parameters
from flute_sync.fhir_elements import own_reference
from flute_sync.fhir_errors import FhirGone, FhirServerError
from flute_sync.flute_variables import CODES, systems

BATCH: Final = 50
"""Patients asked for at once."""
_PAGE: Final = ("_count", "200")
_STUDIES: Final = ("_count", "50")  # each may be large
_ATTEMPTS: Final = 5
_FIRST_WAIT: Final = timedelta(seconds=1)
_LONGEST_WAIT: Final = timedelta(minutes=1)
_MOST_ROUNDS: Final = 8

Tell = Callable[[int, int | None], None]
"""Called with how many patients were read, and of how many."""
Found = tuple[list[Row], list[tuple[str, str]], int]
"""Pieces, names that lead to other names, and how many patients it was."""
_T = TypeVar("_T")


def members_of(client: FhirClient, group: str) -> list[str]:
    """Return the Patients of a ``Group/ID``.

    Raises
    ------
    PatientsUnknown
        The server does not hold it, or it has Groups as members.
    """
    try:
        found = client.read("Group", group.partition("/")[2])
    except FhirGone:
        found = None
    if found is None:
        raise PatientsUnknown(f"{group} is not on the FHIR server")
    patients, groups = group_members(found)
    refuse_groups(group, groups)
    return patients


class CohortReader:
    """Reads patients into a spool.

    Parameters
    ----------
    workers
        How many batches are asked for at once.
    whole
        Types of resources of which everything is needed.
    wait
        Waits so long before what failed is tried again.
    """

    def __init__(
        self,
        client: FhirClient,
        *,
        workers: int,
        whole: Collection[str] = frozenset(),
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._client = client
        self._workers = workers
        self._whole = whole
        self._wait = wait

    def load(self, spool: Spool, tell: Tell, chosen: Sequence[str] | None) -> None:
        """Read all patients, or those chosen, each a ``Patient/ID``.

        Raises
        ------
        FluteSyncError
            The server did not answer, again and again, or refuses.
        """
        batches: Iterable[Callable[[], Found]]
        if chosen is None:
            total = self._patiently(lambda: self._client.total("Patient", []))
            found = (part for page in self._everybody() for part in _parts(page))
            batches = (partial(self._patients, part) for part in found)
        else:
            total = len(chosen)
            batches = (partial(self._chosen, part) for part in _parts(chosen))
        done = 0
        for rows, aliases, patients in self._in_order(batches):
            spool.add(rows, aliases)
            done += patients
            tell(done, total)

    def _everybody(self) -> Iterator[list[Resource]]:
        """Yield all Patients; of a page that fails now and then those before it are not lost."""
        seen: set[str | None] = {None}
        at = None
        while True:
            ask = partial(self._client.page, "Patient", [_PAGE], next_url=at)
            page = self._patiently(ask)
            yield page.matches
            at = page.next_url
            if at is None:
                return
            if at in seen:
                raise FhirServerError("the pages of a search lead in a circle")
            seen.add(at)

    def _in_order(self, batches: Iterable[Callable[[], Found]]) -> Iterator[Found]:
        """Keep a few batches in work, and no more: what was read would pile up."""
        waiting: deque[Future[Found]] = deque()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="criteria")
        try:
            for batch in batches:
                waiting.append(pool.submit(self._patiently, batch))
                if len(waiting) > 2 * self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _patiently(self, ask: Callable[[], _T]) -> _T:
        wait = _FIRST_WAIT
        for _ in range(_ATTEMPTS - 1):
            try:
                return ask()
            except TransientError as error:
                asked_for = error.retry_after or wait
                self._wait(min(asked_for, _LONGEST_WAIT).total_seconds())
                wait *= 2
        return ask()

    # -- one batch ---------------------------------------------------------------------------

    def _chosen(self, names: Sequence[str]) -> Found:
        """Read patients with those into whom they were merged, and who were merged into them."""
        known: dict[str, Resource] = {}
        asked: set[str] = set()
        wanted = set(names)
        for _ in range(_MOST_ROUNDS):
            new = sorted(wanted - asked)
            if not new:
                break
            asked |= set(new)
            ids = ",".join(one.partition("/")[2] for one in new)
            found = self._search("Patient", [("_id", ids), _PAGE])
            found += self._search("Patient", [("link", ",".join(new)), _PAGE])
            for one in found:
                known |= {name: one for name in [own_reference(one)] if name is not None}
            pairs = [pair for name, one in known.items() for pair in other_names(one, name)]
            same = [pair for pair in pairs if not asked.isdisjoint(pair)]
            wanted |= {one for pair in same for one in pair if one.startswith("Patient/")}
        rows, aliases, _ = self._patients([one for name, one in known.items() if name in wanted])
        return rows, aliases, len(names)

    def _patients(self, patients: Sequence[Resource]) -> Found:
        known = [(name, one) for one in patients if (name := own_reference(one)) is not None]
        aliases = [pair for name, one in known for pair in other_names(one, name)]
        former = [other for other, _ in aliases if other.startswith("Patient/")]
        names = list(dict.fromkeys([name for name, _ in known] + former))
        rows = list(self._rows(patients))
        for kind, parameters in _questions(names, self._whole) if names else ():
            if self._client.types is None or kind in self._client.types:
                for page in self._client.pages(kind, parameters, exact=kind == "Procedure"):
                    rows += self._rows(page)
        return rows, aliases, len(patients)

    def _rows(self, resources: Iterable[Resource]) -> Iterator[Row]:
        found = (piece(one, whole=self._whole) for one in resources)
        return (row(one) for one in found if one is not None)

    def _search(self, kind: str, parameters: Parameters) -> list[Resource]:
        return [one for page in self._client.pages(kind, parameters) for one in page]


def _questions(names: Sequence[str], whole: Collection[str]) -> Iterator[tuple[str, Parameters]]:
    patient = ("patient", ",".join(names))
    yield "ImagingStudy", [patient, _STUDIES]
    for kind in ("Procedure", "Observation"):
        if kind not in whole:
            codes = [
                f"{system}|{code.code}"
                for of, code in CODES.values()
                if of == kind
                for system in systems(code)
            ]
            yield kind, [patient, ("code", ",".join(codes)), _PAGE]
    for kind in sorted({"FamilyMemberHistory", *whole} - {"Patient", "ImagingStudy"}):
        yield kind, [patient, _PAGE]


def _parts(whole: Sequence[_T]) -> Iterator[list[_T]]:
    rest = iter(whole)
    while part := list(islice(rest, BATCH)):
        yield part
