"""Any order, grouping and repetition of deliveries gives the same study."""

from collections.abc import Callable
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flute_sync.intake import Received
from flute_sync.study import Study, StudyInstanceUID
from flute_sync.task import TRANSITIONS, State, TaskEvent
from tests.contract.ledger_site import Site, failed, header, held, left_out, received

HEADERS = [header(name) for name in "abc"]
ITEMS = st.builds(
    lambda series, number, archive: (
        received([number], series=series, said=HEADERS[(series + number) % 3])[0],
        f"archive{archive}",
    ),
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(1, 3),
)


@st.composite
def _two_histories(draw: st.DrawFn) -> tuple[list[list[tuple[Received, str]]], ...]:
    facts = draw(st.lists(ITEMS, min_size=1, max_size=25))
    return tuple(
        _cut(draw, draw(st.permutations(facts)) + draw(st.lists(st.sampled_from(facts))))
        for _ in range(2)
    )


def _cut(draw: st.DrawFn, facts: list[tuple[Received, str]]) -> list[list[tuple[Received, str]]]:
    deliveries = []
    while facts:
        size = draw(st.integers(1, len(facts)))
        deliveries.append(facts[:size])
        facts = facts[size:]
    return deliveries


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(histories=_two_histories())
def test_order_grouping_and_repetition_do_not_matter(
    site: Site, histories: tuple[list[list[tuple[Received, str]]], ...]
) -> None:
    studies = [_told(site, history) for history in histories]
    assert studies[0] == studies[1]
    told = {
        (item.series_instance_uid, item.instance) for item, _ in chain.from_iterable(histories[0])
    }
    assert set(studies[0].instances()) == told


def _told(site: Site, history: list[list[tuple[Received, str]]]) -> Study:
    """Tell one history to an empty study and load what came of it."""
    site.ledger.next_due()
    for table in ("event", "instance", "header", "series", "study_archive", "study"):
        site.execute(f"DELETE FROM {table}")
    for delivery in history:
        for archive in sorted({archive for _, archive in delivery}):
            site.deliver(tuple(item for item, at in delivery if at == archive), archive)
    return site.ledger.load(site.claim())


SETTLED: dict[State, Callable[[Site], object]] = {
    State.RECEIVED: lambda site: None,
    State.IN_PROGRESS: lambda site: site.claim(),
    State.READY: lambda site: (site.claim("x"), site.ledger.release("x")),
    State.COMPLETED: lambda site: site.sync(),
    State.ON_HOLD: lambda site: site.ledger.settle(site.claim(), held(waiting_for="k", rules="r")),
    State.FAILED: lambda site: site.ledger.settle(site.claim(), failed(site.clock.now)),
    State.CANCELLED: lambda site: site.ledger.settle(
        site.claim(), left_out(prune=False, waiting_for="k")
    ),
}
HAPPENING: dict[TaskEvent, Callable[[Site], object]] = {
    TaskEvent.NEWS: lambda site: site.deliver(received([2])),
    TaskEvent.REPLAY: lambda site: site.ledger.replay(StudyInstanceUID("1.2.3")),
    TaskEvent.WAKE: lambda site: site.ledger.wake_patients(["k", "Patient/1"]),
    TaskEvent.REJUDGE: lambda site: site.ledger.rejudge("other"),
}


@pytest.mark.parametrize("state", SETTLED)
@pytest.mark.parametrize("event", HAPPENING)
def test_states_follow_the_table(site: Site, state: State, event: TaskEvent) -> None:
    site.deliver(received([1]))
    SETTLED[state](site)
    if state in (State.COMPLETED, State.FAILED):
        site.execute("UPDATE study SET rules = 'r'")
    assert site.rows("SELECT state FROM study")[0][0] == state
    HAPPENING[event](site)
    expected = TRANSITIONS.get((state, event), state)
    assert site.rows("SELECT state FROM study")[0][0] == expected
