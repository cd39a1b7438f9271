"""A flood of notices costs few commits, and each pusher learns what came of its own."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import pytest

from flute_sync.intake import Delivery, Notice
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.notice_rounds import NoticeRounds
from flute_sync.study import StudyInstanceUID
from tests.stow import FakeIntake

CHANGED, GONE = Notice.CHANGED, Notice.GONE


def told(*uids: object, notice: Notice = CHANGED) -> dict[str, dict[StudyInstanceUID, Notice]]:
    return {"pacs": {StudyInstanceUID(f"1.2.{uid}"): notice for uid in uids}}


def delivered(intake: FakeIntake) -> list[dict[str, Notice]]:
    return [{str(one[0]): one[1] for one in each.noticed} for each in intake.deliveries]


async def _held_up(intake: FakeIntake, rounds: NoticeRounds, *waiting: Any) -> list[Any]:
    """Start a commit that is held up, then others, and let them go on together."""
    before = intake.asked
    intake.gate.clear()
    first = asyncio.create_task(rounds.commit(told(0)))
    while intake.asked == before:  # noqa: ASYNC110 - counted by another thread
        await asyncio.sleep(0.001)
    others = [asyncio.create_task(rounds.commit(notices)) for notices in waiting]
    await asyncio.sleep(0)
    intake.gate.set()
    return [first, *others]


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


def test_what_waits_for_the_same_commit_is_committed_together() -> None:
    intake = FakeIntake()

    async def push() -> None:
        rounds = NoticeRounds(intake, "webhook")
        flood = [told(number % 3) for number in range(300)]
        await asyncio.gather(*await _held_up(intake, rounds, *flood, told(0, notice=GONE)))

    _run(push())
    first, second = delivered(intake)
    assert first == {"1.2.0": CHANGED}
    assert second == {"1.2.0": GONE, "1.2.1": CHANGED, "1.2.2": CHANGED}


class Superstitious(FakeIntake):
    """Commits nothing that has to do with study 13."""

    def deliver(self, delivery: Delivery) -> frozenset[StudyInstanceUID]:
        done = super().deliver(delivery)
        if "1.2.13" in [str(one.study_instance_uid) for one in delivery.noticed]:
            raise LedgerUnavailable
        return done


def test_a_failed_commit_fails_those_that_waited_for_it_and_no_other() -> None:
    intake = Superstitious()

    async def push() -> list[Any]:
        rounds = NoticeRounds(intake, "webhook")
        tasks = await _held_up(intake, rounds, told(1), told(13))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await rounds.commit(told(1))
        return results

    first, *others = _run(push())
    assert first is None
    assert [type(one) for one in others] == [LedgerUnavailable] * 2


def test_a_pusher_that_hangs_up_takes_nothing_with_it(caplog: pytest.LogCaptureFixture) -> None:
    intake = Superstitious()

    async def push() -> None:
        rounds = NoticeRounds(intake, "webhook")
        for uid in (1, 13):
            first, second, *rest = await _held_up(intake, rounds, told(uid), told(2), told(3))
            for task in (first, second) if uid == 1 else (first, second, *rest):
                task.cancel()
            await asyncio.wait([first, second, *rest])
        while "1.2.13" not in delivered(intake)[-1]:  # noqa: ASYNC110 - committed by a thread
            await asyncio.sleep(0.001)
        await rounds.commit(told(4))

    _run(push())
    gc.collect()
    assert {"1.2.1": CHANGED, "1.2.2": CHANGED, "1.2.3": CHANGED} in delivered(intake)
    assert delivered(intake)[-1] == {"1.2.4": CHANGED}
    assert caplog.records == []
