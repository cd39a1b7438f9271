"""Laws of the links, over generated histories."""

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flute_sync.flute_variables import Kind
from flute_sync.link_case import Case
from flute_sync.link_settings import LinkSettings
from flute_sync.supporting_info import display, judge
from tests import histories
from tests.histories import case, history

SEEDS = st.integers(0, 10**6)
SIZES = st.tuples(st.integers(0, 5), st.integers(0, 25))


def drawn(seed: int, size: tuple[int, int], **settings_: Any) -> Case:
    """A history in which some things are stated, undated or doubled."""
    made = history(seed, *size)
    chance = random.Random(seed)
    candidates = []
    for one in made.candidates:
        if one["resourceType"] == "Observation" and chance.random() < 0.2:
            number = chance.randrange(max(size[0], 1))
            one = {**one, "derivedFrom": [{"reference": f"ImagingStudy/m{number}"}]}
        if chance.random() < 0.1:
            one = {k: v for k, v in one.items() if not k.startswith(("effective", "performed"))}
        candidates.append(one)
    return case(made.studies, candidates, LinkSettings(**settings_))


@settings(max_examples=150)
@given(SEEDS, SIZES, st.randoms(use_true_random=False))
def test_the_order_of_things_does_not_matter(
    seed: int, size: tuple[int, int], chance: random.Random
) -> None:
    known = drawn(seed, size)
    studies, candidates = list(known.studies), list(known.candidates)
    chance.shuffle(studies)
    chance.shuffle(candidates)
    other = replace(known, studies=tuple(studies), candidates=(*candidates, *candidates[:3]))
    assert judge(other) == judge(known)


@settings(max_examples=150)
@given(SEEDS, SIZES)
def test_no_variable_is_on_two_studies_but_family_history(seed: int, size: tuple[int, int]) -> None:
    judged = judge(drawn(seed, size))
    found = Counter(
        link.reference
        for one in judged.values()
        for link in one.links
        if link.kind is not Kind.FAMILY_HISTORY
    )
    assert set(found.values()) <= {1}


@settings(max_examples=150)
@given(SEEDS, SIZES)
def test_everything_is_said_once_of_every_study(seed: int, size: tuple[int, int]) -> None:
    known = drawn(seed, size)
    expected = sorted(f"{one['resourceType']}/{one['id']}" for one in known.candidates)
    for one in judge(known).values():
        assert sorted(link.reference for link in (*one.links, *one.refused)) == expected


@settings(max_examples=100)
@given(SEEDS, SIZES)
def test_another_patients_resources_change_nothing(seed: int, size: tuple[int, int]) -> None:
    known = drawn(seed, size)
    theirs = [
        one | {"id": f"other-{one['id']}", element: {"reference": "Patient/p2"}}
        for one in map(dict, history(seed + 1, *size).candidates)
        for element in ["patient" if one["resourceType"] == "FamilyMemberHistory" else "subject"]
    ]
    more = judge(replace(known, candidates=(*known.candidates, *theirs)))
    assert {uid: one.links for uid, one in more.items()} == {
        uid: one.links for uid, one in judge(known).items()
    }


@settings(max_examples=100)
@given(SEEDS, SIZES, st.integers(0, 120), st.integers(0, 60))
def test_a_wider_window_takes_no_final_score_or_biopsy_away(
    seed: int, size: tuple[int, int], days: int, more: int
) -> None:
    made = history(seed, *size)
    final = [one | {"status": "final"} for one in made.candidates if one["status"] == "final"]
    others = [one for one in made.candidates if one["resourceType"] == "Procedure"]

    def found(window: int) -> set[tuple[str, str]]:
        wide = LinkSettings(
            report_after=timedelta(days=window), biopsy_after_months=1 + window // 10
        )
        judged = judge(case(made.studies, [*final, *others], wide))
        kinds = (Kind.PI_RADS, Kind.VOLUME, Kind.BIOPSY)
        return {
            (uid, link.reference)
            for uid, one in judged.items()
            for link in one.links
            if link.kind in kinds and link.rule.startswith("time/")
        }

    assert found(days) <= found(days + more)


@settings(max_examples=100)
@given(SEEDS, SIZES, st.integers(0, 300), st.integers(0, 60))
def test_a_wider_window_leaves_no_mri_without_the_value_before_it(
    seed: int, size: tuple[int, int], days: int, more: int
) -> None:
    made = history(seed, *size)

    def served(window: int) -> set[str]:
        wide = LinkSettings(psa_before=timedelta(days=window), psa_after=timedelta(0))
        judged = judge(case(made.studies, made.candidates, wide))
        return {
            uid
            for uid, one in judged.items()
            if any(link.rule == "time/psa-before" for link in one.links)
        }

    assert len(served(days)) <= len(served(days + more))


@settings(max_examples=50)
@given(SEEDS, SIZES)
def test_a_removed_link_leaves_the_links_of_other_kinds(seed: int, size: tuple[int, int]) -> None:
    known = drawn(seed, size)
    judged = judge(known)
    kept = (Kind.FAMILY_HISTORY, Kind.PI_RADS, Kind.VOLUME, Kind.DRE)
    without = replace(
        known, candidates=tuple(one for one in known.candidates if not one["id"].startswith("psa"))
    )
    for uid, one in judge(without).items():
        assert [link for link in one.links if link.kind in kept] == [
            link for link in judged[uid].links if link.kind in kept
        ]


WEIRD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["reference", "coding", "system", "code", "value", "identifier", "start"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
ELEMENTS = st.sampled_from(
    ["status", "code", "subject", "patient", "effectiveDateTime", "effectivePeriod", "performedAge",
     "derivedFrom", "basedOn", "partOf", "hasMember", "encounter", "valueQuantity", "valueInteger",
     "valueCodeableConcept", "bodySite", "category", "outcome", "condition", "relationship", "meta",
     "report", "focus", "started", "series", "identifier", "modality", "procedureCode", "id",
     "description", "resourceType", "component", "date"]
)  # fmt: skip


@settings(max_examples=400)
@given(SEEDS, st.dictionaries(ELEMENTS, WEIRD, min_size=1, max_size=3), st.data())
def test_nonsense_is_survived(seed: int, nonsense: dict[str, Any], data: st.DataObject) -> None:
    made = history(seed, 2, 8)
    resources = [*made.studies, *made.candidates]
    index = data.draw(st.integers(0, len(resources) - 1))
    resources[index] = resources[index] | nonsense
    studies, candidates = resources[: len(made.studies)], resources[len(made.studies) :]
    judged = judge(
        case(
            studies, candidates, patient={"birthDate": nonsense.get("status")}, reports=(nonsense,)
        )
    )
    for one in judged.values():
        for link in one.links:
            assert display(link, studies[0])
    assert len(judged) <= len(studies)


def test_histories_can_be_drawn_again() -> None:
    assert history(7) == history(7)
    assert history(7) != history(8)
    assert histories.uid("a") != histories.uid("b")
