"""An intake that keeps everything in memory, for tests of sources alone."""

from collections.abc import Iterable

from flute_sync.intake import Delivery, IntentId, Notice, Noticed, Performed
from flute_sync.study import StudyInstanceUID


class MemoryIntake:
    """Commits each delivery whole, as the ledger does; ``failure`` is raised instead, once."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.cursors: dict[tuple[str, str], str] = {}
        self.holdings: dict[str, set[StudyInstanceUID]] = {}
        """What archives hold besides what was delivered here."""
        self.failure: Exception | None = None
        self.erased: set[str] = set()
        """Studies of which nothing is taken any more."""

    def deliver(self, delivery: Delivery) -> frozenset[StudyInstanceUID]:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.deliveries.append(delivery)
        if delivery.cursor is not None:
            cursor = delivery.cursor
            self.cursors[cursor.source, cursor.archive] = cursor.value
        told = {one.study_instance_uid for one in delivery.received}
        return frozenset(told & self.erased)

    def cursor(self, source: str, archive: str) -> str | None:
        return self.cursors.get((source, archive))

    def intend(self, source: str, archive: str, studies: Iterable[StudyInstanceUID]) -> IntentId:
        raise NotImplementedError("pollers forward nothing")

    def extend(self, intent: IntentId, studies: Iterable[StudyInstanceUID]) -> None:
        raise NotImplementedError("pollers forward nothing")

    def abandon(self, intent: IntentId) -> None:
        raise NotImplementedError("pollers forward nothing")

    def held(
        self, archive: str, after: StudyInstanceUID | None, limit: int
    ) -> tuple[StudyInstanceUID, ...]:
        told = [delivery for delivery in self.deliveries if delivery.archive == archive]
        found = {
            one.study_instance_uid for delivery in told for one in delivery.received
        } | self.holdings.get(archive, set())
        gone = {
            one.study_instance_uid
            for delivery in told
            for one in delivery.noticed
            if one.notice is Notice.GONE
        }
        return tuple(sorted(uid for uid in found - gone if after is None or uid > after))[:limit]

    def performed_step(self, sop_instance_uid: str) -> tuple[Performed, ...]:
        told = {
            step.study_instance_uid: step
            for delivery in self.deliveries
            for step in delivery.performed
            if step.sop_instance_uid == sop_instance_uid
        }
        return tuple(told[study] for study in sorted(told))

    @property
    def noticed(self) -> list[Noticed]:
        return [one for delivery in self.deliveries for one in delivery.noticed]

    def take(self) -> dict[str, str | None]:
        """Return what was noticed since the last call: study UID -> newest fingerprint."""
        found = {str(one.study_instance_uid): one.fingerprint for one in self.noticed}
        self.deliveries.clear()
        return found
