"""What an archive may have stored is covered by an intent, whatever becomes of its uploads."""

import asyncio
import threading
from collections.abc import Iterable
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from flute_sync.errors import FluteSyncError
from flute_sync.intake import Delivery, IntentId, Performed
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.stow_intents import Intents, UploadIntent
from flute_sync.sources.stow_ledger import LedgerDoor
from flute_sync.study import StudyInstanceUID

A, B = StudyInstanceUID("1.2.1"), StudyInstanceUID("1.2.2")
LONG, SHORT = timedelta(minutes=5), timedelta(milliseconds=30)


class Book:
    """An intake that knows which intents are open, and of which studies a notice was left."""

    def __init__(self) -> None:
        self.open: dict[IntentId, set[StudyInstanceUID]] = {}
        self.noticed: list[StudyInstanceUID] = []
        self.delivered_under: list[IntentId | None] = []
        self.failing = False
        self.changed = threading.Condition()
        self._made = 0

    def _check(self) -> None:
        if self.failing:
            raise LedgerUnavailable

    def deliver(self, delivery: Delivery) -> frozenset[StudyInstanceUID]:
        with self.changed:
            self._check()
            if delivery.under is not None:
                assert delivery.under in self.open
                self.delivered_under.append(delivery.under)
            if delivery.closes is not None:
                del self.open[delivery.closes]
            self.changed.notify_all()
        return frozenset()

    def intend(self, source: str, archive: str, studies: Iterable[StudyInstanceUID]) -> IntentId:
        with self.changed:
            self._check()
            self._made += 1
            self.open[IntentId(self._made)] = set(studies)
            return IntentId(self._made)

    def extend(self, intent: IntentId, studies: Iterable[StudyInstanceUID]) -> None:
        with self.changed:
            self._check()
            self.open[intent] |= set(studies)

    def abandon(self, intent: IntentId) -> None:
        with self.changed:
            self._check()
            self.noticed += sorted(self.open.pop(intent))

    def cursor(self, source: str, archive: str) -> str | None:
        return None

    def held(
        self, archive: str, after: StudyInstanceUID | None, limit: int
    ) -> tuple[StudyInstanceUID, ...]:
        return ()

    def performed_step(self, sop_instance_uid: str) -> tuple[Performed, ...]:
        return ()

    def all_ended(self) -> bool:
        """Wait until no intent is open."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.open, 10)


async def begun(intents: Intents, *studies: StudyInstanceUID) -> UploadIntent:
    """Bring an upload so far that a part of each study may be completed."""
    upload = UploadIntent(intents)
    for study in studies:
        upload.begin(study)
        await upload.committed()
    return upload


async def done(intents: Intents, *studies: StudyInstanceUID) -> None:
    """Make a whole upload."""
    await (await begun(intents, *studies)).close((), (), ())


def test_an_intent_is_lent_to_the_next_upload_of_its_study_only() -> None:
    async def run() -> None:
        intents = Intents(LedgerDoor(book, "pacs", 2), LONG)
        for study in (A, A, B, A):
            await done(intents, study)

    book = Book()
    asyncio.run(run())
    assert book.delivered_under == [1, 1, 2, 1]
    assert book.open == {1: {A}, 2: {B}}


def test_uploads_at_once_hold_an_intent_each() -> None:
    async def run() -> None:
        intents = Intents(LedgerDoor(book, "pacs", 2), LONG)
        first, second = await begun(intents, A), await begun(intents, A)
        await first.release()
        assert book.open == {2: {A}}
        assert book.noticed == [A]
        await second.close((), (), ())

    book = Book()
    asyncio.run(run())
    assert book.delivered_under == [2]


def test_a_failed_upload_leaves_a_notice_although_its_intent_was_lent() -> None:
    async def run() -> None:
        intents = Intents(LedgerDoor(book, "pacs", 2), LONG)
        await done(intents, A)
        await (await begun(intents, A)).release()
        assert (book.open, book.noticed) == ({}, [A])
        await done(intents, A)

    book = Book()
    asyncio.run(run())
    assert book.delivered_under == [1, 2]


def test_the_intent_of_several_studies_ends_with_its_upload() -> None:
    async def run() -> None:
        intents = Intents(LedgerDoor(book, "pacs", 2), LONG)
        await done(intents, A)
        await done(intents, A, B)
        assert book.open == {}
        await done(intents, B)

    book = Book()
    asyncio.run(run())
    assert book.delivered_under == [1, 1, 2]


def test_an_intent_that_nobody_borrows_is_ended() -> None:
    async def run() -> None:
        intents = Intents(LedgerDoor(book, "pacs", 2), SHORT)
        await done(intents, A)
        assert await asyncio.to_thread(book.all_ended)

    book = Book()
    asyncio.run(run())
    assert book.noticed == []


def test_an_intent_that_is_too_old_ends_with_the_upload_that_holds_it() -> None:
    async def run() -> None:
        intents = Intents(LedgerDoor(book, "pacs", 2), timedelta())
        await done(intents, A)
        assert book.open == {}
        await done(intents, A)

    book = Book()
    asyncio.run(run())
    assert book.delivered_under == [1, 2]
    assert book.open == {}


def test_stopping_ends_what_is_lent_and_lends_no_more() -> None:
    async def run() -> None:
        door = LedgerDoor(book, "pacs", 2)
        intents = Intents(door, LONG)
        late = await begun(intents, B)
        await done(intents, A)
        intents.close()
        await late.close((), (), ())
        await door.close()

    book = Book()
    asyncio.run(run())
    assert (book.open, book.noticed) == ({}, [])


def test_an_intent_that_cannot_be_ended_is_left_to_run_out() -> None:
    async def run() -> None:
        door = LedgerDoor(book, "pacs", 2)
        intents = Intents(door, LONG)
        await done(intents, A)
        book.failing = True
        intents.close()
        await door.close()

    book = Book()
    asyncio.run(run())
    assert book.open == {1: {A}}


_STEP = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["begin", "begin", "close", "fail", "outage", "outage over"]),
    st.sampled_from([A, B]),
)


class Senders:
    """Uploads under way, and the studies of which each may have completed a part."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._intents = Intents(LedgerDoor(book, "pacs", 2), LONG)
        self._uploads: dict[int, UploadIntent] = {}
        self._owed: dict[int, set[StudyInstanceUID]] = {}

    async def obey(self, who: int, what: str, study: StudyInstanceUID) -> None:
        """Take one step."""
        if what.startswith("outage"):
            self._book.failing = what == "outage"
        elif what == "begin":
            await self._begin(who, study)
        elif who in self._uploads and not self._book.failing:
            await self._end(who, succeeds=what == "close")
        self._covered()

    async def _begin(self, who: int, study: StudyInstanceUID) -> None:
        upload = self._uploads.setdefault(who, UploadIntent(self._intents))
        upload.begin(study)
        try:
            await upload.committed()
        except FluteSyncError:
            self._book.failing = False
            await self._end(who, succeeds=False)
        else:
            self._owed.setdefault(who, set()).add(study)

    async def _end(self, who: int, *, succeeds: bool) -> None:
        upload, owed = self._uploads.pop(who), self._owed.pop(who, set())
        before = len(self._book.noticed)
        if succeeds:
            await upload.close((), (), ())
        else:
            await upload.release()
            assert owed <= set(self._book.noticed[before:])

    def _covered(self) -> None:
        """Each upload has an intent of its own that covers what it may have completed."""
        spare = list(self._book.open.values())
        for studies in sorted(self._owed.values(), key=len, reverse=True):
            fitting = [intent for intent in spare if studies <= intent]
            assert fitting, "an upload without an intent"
            spare.remove(min(fitting, key=len))


@settings(max_examples=200, deadline=None)
@given(st.lists(_STEP, max_size=30))
def test_whatever_happens_each_upload_is_covered_by_an_intent_of_its_own(
    steps: list[tuple[int, str, StudyInstanceUID]],
) -> None:
    async def run() -> None:
        senders = Senders(Book())
        for step in steps:
            await senders.obey(*step)

    asyncio.run(run())
