"""``/studies/{id}``: one study, its series, its links and where else to look."""

from collections.abc import Sequence
from functools import partial
from html import escape
from textwrap import wrap
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response

from flute_sync.console.pages import contents
from flute_sync.console.pages.elements import modalities, subject, text
from flute_sync.console.pages.pictures import Pictures, Plan, Plans
from flute_sync.console.pages.sessions import Person
from flute_sync.console.pages.shell import Shell
from flute_sync.console.story import Story, story_of
from flute_sync.console.verbs.explain import as_dict as explained
from flute_sync.console.verbs.study import as_dict as told
from flute_sync.console_errors import PageAbsent
from flute_sync.daemon.archive_entries import ArchiveEntry
from flute_sync.daemon.config import Config
from flute_sync.errors import FluteSyncError
from flute_sync.fhir.browsing import StudyBrowser
from flute_sync.fhir_elements import members, study_uid
from flute_sync.ledger import Ledger
from flute_sync.ledger_errors import StudyUnknown
from flute_sync.study import StudyInstanceUID


class StudyReader:
    """Reads a study and says what its page shows; used from threads.

    Parameters
    ----------
    config
        The settings in force.
    """

    def __init__(self, config: Config, ledger: Ledger, browser: StudyBrowser) -> None:
        self._viewers = config.console.viewers
        self._archives = config.every_archive
        self._ledger = ledger
        self._browser = browser
        self._base_url = config.fhir.base_url.rstrip("/")

    def read(self, resource_id: str) -> tuple[Plan, dict[str, Any]]:
        """Return which pictures are shown, and what is told.

        Raises
        ------
        FluteSyncError
            The FHIR server, or the ledger, does not answer; `PageAbsent` where there is none.
        """
        study = self._browser.read(resource_id)
        uid = study_uid(study)
        uid = uid if contents.is_legal(uid) else None
        story = None if uid is None else self._story(uid)
        archives = self._of(story)
        urls = [
            {"name": entry.name, "url": f"{entry.published_url}/studies/{uid}"}
            for entry in archives
            if uid is not None and entry.published_url is not None
        ]
        series = contents.series_of(study, urls[0]["url"] if urls else None)
        shown = {one.instance: one.uid for one in series if one.instance is not None}
        plan = Plan(uid or "", shown, tuple(one.name for one in archives) if uid else ())
        rows = () if story is None else story.links.rows
        taken = [row for row in rows if row.taken]
        base = next((entry.published_url for entry in archives if entry.published_url), None)
        return plan, {
            "resource_id": resource_id,
            "uid": uid or "",
            "subject": subject(study),
            "started": text(study.get("started"), 40),
            "modalities": modalities(study),
            "description": text(study.get("description")),
            "status": text(study.get("status"), 40),
            "series": series,
            "further_series": len(members(study.get("series"))) - len(series),
            "urls": urls,
            "viewers": [] if uid is None else contents.viewer_links(self._viewers, uid, base),
            "told": None if story is None else told(story.study, story.known),
            "explained": None if story is None else explained(story.links),
            "foreign": contents.foreign_links(study, self._base_url, rows),
            "drawing": contents.drawing(study, taken),
        }

    def _story(self, uid: str) -> Story | None:
        try:
            return story_of(self._ledger, StudyInstanceUID(uid))
        except StudyUnknown:
            return None

    def _of(self, story: Story | None) -> Sequence[ArchiveEntry]:
        """Return the archives that hold a study; all, where nothing is known of it."""
        if story is None:
            return self._archives
        known = {one.name for one in story.study.archives if one.absent_since is None}
        return [entry for entry in self._archives if entry.name in known]


def _no_picture(error: FluteSyncError) -> Response:
    """Answer with a picture of words: browsers show it in place of the one that is not there."""
    said = "No picture" if isinstance(error, PageAbsent) else error.message()
    lines = "".join(
        f'<text x="96" y="{40 + 20 * number}">{escape(line)}</text>'
        for number, line in enumerate(wrap(said, 24))
    )
    style = 'width="192" height="192" font-size="14" text-anchor="middle" fill="#fff"'
    picture = f'<svg xmlns="http://www.w3.org/2000/svg" {style}>{lines}</svg>'
    return Response(picture, error.http_status, media_type="image/svg+xml")


class StudyPage:
    """The page, and the pictures on it.

    Parameters
    ----------
    at_once
        Bounds how many wait for the FHIR server.
    """

    def __init__(
        self, shell: Shell, reader: StudyReader, pictures: Pictures, at_once: CapacityLimiter
    ) -> None:
        self._shell = shell
        self._reader = reader
        self._pictures = pictures
        self._plans = Plans()
        self._at_once = at_once
        self._pictures_at_once = CapacityLimiter(at_once.total_tokens)

    async def show(self, request: Request, person: Person) -> Response:
        """Answer with the page."""
        resource_id = request.path_params["id"]
        plan, shown = await self._read(resource_id)
        self._plans.keep(resource_id, plan)
        self._shell.audit.looked(person.identity, plan.study_uid or None, shown["resource_id"])
        return self._shell.page(request, "study.html", person, **shown)

    async def picture(self, request: Request, _person: Person) -> Response:
        """Answer with the picture of an instance that the page shows."""
        try:
            plan = await self._plan(request.path_params["id"])
            get = partial(self._pictures.get, plan, request.path_params["instance"])
            picture = await to_thread.run_sync(get, limiter=self._pictures_at_once)
        except FluteSyncError as error:
            return _no_picture(error)
        return Response(picture.data, media_type=picture.media_type)

    async def _plan(self, resource_id: str) -> Plan:
        plan = self._plans.of(resource_id)
        if plan is None:
            plan, _ = await self._read(resource_id)
            self._plans.keep(resource_id, plan)
        return plan

    async def _read(self, resource_id: str) -> tuple[Plan, dict[str, Any]]:
        return await to_thread.run_sync(self._reader.read, resource_id, limiter=self._at_once)
