"""STOW-RS without an archive behind: headers are recorded, pixels discarded."""

from collections.abc import AsyncIterator
from typing import Final

from flute_sync.erase_errors import PatientErased
from flute_sync.errors import PermanentError
from flute_sync.intake import Received, Refused
from flute_sync.sources.http_messages import Reply, Request
from flute_sync.sources.stow_ledger import LedgerDoor
from flute_sync.sources.stow_parts import Parts, Tally, refused
from flute_sync.sources.stow_response import StoreResponse
from flute_sync.study import Instance
from flute_sync.upload_errors import StudyUidMismatch

_BATCH: Final = 1000


class IndexedUpload:
    """One upload whose headers are recorded.

    Parameters
    ----------
    study
        Of the address, to which every instance must belong; None where it names none.
    retrieve_base
        Where the archive that holds the instances serves them; None where that is not known.
    """

    def __init__(
        self,
        request: Request,
        parts: Parts,
        door: LedgerDoor,
        tally: Tally,
        *,
        study: str | None,
        retrieve_base: str | None,
    ) -> None:
        self._representation = request.representation()
        self._parts = parts
        self._door = door
        self._study = study
        self._base = retrieve_base
        self._response = StoreResponse()
        self._received: list[Received] = []
        self._refused: list[Refused] = []
        self._tally = tally

    async def reply(self, body: AsyncIterator[bytes]) -> Reply:
        """Take the upload; what is said to be stored is committed.

        Raises
        ------
        FluteSyncError
            When the upload cannot be taken to its end.
        """
        async for chunk in body:
            self._tally.bytes += len(chunk)
            for part, data in self._parts.feed(chunk):
                if data is None:
                    self._take(part.outcome)
            if len(self._received) >= _BATCH:
                await self._commit()
        self._parts.close()
        await self._commit()
        self._response.lead_to(self._base or "", self._study_url())
        status = 200
        if self._tally.failed:
            status = 409 if self._tally.failed == self._tally.parts else 202
        return self._response.reply(status, self._representation)

    def _take(self, outcome: Received | PermanentError | None) -> None:
        self._tally.parts += 1
        if isinstance(outcome, Received):
            instance = outcome.instance
            if self._study in (None, outcome.study_instance_uid):
                self._received.append(outcome)
                return
            self._fail(StudyUidMismatch.dimse_status, instance)
        elif outcome is not None:
            self._tally.failed += 1
            self._refused.extend(refused(outcome))
            self._response.add_refused(outcome)

    async def _commit(self) -> None:
        if not (self._received or self._refused):
            return
        erased = await self._door.deliver(tuple(self._received), refused=tuple(self._refused))
        for one in self._received:
            instance = one.instance
            if one.study_instance_uid in erased:
                self._fail(PatientErased.dimse_status, instance)
            else:
                names = instance.header.sop_class_uid, instance.sop_instance_uid
                self._tally.studies.add(one.study_instance_uid)
                self._response.add_stored(*names, self._url(one))
        self._received.clear()
        self._refused.clear()

    def _fail(self, status: int, instance: Instance) -> None:
        self._tally.failed += 1
        self._response.add_failed(status, instance.header.sop_class_uid, instance.sop_instance_uid)

    def _url(self, received: Received) -> str | None:
        if self._base is None:
            return None
        return (
            f"{self._base}/studies/{received.study_instance_uid}"
            f"/series/{received.series_instance_uid}"
            f"/instances/{received.instance.sop_instance_uid}"
        )

    def _study_url(self) -> str | None:
        if self._base is None or len(self._tally.studies) != 1:
            return None
        return f"{self._base}/studies/{next(iter(self._tally.studies))}"
