"""What the ledger promises about links that move to another patient, on SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

from flute_sync.ledger import Claim, HeldLink, Ledger, LinkNews, LinkRow, Settlement
from flute_sync.ledger_errors import StudyUnknown
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State
from tests.contract.ledger_site import OTHER, QUIET, STUDY, Site, held, left_out, received, synced

LOSER, GAINER = "Patient/1", "Patient/2"
SIBLING = StudyInstanceUID("1.2.6")
LINK = LinkRow(
    "Observation/1",
    "PR_ProstateSpecificAntigen",
    "time/psa-before",
    "certain",
    "the closest before",
    taken=True,
    ours=True,
)
REFUSED = LINK._replace(taken=False, ours=False)
HELD = HeldLink(LINK.reference, STUDY, "7")


def judged(
    patient: str, *rows: LinkRow, awaited: tuple[HeldLink, ...] = (), resource_id: str = "7"
) -> Settlement:
    news = LinkNews(patient, 0, rows, awaited=awaited)
    return replace(synced(resource_id), patient_reference=patient, links=news)


def claim(site: Site, uid: StudyInstanceUID) -> Claim:
    """Claim a study that nobody has yet, or that may be taken again."""
    try:
        site.view(uid)
    except StudyUnknown:
        site.deliver(received([1], study=uid))
        site.clock.pass_(QUIET)
    else:
        site.ledger.replay(uid)
    claimed = site.ledger.claim(uid)
    assert claimed is not None
    assert claimed.study_instance_uid == uid
    return claimed


def settle(site: Site, uid: StudyInstanceUID, settlement: Settlement) -> State:
    return site.ledger.settle(claim(site, uid), settlement)


def gains(site: Site, *beside: StudyInstanceUID) -> tuple[Claim, tuple[HeldLink, ...]]:
    """Let the other patient's study take the link as far as it may."""
    claimed = claim(site, OTHER)
    return claimed, site.ledger.links.plan(claimed, [LINK], (), beside)


def test_what_a_study_of_another_patient_has_is_not_taken(site: Site) -> None:
    settle(site, STUDY, judged(LOSER, LINK))
    claimed, found = gains(site)
    assert found == (HELD,)
    site.ledger.settle(claimed, held())
    assert site.ledger.links.view(OTHER).rows == ()
    claimed = claim(site, OTHER)
    assert site.ledger.links.plan(claimed, [], [LINK.reference]) == (HELD,)  # asked for alone


def test_what_was_judged_together_is_taken(site: Site) -> None:
    settle(site, STUDY, judged(LOSER, LINK))
    assert gains(site, STUDY, OTHER)[1] == ()
    assert site.ledger.links.view(OTHER).rows == (LINK,)


def test_what_is_planned_is_held_although_nothing_is_written_yet(site: Site) -> None:
    claimed = claim(site, STUDY)
    assert site.ledger.links.plan(claimed, [LINK]) == ()
    assert gains(site)[1] == (replace(HELD, resource_id=None),)


def test_who_never_was_written_and_rests_holds_nothing(site: Site) -> None:
    claimed = claim(site, STUDY)
    site.ledger.links.plan(claimed, [LINK])
    assert site.ledger.settle(claimed, held()) is State.ON_HOLD
    assert gains(site)[1] == ()


def test_who_is_on_hold_gives_nothing_up(site: Site) -> None:
    settle(site, STUDY, judged(LOSER, LINK))
    assert settle(site, STUDY, held()) is State.ON_HOLD
    assert gains(site)[1] == (HELD,)


def test_who_is_out_of_scope_holds_nothing_and_lets_be_judged_who_waits(site: Site) -> None:
    settle(site, STUDY, judged(LOSER, LINK))
    settle(site, OTHER, judged(GAINER, REFUSED, awaited=(HELD,), resource_id="8"))
    settle(site, STUDY, left_out())
    assert site.view(OTHER).state == "ready"
    assert gains(site)[1] == ()


def test_who_waits_is_judged_again_when_the_link_is_given_up(site: Site) -> None:
    settle(site, STUDY, judged(LOSER, LINK))
    settle(site, SIBLING, judged(LOSER, REFUSED, resource_id="9"))
    waits = judged(GAINER, REFUSED, awaited=(HELD,), resource_id="8")
    assert settle(site, OTHER, waits) is State.COMPLETED
    settle(site, STUDY, judged(LOSER, LINK))
    assert site.view(OTHER).state == "completed"  # nothing was given up
    settle(site, STUDY, judged(LOSER, REFUSED))
    assert site.view(OTHER).state == "ready"
    assert (
        site.view(SIBLING).state == "completed"
    )  # it was judged together with the one that had it
    assert gains(site)[1] == ()


def test_a_step_that_waited_for_what_was_given_up_meanwhile_is_taken_again(site: Site) -> None:
    settle(site, STUDY, judged(LOSER, LINK))
    claimed, found = gains(site)
    settle(site, STUDY, judged(LOSER))
    waits = judged(GAINER, REFUSED, awaited=found, resource_id="8")
    assert site.ledger.settle(claimed, waits) is State.READY


def test_of_steps_that_end_at_once_none_misses_the_other(site: Site) -> None:
    second = site.open()
    for _ in range(10):
        settle(site, STUDY, judged(LOSER, LINK))
        gaining, found = gains(site)
        losing = claim(site, STUDY)
        together = Barrier(2)

        def lose(claimed: Claim = losing, start: Barrier = together) -> None:
            start.wait(60)
            site.ledger.settle(claimed, judged(LOSER))

        def wait(
            claimed: Claim = gaining,
            awaited: tuple[HeldLink, ...] = found,
            start: Barrier = together,
        ) -> None:
            start.wait(60)
            second.settle(claimed, judged(GAINER, REFUSED, awaited=awaited, resource_id="8"))

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(lose), pool.submit(wait)]:
                done.result(60)
        assert site.view(OTHER).state == "ready"
        settle(site, OTHER, judged(GAINER, resource_id="8"))


def test_of_steps_that_take_a_link_at_once_one_has_it(site: Site) -> None:
    second = site.open()
    first, other = claim(site, STUDY), claim(site, OTHER)
    for number in range(10):
        row = LINK._replace(reference=f"Observation/{number}")
        together = Barrier(2)

        def take(
            ledger: Ledger, claimed: Claim, row: LinkRow = row, start: Barrier = together
        ) -> int:
            start.wait(60)
            return len(ledger.links.plan(claimed, [row]))

        with ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(take, site.ledger, first), pool.submit(take, second, other)]
            assert sorted(one.result(60) for one in asked) == [0, 1]
