"""What arrives of erased studies and patients goes no further: nothing of it is recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from flute_sync.events import Event
from flute_sync.intake import Delivery
from flute_sync.ledger.columns import NOBODY, HeaderStore, dump_identity
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.marks import AGREEMENT, Marks, known, mark_as
from flute_sync.study import StudyInstanceUID


class News(NamedTuple):
    """A delivery, its archive's id, and the event of what it noticed."""

    delivery: Delivery
    archive_id: int
    event: Event = Event.STUDY_NOTICED


class Sifted(NamedTuple):
    """What is to be recorded, the studies that were erased, and those not known as such before."""

    group: list[News]
    erased: frozenset[StudyInstanceUID] = frozenset()
    newly: frozenset[StudyInstanceUID] = frozenset()


@dataclass(frozen=True, slots=True)
class Sieve:
    """Sifts what arrives in one transaction."""

    driver: Driver
    marks: Marks
    headers: HeaderStore

    def sift(self, group: Sequence[News]) -> Sifted:
        """Return what is to be recorded.

        A study of an erased patient counts as erased from its first header on.
        """
        self.driver.agree(AGREEMENT)
        studies = {uid for news in group for uid in studies_of(news.delivery)}
        named = self._named(group)
        of_studies = self.marks.of_studies(self.driver, studies)
        of_stated = {
            text: self.marks.of(self.driver, "stated", text)
            for text in {text for _, text in named if text != NOBODY}
        }
        found = known(self.driver, {*of_studies.values(), *of_stated.values()})
        if not found:
            return Sifted(list(group))
        erased = {uid for uid in studies if of_studies[uid] in found}
        fresh = {(uid, text) for uid, text in named if of_stated.get(text) in found}
        fresh = {(uid, text) for uid, text in fresh if uid not in erased}
        for uid, text in fresh:
            mark_as(self.driver, of_studies[uid], of_stated[text])
        newly = frozenset(uid for uid, _ in fresh)
        uids = newly | erased
        return Sifted([_without(news, uids) for news in group], uids, newly)

    def _named(self, group: Sequence[News]) -> set[tuple[StudyInstanceUID, str]]:
        """Return whom each study names, in what arrives of it."""
        said = {
            (item.study_instance_uid, id(item.instance.header)): item.instance.header
            for news in group
            for item in news.delivery.received
        }
        named = {(uid, self.headers.store(header).identity) for (uid, _), header in said.items()}
        return named | {
            (item.study_instance_uid, dump_identity(item.header))
            for news in group
            for item in news.delivery.performed
        }


def studies_of(delivery: Delivery) -> set[StudyInstanceUID]:
    """Return the studies of which a delivery says something."""
    said = (delivery.received, delivery.noticed, delivery.refused, delivery.performed)
    return {item.study_instance_uid for items in said for item in items}


def _without(news: News, erased: frozenset[StudyInstanceUID]) -> News:
    said = news.delivery
    kept = replace(
        said,
        received=tuple(one for one in said.received if one.study_instance_uid not in erased),
        noticed=tuple(one for one in said.noticed if one.study_instance_uid not in erased),
        refused=tuple(one for one in said.refused if one.study_instance_uid not in erased),
        performed=tuple(one for one in said.performed if one.study_instance_uid not in erased),
    )
    return news._replace(delivery=kept)
