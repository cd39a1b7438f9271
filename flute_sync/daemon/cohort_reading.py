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
from flute_sync.criteria_evidence import LOGICAL, Piece, other_names, piece
from flute_sync.errors import TransientError
from flute_sync.exports.loading import Members, group_members
from flute_sync.exports.spool import Row, Spool, row
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.queries import Parameters, identifier_search
from flute_sync.fhir_elements import own_reference
from flute_sync.fhir_errors import FhirGone, FhirRejected, FhirServerError
from flute_sync.flute_variables import CODES, systems

BATCH: Final = 50
"""Patients asked for at once."""
_PAGE: Final = ("_count", "200")
_STUDIES: Final = ("_count", "50")  # each may be large
_ATTEMPTS: Final = 5
_FIRST_WAIT: Final = timedelta(seconds=1)
_LONGEST_WAIT: Final = timedelta(minutes=1)
_MOST_ROUNDS: Final = 8
_JUDGED: Final = frozenset({"ImagingStudy", "Procedure"})

Tell = Callable[[int, int | None], None]
"""Called with how many patients were read, and of how many."""
Found = tuple[list[Row], list[tuple[str, str]], int]
"""Pieces, names that lead to other names, and how many patients it was."""
_T = TypeVar("_T")


def members_of(client: FhirClient, group: str) -> Members | None:
    """Return who are members of a ``Group/ID``; None where the server does not hold it."""
    try:
        found = client.read("Group", group.partition("/")[2])
    except FhirGone:
        return None
    return None if found is None else group_members(found)


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
        self._whole = frozenset(whole)
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
        for kind, parameters in self._questions(("patient:missing", "true")):
            if kind not in _JUDGED | self._whole:  # such a search may be slow, for counts of links
                continue
            ask = partial(self._logical, kind, parameters, all_are_known=chosen is None)
            spool.add(*self._patiently(ask))

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
        for question in self._questions(("patient", ",".join(names))) if names else ():
            for page in self._pages(*question):
                rows += self._rows(page)
        return rows, aliases, len(patients)

    def _logical(
        self, kind: str, parameters: Parameters, *, all_are_known: bool
    ) -> tuple[list[Row], list[tuple[str, str]]]:
        """Read what names its patient by an identifier alone, and who has that.

        A server that cannot be asked for what lacks a literal reference tells nothing of it.
        """
        try:
            pieces = (one for page in self._pages(kind, parameters) for one in self._pieces(page))
            found = [one for one in pieces if one.patient.startswith(LOGICAL)]
        except FhirRejected:
            return [], []
        rows = [row(one) for one in found]
        if all_are_known:
            return rows, []
        people: dict[str, Resource] = {}
        for part in _parts(sorted({one.patient for one in found})):
            keys = [name.removeprefix(LOGICAL).partition("|") for name in part]
            search = identifier_search((system, value) for system, _, value in keys)
            people |= {
                f"Patient/{one['id']}": one for one in self._search("Patient", [*search, _PAGE])
            }
        return rows, [pair for name, one in people.items() for pair in other_names(one, name)]

    def _questions(self, whose: tuple[str, str]) -> Iterator[tuple[str, Parameters]]:
        """Yield what is asked of patients, of the types that the server has."""
        for kind, parameters in _questions(whose, self._whole):
            if self._client.types is None or kind in self._client.types:
                yield kind, parameters

    def _pages(self, kind: str, parameters: Parameters) -> Iterator[list[Resource]]:
        return self._client.pages(kind, parameters, exact=kind == "Procedure")

    def _pieces(self, resources: Iterable[Resource]) -> Iterator[Piece]:
        found = (piece(one, whole=self._whole) for one in resources)
        return (one for one in found if one is not None)

    def _rows(self, resources: Iterable[Resource]) -> Iterator[Row]:
        return map(row, self._pieces(resources))

    def _search(self, kind: str, parameters: Parameters) -> list[Resource]:
        return [one for page in self._client.pages(kind, parameters) for one in page]


def _questions(whose: tuple[str, str], whole: Collection[str]) -> Iterator[tuple[str, Parameters]]:
    yield "ImagingStudy", [whose, _STUDIES]
    for kind in ("Procedure", "Observation"):
        if kind not in whole:
            codes = [
                f"{system}|{code.code}"
                for of, code in CODES.values()
                if of == kind
                for system in systems(code)
            ]
            yield kind, [whose, ("code", ",".join(codes)), _PAGE]
    for kind in sorted({"FamilyMemberHistory", *whole} - {"Patient", "ImagingStudy"}):
        yield kind, [whose, _PAGE]


def _parts(whole: Sequence[_T]) -> Iterator[list[_T]]:
    rest = iter(whole)
    while part := list(islice(rest, BATCH)):
        yield part
