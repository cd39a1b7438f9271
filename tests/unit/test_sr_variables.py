"""What structured reports say of PI-RADS and volume: each way of saying it, and each doubt."""

from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.flute_profiles import broken_rules
from flute_sync.flute_variables import Kind
from flute_sync.sr_document import MOST_LEVELS, Document, Unreadable, document_of
from flute_sync.sr_variables import Silence, Stated, observation, stated_by
from tests.reports import (
    FINDING,
    LESION,
    LOCALIZED,
    OVERALL,
    PROSTATE,
    SITE,
    STUDY,
    VOLUME,
    Json,
    by_highdicom,
    coded,
    container,
    group,
    number,
    report,
    score,
    sequence,
    text,
)

HIGH, VERY_HIGH, UNUSABLE = "RID50292", "RID50293", "RID50322"
LESION_LOW, LESION_HIGH = "RID50297", "RID50299"
UNUSABLE_SCORE = "the report says PI-RADS X, or states no score from 1 to 5"
OF_PROSTATE = coded(FINDING, PROSTATE)


def told(*reports: Json, study: str = STUDY) -> dict[Kind, Stated | Silence]:
    found = stated_by(study, map(document_of, reports))
    assert len({one.kind for one in found}) == len(found)
    return {one.kind: one for one in found}


def said_of(kind: Kind, metadata: Json) -> Decimal | str | None:
    """What a report says of a kind: the number, or why there is none."""
    found = told(metadata).get(kind)
    if isinstance(found, Silence):
        return found.reason
    return None if found is None else found.value


def volume(*children: Json) -> Decimal | str | None:
    return said_of(Kind.VOLUME, report(group(*children)))


def pi_rads(*children: Json) -> Decimal | str | None:
    return said_of(Kind.PI_RADS, report(*children))


def test_a_report_that_highdicom_wrote():
    uid = "1.2.3.9.1"
    assert stated_by(STUDY, [document_of(by_highdicom())]) == (
        Stated(Kind.PI_RADS, Decimal(4), uid, "1.5.3.4", is_settled=False),
        Stated(Kind.VOLUME, Decimal("42.553"), uid, "1.5.1.4", is_settled=False),
    )


def test_a_lesion_of_it_alone():
    """Its volume is not that of the prostate, though its site is; its assessment is the highest."""
    metadata = by_highdicom()
    groups = metadata["0040A730"]["Value"][4]["0040A730"]["Value"]
    del groups[2], groups[0]
    (found,) = stated_by(STUDY, [document_of(metadata)])
    assert found == Stated(Kind.PI_RADS, Decimal(4), "1.2.3.9.1", "1.5.1.6", is_settled=False)


# -- PI-RADS -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rid", "value"),
    [(f"RID{50288 + n}", n) for n in range(1, 6)] + [(f"RID{50295 + n}", n) for n in range(1, 6)],
)
def test_every_score(rid: str, value: int):
    assert pi_rads(container(OVERALL, score(rid))) == value


def test_the_score_of_the_study_comes_before_those_of_its_lesions():
    lesions = [container(LOCALIZED, score(one)) for one in (LESION_LOW, LESION_HIGH)]
    assert pi_rads(container(OVERALL, score(HIGH)), *lesions) == 4


def test_of_several_lesions_the_highest_is_the_score():
    two = [container(LOCALIZED, score(one)) for one in (LESION_HIGH, LESION_LOW)]
    assert pi_rads(*two) == 4
    assert pi_rads(*reversed(two)) == 4
    assert pi_rads(two[1], two[1]) == 2
    assert pi_rads(*two, container(LOCALIZED, score("RID50323"))) == UNUSABLE_SCORE


def test_a_number_by_the_code_of_the_profile():
    number_of = partial(number, ("719178004", "SCT"), unit="1")
    assert pi_rads(number_of(4)) == 4
    assert pi_rads(number_of("4.0"), container(LOCALIZED, score(LESION_HIGH))) == 4
    assert pi_rads(number_of(6)) == pi_rads(number_of("3.5")) == UNUSABLE_SCORE


