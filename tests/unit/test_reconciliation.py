"""What does not fit between archive, ledger and FHIR server: each case, and what always holds."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.reconciliation import (
    HINTS,
    MEANINGS,
    NOTES,
    Case,
    Held,
    Kind,
    Known,
    Listed,
    Said,
    Scene,
    compare,
)
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State

UID = StudyInstanceUID("1.2.3")
SCENE = Scene(frozenset({"pacs"}), frozenset({"http://pacs.example/dicom-web"}))
LISTED = Listed("pacs", 2, 5, "print")
HELD = Held(2, 5, "print", is_absent=False)
KNOWN = Known(UID, State.COMPLETED, None, 2, 5, "7", "1", "Patient/1", {"pacs": HELD})
SAID = Said(
    "7", "1", "available", "Patient/1", 2, 5, date(2026, 1, 2), ("e1",),
    "http://pacs.example/dicom-web",
)  # fmt: skip
WELL = Case(UID, (LISTED,), KNOWN, (SAID,))


def known(**changes: Any) -> Known:
    return replace(KNOWN, **changes)


def said(**changes: Any) -> Said:
    return replace(SAID, **changes)


def other(**changes: Any) -> Case:
    return replace(WELL, **changes)


CASES = {
    "all is well": (WELL, []),
    "nobody knows it": (Case(UID), []),
    "new in the archive": (other(known=None, said=()), [Kind.MISSING]),
    "adoptable": (other(known=None), [Kind.DIFFERENT]),
    "out of scope": (other(known=known(state=State.CANCELLED, resource_id=None), said=()), []),
    "on hold": (
        other(known=known(state=State.ON_HOLD, code="PATIENT-ABSENT", resource_id=None), said=()),
        [Kind.ON_HOLD],
    ),
    "work owed": (other(known=known(state=State.FAILED, code="FHIR-BUSY")), [Kind.PENDING]),
    "just received": (other(known=known(state=State.RECEIVED), said=()), [Kind.PENDING]),
    "gone from FHIR": (other(said=()), [Kind.GONE]),
    "deleted, and held for that": (
        other(known=known(state=State.ON_HOLD, code="FHIR-GONE"), said=()),
        [Kind.GONE],
    ),
    "created anew by others": (other(said=(said(resource_id="8"),)), [Kind.DIFFERENT]),
    "written by others": (other(said=(said(version_id="2"),)), [Kind.DIFFERENT]),
    "the archive grew": (
        other(listed=(replace(LISTED, instances=6, fingerprint="new"),)),
        [Kind.DIFFERENT],
    ),
    "grew, without fingerprints": (
        other(
            listed=(replace(LISTED, instances=6, fingerprint=None),),
        ),
        [Kind.DIFFERENT],
    ),
    "an archive that counts nothing": (
        other(listed=(Listed("pacs", None, None, "this month's"),)),
        [],
    ),
    "back after an absence": (
        other(known=known(archives={"pacs": replace(HELD, is_absent=True)})),
        [Kind.DIFFERENT],
    ),
    "another patient's": (other(is_of_another=True), [Kind.WRONG_PATIENT]),
    "held for another patient": (
        other(known=known(state=State.ON_HOLD, code="PATIENT-CHANGED")),
        [Kind.WRONG_PATIENT],
    ),
    "another patient's, and work is owed": (
        other(known=known(state=State.READY), is_of_another=True),
        [Kind.PENDING],
    ),
    "two of them": (other(said=(SAID, said(resource_id="8"))), [Kind.DUPLICATE]),
    "two, one taken back": (
        other(said=(SAID, said(resource_id="8", status="entered-in-error"))),
        [],
    ),
    "no archive has it": (other(listed=()), [Kind.EXTRA]),
    "no archive has it, the ledger was lost": (other(listed=(), known=None), [Kind.EXTRA]),
    "somebody else's": (
        other(listed=(), known=None, said=(said(source="http://other.example"),)),
        [],
    ),
    "taken back already": (other(listed=(), said=(said(status="unknown"),)), []),
    "cancelled": (other(listed=(), said=(said(status="cancelled"),)), []),
    "gone everywhere": (other(listed=(), said=()), []),
    "held by an archive that was not listed": (
        other(listed=(), known=known(archives={"other": HELD})),
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_case(name: str) -> None:
    case, kinds = CASES[name]
    assert [finding.kind for finding in compare(case, SCENE)] == kinds


def test_reasons_say_in_which_respect() -> None:
    (found,) = compare(
        other(said=(said(version_id="2", status="unknown", instances=4, endpoints=("gone",)),)),
        replace(SCENE, broken=frozenset({"gone"})),
    )
    assert found.reasons == (
        "written by others since",
        "status unknown",
        "fewer instances than the archive states",
        "refers to an Endpoint that does not exist",
    )
    (found,) = compare(
        other(listed=(), known=known(archives={"pacs": replace(HELD, is_absent=True)})), SCENE
    )
    assert (found.kind, found.reasons) == (Kind.EXTRA, ("absence is being confirmed",))


def test_of_what_the_ledger_lost_nobody_is_asked_and_that_is_said() -> None:
    (found,) = compare(other(listed=(), known=None), SCENE)
    assert (found.kind, found.reasons) == (Kind.EXTRA, ("not in the ledger",))


def test_a_study_in_two_archives() -> None:
    scene = replace(SCENE, archives=frozenset({"pacs", "vna"}))
    both = (LISTED, replace(LISTED, archive="vna"))
    in_both = known(archives={"pacs": HELD, "vna": HELD})
    assert compare(other(listed=both, known=in_both), scene) == ()
    (new,) = compare(other(listed=both), scene)
    assert new.reasons == ("the archive changed",)
    (left,) = compare(other(known=in_both), scene)
    assert left.reasons == ("one of its archives lists it no more",)
    assert compare(other(known=in_both), SCENE) == ()  # the other one was not listed


@pytest.mark.parametrize(
    ("since", "until", "kinds"),
    [
        (date(2026, 1, 2), None, [Kind.EXTRA]),
        (None, date(2026, 1, 2), [Kind.EXTRA]),
        (date(2026, 1, 3), None, []),
        (None, date(2026, 1, 1), []),
    ],
)
def test_what_lies_outside_of_the_dates_is_not_extra(
    since: date | None, until: date | None, kinds: list[Kind]
) -> None:
    scene = replace(SCENE, since=since, until=until)
    assert [one.kind for one in compare(other(listed=()), scene)] == kinds
    undated = other(listed=(), said=(said(started=None),))
    assert compare(undated, scene) == ()


def test_every_kind_is_explained() -> None:
    assert MEANINGS.keys() == HINTS.keys() == set(Kind)


counts = st.none() | st.integers(0, 5)
helds = st.builds(Held, counts, counts, st.sampled_from(["a", "b", None]), st.booleans())
cases = st.builds(
    Case,
    st.just(UID),
    st.lists(
        st.builds(
            Listed, st.sampled_from(["pacs", "vna"]), counts, counts, st.sampled_from(["a", None])
        ),
        max_size=2,
        unique_by=lambda one: one.archive,
    ).map(tuple),
    st.none()
    | st.builds(
        Known,
        st.just(UID),
        st.sampled_from(State),
        st.sampled_from([None, "PATIENT-CHANGED", "FHIR-GONE", "X"]),
        st.integers(0, 5),
        st.integers(0, 5),
        st.sampled_from(["7", None]),
        st.sampled_from(["1", None]),
        st.just("Patient/1"),
        st.dictionaries(st.sampled_from(["pacs", "vna"]), helds),
    ),
    st.lists(
        st.builds(
            Said,
            st.sampled_from(["7", "8", "9"]),
            st.sampled_from(["1", "2"]),
            st.sampled_from(["available", "unknown", "entered-in-error"]),
            st.sampled_from(["Patient/1", None]),
            counts,
            counts,
            st.none(),
            st.just(()),
            st.sampled_from([SAID.source, None]),
        ),
        max_size=3,
        unique_by=lambda one: one.resource_id,
    ).map(tuple),
    st.booleans(),
)


@given(cases)
def test_one_study_is_told_once(case: Case) -> None:
    found = compare(case, replace(SCENE, archives=frozenset({"pacs", "vna"})))
    assert len(found) <= 1
    assert all(one.study_instance_uid == UID for one in found)
    assert all(one.is_fault == (one.kind not in NOTES) for one in found)


@given(cases)
def test_what_an_archive_lists_is_never_extra_and_what_none_lists_is_never_missing(
    case: Case,
) -> None:
    kinds = {one.kind for one in compare(case, SCENE)}
    if case.listed:
        assert Kind.EXTRA not in kinds
    else:
        assert not kinds - {Kind.EXTRA, Kind.DUPLICATE}


@given(cases)
def test_nothing_is_missing_that_fhir_has(case: Case) -> None:
    if case.said:
        assert Kind.MISSING not in {one.kind for one in compare(case, SCENE)}
