"""Who is meant: every rule of the identity of a patient."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flute_sync.identity import Demographics, Identity, PatientKey, PatientSettings, identify
from flute_sync.patient import (
    CreatePatient,
    Missing,
    Subject,
    judge,
    minimal_patient,
    patient_identifiers,
)
from flute_sync.patient_errors import (
    IdentityError,
    PatientAbsent,
    PatientAmbiguous,
    PatientConflict,
    PatientContradicted,
    PatientIdMissing,
    PatientIdUnusable,
    PatientInactive,
    PatientIssuerUnknown,
    PatientSystemUnknown,
)
from flute_sync.study import (
    Header,
    Instance,
    Issuer,
    PatientAttributes,
    PatientId,
    Remark,
    Series,
    SeriesInstanceUID,
    SOPInstanceUID,
    Study,
    StudyInstanceUID,
)

SETTINGS = PatientSettings(
    default_system="urn:oid:1.2.3", systems={"HOSP": "urn:oid:1.2.3", "LAB": "urn:lab"}
)
KEY = PatientKey("urn:oid:1.2.3", "P1")
HOSP = Issuer("HOSP")


def study_of(*patients):
    instances = tuple(
        Instance(SOPInstanceUID(f"1.2.{n}"), n, Header("1.2.840", patient=patient))
        for n, patient in enumerate(patients, 1)
    )
    return Study(StudyInstanceUID("1.2"), (Series(SeriesInstanceUID("1.2.0"), instances),))


def who(value="P1", issuer=None, **attributes):
    return PatientAttributes(id=PatientId(value, issuer), **attributes)


# -- the identifier and its system ------------------------------------------------------------


@pytest.mark.parametrize(
    ("issuer", "system"),
    [
        (None, "urn:oid:1.2.3"),
        (Issuer(), "urn:oid:1.2.3"),
        (Issuer("HOSP"), "urn:oid:1.2.3"),
        (Issuer("LAB"), "urn:lab"),
        (Issuer("LAB", "1.9.8", "ISO"), "urn:oid:1.9.8"),
        (Issuer(None, "http://ids.example/mrn", "URI"), "http://ids.example/mrn"),
        (
            Issuer(None, "6F3D2C54-6A0B-4E0C-9D0B-3F6D1F0B7C11", "UUID"),
            "urn:uuid:6f3d2c54-6a0b-4e0c-9d0b-3f6d1f0b7c11",
        ),
        (Issuer("LAB", "unusable id", "X400"), "urn:lab"),
    ],
)
def test_the_system_comes_from_the_issuer(issuer, system):
    assert identify(study_of(who(issuer=issuer)), SETTINGS).key == PatientKey(system, "P1")


def test_a_universal_id_may_be_mapped_too():
    settings = PatientSettings(systems={"1.9.8": "urn:mapped"})
    issuer = Issuer("LAB", "1.9.8", "ISO")
    assert identify(study_of(who(issuer=issuer)), settings).key.system == "urn:mapped"


@pytest.mark.parametrize("issuer", [Issuer("hosp"), Issuer("OTHER"), Issuer("X", "no oid", "ISO")])
def test_a_stated_issuer_never_falls_back_to_the_default(issuer):
    with pytest.raises(PatientIssuerUnknown):
        identify(study_of(who(issuer=issuer)), SETTINGS)


def test_no_issuer_and_no_default_has_no_system():
    with pytest.raises(PatientSystemUnknown):
        identify(study_of(who()), PatientSettings())


@pytest.mark.parametrize("patients", [(), (PatientAttributes(),), (PatientAttributes(name="X"),)])
def test_no_patient_id_is_nobody(patients):
    with pytest.raises(PatientIdMissing):
        identify(study_of(*patients), SETTINGS)


@pytest.mark.parametrize("value", ["007", "7", "p1", "P1 ", "a|b"])
def test_values_are_kept_byte_for_byte(value):
    assert identify(study_of(who(value)), SETTINGS).key.value == value


@pytest.mark.parametrize(
    "patients",
    [
        (who("P1"), who("P2")),
        (who("P1"), who("p1")),
        (who("P1"), who("01")),
        (who("P1"), who("P1", Issuer("LAB"))),
        (who("P1", Issuer("HOSP")), who("P1", Issuer("LAB"))),
        (who("P1", Issuer("OTHER")), who("P2")),
    ],
)
def test_two_identities_are_a_conflict(patients):
    with pytest.raises(PatientConflict) as caught:
        identify(study_of(*patients), SETTINGS)
    assert "P1" not in str(caught.value)


def test_the_same_id_with_and_without_issuer_is_compared_after_resolution():
    assert identify(study_of(who("P1"), who("P1", HOSP)), SETTINGS).key == KEY
    other = PatientSettings(default_system="urn:else", systems={"HOSP": "urn:oid:1.2.3"})
    with pytest.raises(PatientConflict):
        identify(study_of(who("P1"), who("P1", HOSP)), other)


def test_instances_without_an_id_contradict_nobody_and_are_remarked():
    found = identify(study_of(who(), PatientAttributes()), SETTINGS)
    assert found.key == KEY
    assert [(remark.code, remark.tag) for remark in found.remarks] == [
        ("patient-id-missing", "(0010,0020)")
    ]
    assert identify(study_of(who()), SETTINGS).remarks == ()


def test_other_ids_serve_only_if_told_and_only_with_a_known_issuer():
    others = (PatientId("L7", Issuer("LAB")), PatientId("X"), PatientId("Y", Issuer("NOBODY")))
    study = study_of(who(other_ids=others))
    assert identify(study, SETTINGS).others == ()
    told = SETTINGS.model_copy(update={"use_other_ids": True})
    assert identify(study, told).others == (PatientKey("urn:lab", "L7"),)


def test_a_key_as_text_is_what_a_study_waits_for():
    assert str(KEY) == "urn:oid:1.2.3|P1"


def test_demographics_are_collected():
    found = identify(
        study_of(
            who(name="A^B", birth_date=date(1951, 4, 12), sex="M"),
            who(name="A^B", birth_date=None, sex="?"),
            who(birth_date=date(1951, 1, 1), identity_removed=True),
            who(birth_date=date(1951, 1, 1), identity_removed=False),
        ),
        SETTINGS,
    ).demographics
    assert found.names == {"A^B"}
    assert found.sexes == {"M"}
    assert found.birth_dates == {"1951-04-12", "1951", "1951-01-01"}


def test_a_system_must_be_a_uri():
    with pytest.raises(ValidationError):
        PatientSettings(default_system="not a uri")
    with pytest.raises(ValidationError):
        PatientSettings(systems={"A": "urn:x|y"})


# -- the judgement ----------------------------------------------------------------------------


def patient(patient_id="1", **elements):
    return {"resourceType": "Patient", "id": patient_id, **elements}


def replaced(patient_id, *successors, **elements):
    links = [{"type": "replaced-by", "other": {"reference": one}} for one in successors]
    return patient(patient_id, active=False, link=links, **elements)


def judged(*matches, known=None, said=None, policy="lookup"):
    identity = Identity(KEY, said or Demographics())
    return judge(identity, matches, known or {}, PatientSettings(policy=policy))


def reference(decision):
    assert isinstance(decision, Subject)
    return decision.reference.get("reference")


def test_exactly_one_active_match_is_the_subject():
    assert reference(judged(patient("1"))) == "Patient/1"
    assert reference(judged(patient("1", active=True), patient("2", active=False))) == "Patient/1"
    assert reference(judged(patient("1"), patient("1"))) == "Patient/1"


def test_two_active_matches_are_ambiguous():
    with pytest.raises(PatientAmbiguous):
        judged(patient("1"), patient("2"))


def test_inactive_matches_alone_are_inactive():
    with pytest.raises(PatientInactive):
        judged(patient("1", active=False))


def test_a_match_that_another_match_replaces_does_not_count():
    assert reference(judged(replaced("1", "Patient/2"), patient("2"))) == "Patient/2"
    assert reference(judged(replaced("1", "Patient/2/_history/3"), patient("2"))) == "Patient/2"


def test_an_active_patient_that_is_replaced_is_followed_too():
    link = [{"type": "replaced-by", "other": {"reference": "Patient/2"}}]
    assert reference(judged(patient("1", active=True, link=link), patient("2"))) == "Patient/2"


def test_other_links_are_not_followed():
    link = [{"type": "seealso", "other": {"reference": "Patient/2"}}]
    assert reference(judged(patient("1", link=link))) == "Patient/1"


def test_what_a_link_leads_to_must_be_read_first():
    decision = judged(replaced("1", "Patient/2"))
    assert decision == Missing(frozenset({"2"}))
    known = {"2": replaced("2", "Patient/3")}
    assert judged(replaced("1", "Patient/2"), known=known) == Missing(frozenset({"3"}))
    known["3"] = patient("3")
    assert reference(judged(replaced("1", "Patient/2"), known=known)) == "Patient/3"


def test_five_links_are_followed_and_six_are_not():
    chain = {str(n): replaced(str(n), f"Patient/{n + 1}") for n in range(2, 6)}
    first = replaced("1", "Patient/2")
    assert reference(judged(first, known={**chain, "6": patient("6")})) == "Patient/6"
    longer = {**chain, "6": replaced("6", "Patient/7"), "7": patient("7")}
    with pytest.raises(PatientInactive):
        judged(first, known=longer)


@pytest.mark.parametrize(
    ("match", "known"),
    [
        (replaced("1", "Patient/1"), {}),
        (replaced("1", "Patient/2"), {"2": replaced("2", "Patient/1")}),
        (replaced("1", "Patient/2"), {"2": None}),
        (replaced("1", "Patient/2"), {"2": patient("2", active=False)}),
        (replaced("1", "http://elsewhere.example/Patient/2"), {}),
        (replaced("1", "Patient/../x"), {}),
        (replaced("1", "Group/2"), {}),
        (patient("1", link=[{"type": "replaced-by"}]), {}),
    ],
)
def test_a_chain_without_a_survivor_is_inactive(match, known):
    with pytest.raises(PatientInactive):
        judged(match, known=known)


def test_a_patient_split_in_two_is_ambiguous():
    with pytest.raises(PatientAmbiguous):
        judged(replaced("1", "Patient/2", "Patient/3"), patient("2"), patient("3"))


def test_two_that_were_merged_into_one_are_one():
    known = {"3": patient("3")}
    decision = judged(replaced("1", "Patient/3"), replaced("2", "Patient/3"), known=known)
    assert reference(decision) == "Patient/3"


@pytest.mark.parametrize(
    ("said", "elements", "contradicts"),
    [
        ({"1951-04-12"}, {"birthDate": "1951-04-12"}, False),
        ({"1951-04-12"}, {"birthDate": "1951-04-13"}, True),
        ({"1951-04-12"}, {"birthDate": "1951-04"}, False),
        ({"1951-04-12"}, {"birthDate": "1951-05"}, True),
        ({"1951-04-12"}, {"birthDate": "1951"}, False),
        ({"1951"}, {"birthDate": "1951-04-12"}, False),
        ({"1952"}, {"birthDate": "1951-04-12"}, True),
        ({"1951-04-12", "1951-04-13"}, {"birthDate": "1951-04-12"}, True),
        (set(), {"birthDate": "1951-04-12"}, False),
        ({"1951-04-12"}, {}, False),
        ({"1951-04-12"}, {"birthDate": 1951}, False),
    ],
)
def test_birth_dates_are_compared_at_their_common_precision(said, elements, contradicts):
    check_contradiction(Demographics(birth_dates=frozenset(said)), elements, contradicts)


@pytest.mark.parametrize(
    ("said", "gender", "contradicts"),
    [
        ({"M"}, "male", False),
        ({"M"}, "female", True),
        ({"F"}, "male", True),
        ({"M", "F"}, "male", True),
        ({"M", "F"}, None, False),
        ({"O"}, "male", False),
        ({"M"}, "other", False),
        ({"F"}, "unknown", False),
        (set(), "male", False),
    ],
)
def test_only_male_and_female_contradict(said, gender, contradicts):
    elements = {"gender": gender} if gender else {}
    check_contradiction(Demographics(sexes=frozenset(said)), elements, contradicts)


def check_contradiction(said, elements, contradicts):
    if contradicts:
        with pytest.raises(PatientContradicted):
            judged(patient(**elements), said=said)
    else:
        assert reference(judged(patient(**elements), said=said)) == "Patient/1"


def test_the_survivor_is_the_one_compared():
    said = Demographics(sexes=frozenset({"F"}))
    known = {"2": patient("2", gender="female")}
    decision = judged(replaced("1", "Patient/2", gender="male"), known=known, said=said)
    assert reference(decision) == "Patient/2"


def test_names_decide_nothing():
    said = Demographics(names=frozenset({"Alpha^Anna"}))
    assert reference(judged(patient(name=[{"family": "Omega"}]), said=said)) == "Patient/1"


def test_nobody_is_judged_by_the_policy():
    with pytest.raises(PatientAbsent):
        judged()
    logical = judged(policy="logical")
    assert isinstance(logical, Subject)
    assert logical.patient is None
    assert logical.reference == {
        "type": "Patient",
        "identifier": {"system": "urn:oid:1.2.3", "value": "P1"},
    }
    assert isinstance(judged(policy="create"), CreatePatient)


@pytest.mark.parametrize("policy", ["logical", "create"])
def test_no_policy_overrules_a_doubt(policy):
    with pytest.raises(PatientAmbiguous):
        judged(patient("1"), patient("2"), policy=policy)
    with pytest.raises(PatientInactive):
        judged(patient("1", active=False), policy=policy)


def test_a_created_patient_says_no_more_than_the_headers():
    said = Demographics(frozenset({"Rossi^Mario"}), frozenset({"1951-04-12"}), frozenset({"M"}))
    assert minimal_patient(Identity(KEY, said)) == {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:oid:1.2.3", "value": "P1"}],
        "active": True,
        "name": [{"family": "Rossi", "given": ["Mario"]}],
        "gender": "male",
        "birthDate": "1951-04-12",
    }
    assert minimal_patient(Identity(KEY)).keys() == {"resourceType", "identifier", "active"}


@pytest.mark.parametrize(
    "said",
    [
        Demographics(birth_dates=frozenset({"1951-04-12", "1951-04-13"})),
        Demographics(sexes=frozenset({"M", "F"})),
    ],
)
def test_headers_that_disagree_create_nobody(said):
    with pytest.raises(PatientConflict):
        judged(policy="create", said=said)


# -- several numbers, each of an archive of its own -------------------------------------------

A17, B4711, C9 = PatientKey("urn:a", "17"), PatientKey("urn:b", "4711"), PatientKey("urn:c", "9")


def bearing(*keys):
    return [{"system": key.system, "value": key.value} for key in keys]


def joined(*matches, known=None, said=None, policy="lookup", others=()):
    identity = Identity(A17, said or Demographics(), others, also=(B4711,))
    return judge(identity, matches, known or {}, PatientSettings(policy=policy))


@pytest.mark.parametrize("policy", ["lookup", "logical", "create"])
def test_numbers_that_are_each_one_patients_name_him(policy):
    both = patient("1", identifier=bearing(A17, B4711))
    assert reference(joined(both, policy=policy)) == "Patient/1"
    retired = patient("2", active=False, identifier=bearing(B4711))
    assert reference(joined(both, retired, policy=policy)) == "Patient/1"


def test_numbers_are_one_patients_where_others_were_merged_into_him():
    old = replaced("2", "Patient/1", identifier=bearing(B4711))
    assert reference(joined(patient("1", identifier=bearing(A17)), old)) == "Patient/1"
    older = replaced("3", "Patient/1", identifier=bearing(A17))
    assert joined(older, old) == Missing(frozenset({"1"}))
    assert reference(joined(older, old, known={"1": patient("1")})) == "Patient/1"


@pytest.mark.parametrize("policy", ["lookup", "logical", "create"])
@pytest.mark.parametrize(
    ("matches", "error"),
    [
        ([patient("1", identifier=bearing(A17))], PatientConflict),
        ([patient("1", identifier=bearing(B4711))], PatientConflict),
        ([patient("1", identifier=bearing(C9))], PatientConflict),
        (
            [patient("1", identifier=bearing(A17)), patient("2", identifier=bearing(B4711))],
            PatientConflict,
        ),
        (
            [patient("1", identifier=bearing(A17, B4711)), patient("2", identifier=bearing(B4711))],
            PatientAmbiguous,
        ),
        (
            [patient("1", identifier=bearing(A17, B4711)), patient("2", identifier=bearing(C9))],
            PatientAmbiguous,
        ),
        (
            [
                patient("1", identifier=bearing(A17)),
                patient("2", active=False, identifier=bearing(B4711)),
            ],
            PatientInactive,
        ),
        (
            [
                patient("1", identifier=bearing(A17)),
                replaced("2", "Patient/3", identifier=bearing(B4711)),
                patient("3"),
            ],
            PatientConflict,
        ),
        (
            [patient("1", identifier=[{"value": "17"}, {"system": "urn:b", "value": "17"}])],
            PatientConflict,
        ),
    ],
)
def test_numbers_that_are_not_all_one_patients_name_nobody(matches, error, policy):
    known = {str(one["id"]): one for one in matches}
    with pytest.raises(error) as caught:
        joined(*matches, known=known, policy=policy, others=(C9,))
    assert caught.type is error
    assert "17" not in caught.value.sentence


def test_where_nobody_has_any_number_only_a_patient_who_comes_can_join_them():
    with pytest.raises(PatientAbsent):
        joined()
    for policy in ("logical", "create"):
        with pytest.raises(PatientConflict):
            joined(policy=policy)


def test_joined_numbers_do_not_overrule_birth_date_and_sex():
    both = patient("1", identifier=bearing(A17, B4711), birthDate="1951-04-12", gender="male")
    for said in (
        Demographics(birth_dates=frozenset({"1951-04-12", "1960-01-02"})),
        Demographics(sexes=frozenset({"M", "F"})),
    ):
        with pytest.raises(PatientContradicted):
            joined(both, said=said)


def one_by_one(key, matches, known):
    """Look one number up alone, as for a study that has no other."""
    borne = [one for one in matches if key in patient_identifiers(one)]
    return judge(Identity(key), borne, known, PatientSettings())


@given(
    st.lists(
        st.builds(
            lambda one, keys, active, to: patient(
                one,
                active=active,
                identifier=bearing(*keys),
                link=[
                    {"type": "replaced-by", "other": {"reference": f"Patient/{each}"}}
                    for each in to
                ],
            ),
            st.sampled_from("12"),
            st.sets(st.sampled_from([A17, B4711]), min_size=1),
            st.booleans(),
            st.sets(st.sampled_from("12"), max_size=1),
        ),
        max_size=3,
        unique_by=lambda one: one["id"],
    )
)
def test_a_joined_patient_is_whom_each_number_alone_finds(matches):
    known = dict.fromkeys("12") | {one["id"]: one for one in matches}
    try:
        found = joined(*matches, known=known)
    except IdentityError:
        return
    alone = [one_by_one(key, matches, known) for key in (A17, B4711)]
    assert {reference(found)} == {reference(one) for one in alone}


ids = st.sampled_from(["1", "2", "3", "4"])
people = st.builds(
    lambda one, to, active: patient(
        one,
        active=active,
        **(
            {"link": [{"type": "replaced-by", "other": {"reference": f"Patient/{to}"}}]}
            if to
            else {}
        ),
    ),
    ids,
    st.none() | ids,
    st.booleans(),
)


@given(st.lists(people, max_size=5), st.dictionaries(ids, st.none() | people, max_size=4))
def test_every_judgement_ends_and_names_only_active_survivors(matches, known):
    known = {key: one and {**one, "id": key} for key, one in known.items()}
    try:
        decision = judged(*matches, known=known)
    except IdentityError:
        return
    if isinstance(decision, Missing):
        assert not decision.ids & (known.keys() | {one["id"] for one in matches})
    else:
        assert isinstance(decision, Subject)
        assert decision.patient is not None
        assert decision.patient.get("active") is not False
        assert not decision.patient.get("link")


@pytest.mark.parametrize("tag", ["(0010,0020)", "(0010,0021)", "(0010,0024)"])
def test_an_identifier_that_cannot_be_read_is_not_passed_over(tag):
    """One instance names A, another something unreadable: that may be somebody else."""
    good = Header("1.2", patient=PatientAttributes(PatientId("A")))
    bad = Header("1.2", remarks=(Remark("value-unusable", tag),))
    whole = Study(
        StudyInstanceUID("1.2.3"),
        (
            Series(
                SeriesInstanceUID("1.2.3.4"),
                (
                    Instance(SOPInstanceUID("1.2.3.4.1"), 1, good),
                    Instance(SOPInstanceUID("1.2.3.4.2"), 2, bad),
                ),
            ),
        ),
    )
    with pytest.raises(PatientIdUnusable):
        identify(whole, PatientSettings(default_system="urn:oid:1.2.3"))