@pytest.mark.parametrize(
    ("children", "said"),
    [
        ([score(HIGH), score(VERY_HIGH)], "the report states several values"),
        ([score(UNUSABLE)], UNUSABLE_SCORE),
        ([score("RID50323")], UNUSABLE_SCORE),
        ([score("RID50311")], None),  # of T2-weighted images alone
        ([coded(OVERALL, ("RID50292", "99LOCAL"))], None),
        ([], None),
    ],
)
def test_no_score(children: list[Json], said: str | None):
    assert pi_rads(*children) == said


# -- volume --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (42.5, "cm3", "42.5"),
        ("42.5", "mL", "42.5"),
        (42553, "mm3", "42.553"),
        ("0.0425", "L", "42.5"),
        (42553, "[cin_i]", None),
        (42553, "cm3", None),
        (0, "cm3", None),
        (-3, "cm3", None),
        ("NaN", "cm3", None),
        ("1E+400", "cm3", None),
        ("many", "cm3", None),
        (True, "cm3", None),
        (None, "cm3", None),
    ],
)
def test_units(value: object, unit: str, expected: str | None):
    unusable = "the report states a volume that none of a prostate can be"
    found = volume(OF_PROSTATE, number(VOLUME, value, unit))
    assert found == (unusable if expected is None else Decimal(expected))


LITRES = number(VOLUME, 42, "mL")


@pytest.mark.parametrize(
    "children",
    [
        [OF_PROSTATE, LITRES],
        [coded(SITE, PROSTATE), LITRES],
        [number(VOLUME, 42, "mL", coded(SITE, PROSTATE))],
        [number(("G-D705", "SRT"), 42, "mL", coded(("G-C0E3", "SRT"), ("T-92000", "SRT")))],
        [OF_PROSTATE, number(("121221", "DCM"), 42, "mL")],
        [number(("1297142007", "SCT"), 42, "mL")],
    ],
)
def test_ways_to_say_the_volume_of_the_prostate(children: list[Json]):
    assert volume(*children) == 42


@pytest.mark.parametrize(
    "children",
    [
        [LITRES],
        [coded(FINDING, LESION), coded(SITE, PROSTATE), LITRES],
        [coded(SITE, ("399384005", "SCT")), LITRES],  # transition zone
        [OF_PROSTATE, number(VOLUME, 42, "mL", coded(SITE, ("399384005", "SCT")))],
        [coded(SITE, PROSTATE, coded(("272741003", "SCT"), ("7771000", "SCT"))), LITRES],  # left
        [OF_PROSTATE, number(("121219", "DCM"), 42, "mL")],  # of its bounding box
        [OF_PROSTATE, coded(("126072", "DCM"), ("C1442488", "UMLS")), LITRES],  # another time
    ],
)
def test_volumes_that_are_not_of_the_prostate_now(children: list[Json]):
    assert volume(*children) is None


def test_the_overall_findings_of_the_prostate_template():
    assert told(report(container(OVERALL, LITRES)))[Kind.VOLUME].kind is Kind.VOLUME
    assert told(report(container(OVERALL, container(LOCALIZED, LITRES)))) == {}


def test_two_volumes():
    several = "the report states several values"
    assert volume(OF_PROSTATE, LITRES, number(VOLUME, 43, "mL")) == several
    assert volume(OF_PROSTATE, LITRES, number(VOLUME, 42000, "mm3")) == 42


# -- reports -------------------------------------------------------------------------------------


def of(value: str, **about: Any) -> Json:
    return report(score(value), **about)


@pytest.mark.parametrize(
    ("about", "settled"),
    [
        ({}, True),
        ({"preliminary": "FINAL"}, True),
        ({"preliminary": "PRELIMINARY"}, False),
        ({"completion": "PARTIAL"}, False),
        ({"verification": "UNVERIFIED"}, True),
        ({"verification": "UNVERIFIED", "preliminary": "PRELIMINARY"}, False),
        ({"verification": ""}, True),
        ({"completion": ""}, False),
    ],
)
def test_settled_is_what_is_complete_and_not_preliminary(about: dict[str, str], settled: bool):
    found = told(of(HIGH, **about))[Kind.PI_RADS]
    assert isinstance(found, Stated)
    assert found.is_settled is settled
    status = observation(found, study="ImagingStudy/1", subject="Patient/1", effective=None)
    assert status["status"] == ("final" if settled else "preliminary")


