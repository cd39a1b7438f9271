"""``/studies``: what the FHIR server holds, searched and paged.

A search may name a patient's identifier: it is kept here, and a random word stands in the address.
"""

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, Final

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from flute_sync.console.pages.elements import modalities, number, subject, text
from flute_sync.console.pages.sessions import Person
from flute_sync.console.pages.shell import Shell
from flute_sync.console_errors import PageAbsent, SearchRefused
from flute_sync.fhir.browsing import StudyBrowser, StudyCriteria
from flute_sync.fhir.queries import Page
from flute_sync.fhir_elements import study_uid
from flute_sync.link_elements import links_of

_MOST_SEARCHES: Final = 2000
_NAMES: Final = tuple(field.name for field in fields(StudyCriteria))
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Asked:
    """A search, who asked for it, and which page of it is meant."""

    identity: str
    criteria: StudyCriteria
    next_url: str | None = None


class Searches:
    """Searches under random words; the oldest goes where there are too many."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Asked] = OrderedDict()

    def keep(self, asked: Asked) -> str:
        """Return a word for a search."""
        word = secrets.token_urlsafe(16)
        self._kept[word] = asked
        while len(self._kept) > _MOST_SEARCHES:
            self._kept.popitem(last=False)
        return word

    def of(self, word: str, person: Person) -> Asked:
        """Return the search of a word.

        Raises
        ------
        PageAbsent
            It is not known any more, or another person's.
        """
        asked = self._kept.get(word)
        if asked is None or asked.identity != person.identity:
            raise PageAbsent("this search is over")
        return asked


class Listing:
    """The list of studies.

    Parameters
    ----------
    at_once
        Bounds how many wait for the FHIR server.
    """

    def __init__(
        self, shell: Shell, browser: StudyBrowser, base_url: str, at_once: CapacityLimiter
    ) -> None:
        self._shell = shell
        self._browser = browser
        self._base_url = base_url
        self._at_once = at_once
        self._searches = Searches()

    async def show(self, request: Request, person: Person) -> Response:
        """Answer GET: a page of a search, or the latest studies."""
        given = request.query_params
        if "at" in given:
            asked = self._searches.of(given["at"], person)
        else:
            asked = Asked(person.identity, criteria_of(given))
        try:
            found = await self._found(asked)
        except SearchRefused as error:
            return self._page(request, person, asked, Page([], None), error)
        self._shell.audit.listed(person.identity, len(found.matches))
        return self._page(request, person, asked, found)

    async def search(self, request: Request, person: Person) -> Response:
        """Answer POST: keep the search and lead to it."""
        given = await self._shell.form(request, person)
        word = self._searches.keep(Asked(person.identity, criteria_of(given)))
        return RedirectResponse(f"/studies?at={word}", status_code=303)

    async def _found(self, asked: Asked) -> Page:
        find = partial(self._browser.find, asked.criteria, asked.next_url)
        return await to_thread.run_sync(find, limiter=self._at_once)

    def _page(
        self,
        request: Request,
        person: Person,
        asked: Asked,
        found: Page,
        error: SearchRefused | None = None,
    ) -> Response:
        following = None
        if found.next_url is not None:
            following = self._searches.keep(Asked(person.identity, asked.criteria, found.next_url))
        return self._shell.page(
            request,
            "studies.html",
            person,
            200 if error is None else error.http_status,
            criteria=asdict(asked.criteria),
            rows=[row_of(study, self._base_url) for study in found.matches],
            following=following,
            is_further=asked.next_url is not None,
            error=error,
        )


def criteria_of(given: Mapping[str, str]) -> StudyCriteria:
    """Read what is searched for; what is not known is left out."""
    stated = {name: given.get(name, "").strip()[:_LONGEST] for name in _NAMES}
    return StudyCriteria(**{**stated, "modality": stated["modality"].upper()})


def row_of(study: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    """Return what the list tells of an ImagingStudy."""
    return {
        "id": str(study["id"]),
        "started": text(study.get("started"), 40),
        "description": text(study.get("description")),
        "modalities": modalities(study),
        "subject": subject(study),
        "status": text(study.get("status"), 40),
        "series": number(study.get("numberOfSeries")),
        "instances": number(study.get("numberOfInstances")),
        "links": len(links_of(study, base_url)),
        "uid": text(study_uid(study), 64),
    }