def test_a_report_that_is_replaced_says_nothing_more():
    amended = of(VERY_HIGH, uid="1.2.3.9.2", replaces=("1.2.3.9.1",))
    found = told(of(HIGH), amended)[Kind.PI_RADS]
    assert isinstance(found, Stated)
    assert (found.value, found.sop_instance_uid) == (Decimal(5), "1.2.3.9.2")
    empty = report(uid="1.2.3.9.2", replaces=("1.2.3.9.1",))
    assert told(of(HIGH), empty) == {}


def test_reports_that_differ():
    found = told(of(HIGH), of(VERY_HIGH, uid="1.2.3.9.2"))
    assert found == {Kind.PI_RADS: Silence(Kind.PI_RADS, "reports of the study differ")}


def test_a_settled_report_comes_before_one_that_is_not():
    found = told(of(HIGH, completion="PARTIAL"), of(HIGH, uid="1.2.3.9.2"))[Kind.PI_RADS]
    assert isinstance(found, Stated)
    assert (found.sop_instance_uid, found.is_settled) == ("1.2.3.9.2", True)


@pytest.mark.parametrize("about", [{"study": "9.9"}, {"evidence": (STUDY, "9.9")}])
def test_a_report_of_other_studies_is_not_taken(about: dict[str, Any]):
    reason = "the report speaks of other studies too"
    assert told(of(HIGH, **about)) == {Kind.PI_RADS: Silence(Kind.PI_RADS, reason)}


@pytest.mark.parametrize("tag", ["00080018", "0020000D"])
@pytest.mark.parametrize("uid", ["", "1.2.x"])
def test_a_report_without_uid_cannot_be_read(tag: str, uid: str):
    with pytest.raises(Unreadable):
        document_of(of(HIGH) | {tag: text("UI", uid)})


def test_a_tree_without_end_cannot_be_read():
    deep = score(HIGH)
    for _ in range(MOST_LEVELS):
        deep = container(OVERALL, deep)
    with pytest.raises(Unreadable):
        document_of(report(deep))
    with pytest.raises(Unreadable):
        document_of(report(*[score(HIGH)] * 20_000))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
TAGS = st.sampled_from(["0040A730", "0040A043", "0040A168", "0040A300", "0040A375", "0040A360"])


@given(TAGS, JSON, st.booleans())
def test_whatever_stands_there_is_read_or_refused(tag: str, rubbish: Any, is_value: bool):
    said = {"Value": rubbish} if is_value else rubbish
    try:
        found = document_of(of(HIGH) | {tag: said})
    except Unreadable:
        return
    assert isinstance(found, Document)
    assert stated_by(STUDY, [found]) is not None


# -- observations --------------------------------------------------------------------------------


def observations() -> list[dict[str, Any]]:
    about = {"study": "ImagingStudy/1", "subject": "Patient/1", "effective": "2024-06-10"}
    return [
        observation(one, **about)
        for one in stated_by(STUDY, [document_of(by_highdicom())])
        if isinstance(one, Stated)
    ]


def test_observations_keep_to_their_profiles():
    score_said, volume_said = observations()
    assert broken_rules(score_said, Kind.PI_RADS) == ()
    assert broken_rules(volume_said, Kind.VOLUME) == ()
    assert score_said["valueInteger"] == 4
    assert volume_said["valueQuantity"]["value"] == 42.6
    assert volume_said["derivedFrom"] == [{"reference": "ImagingStudy/1", "type": "ImagingStudy"}]
    assert volume_said["subject"]["reference"] == "Patient/1"
    identifier = {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3.9.1#1.5.1.4"}
    assert volume_said["identifier"] == [identifier]


@given(st.decimals("1", "1000", places=4))
def test_every_volume_has_one_decimal(value: Decimal):
    stated = Stated(Kind.VOLUME, value, "1.2", "1.1", is_settled=True)
    said = observation(stated, study="ImagingStudy/1", subject="Patient/1", effective=None)
    assert broken_rules(said, Kind.VOLUME) == ()
    assert abs(Decimal(str(said["valueQuantity"]["value"])) - value) <= Decimal("0.05")
    assert "effectiveDateTime" not in said


def test_a_sequence_may_hold_what_is_no_item():
    assert told(report() | {"0040A730": sequence("nothing", None)}) == {}  # type: ignore[arg-type]
