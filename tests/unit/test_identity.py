"""Whom a study names, where several archives and modalities tell of it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import permutations

import pytest

from flute_sync.identity import PatientKey, PatientSettings, identify
from flute_sync.patient_errors import (
    PatientConflict,
    PatientIdMissing,
    PatientIdUnusable,
    PatientIssuerUnknown,
    PatientStepConflict,
    PatientSystemUnknown,
)
from flute_sync.study import (
    Header,
    Issuer,
    PatientAttributes,
    PatientId,
    Remark,
    Step,
    StepStatus,
    Study,
)
from tests.studies import header, series_of, study_of

SITE = PatientSettings(default_system="urn:site", systems={"LAB": "urn:lab"})
COPY = PatientSettings(default_system="urn:copy", systems={"LAB": "urn:lab"})
LAB = Issuer("LAB")
STEP_CLASS = "1.2.840.10008.3.1.2.3.3"


def named(value: str | None, issuer: Issuer | None = None) -> PatientAttributes:
    return PatientAttributes(id=None if value is None else PatientId(value, issuer))


def held(**archives: Sequence[PatientId | None]) -> Study:
    """A study whose headers were read from whoever was read last: that must not matter."""
    last = next(iter(archives.values()))[0]
    series = series_of(1, header(patient=PatientAttributes(id=last)), 2)
    return study_of(
        series,
        patient_ids={name: frozenset(ids) for name, ids in archives.items()},
        patients={
            name: frozenset(PatientAttributes(id=one) for one in ids)
            for name, ids in archives.items()
        },
    )


def step(patient: PatientAttributes, archive: str | None = None) -> Step:
    return Step("1.2.9", StepStatus.IN_PROGRESS, Header(STEP_CLASS, patient), archive)


P1, P2 = PatientId("P1"), PatientId("P2")


def test_archives_that_agree_name_one_patient() -> None:
    assert identify(held(pacs=[P1], copy=[P1]), SITE).key == PatientKey("urn:site", "P1")
    assert identify(held(pacs=[P1], copy=[]), SITE).key == PatientKey("urn:site", "P1")


@pytest.mark.parametrize("order", list(permutations(["pacs", "copy"])))
def test_two_patients_of_two_archives_are_never_one(order: tuple[str, str]) -> None:
    first, second = order
    with pytest.raises(PatientConflict):
        identify(held(**{first: [P1], second: [P2]}), SITE)


def test_two_patients_within_one_archive_are_a_conflict() -> None:
    with pytest.raises(PatientConflict):
        identify(held(pacs=[P1, P2]), SITE)


def test_an_id_without_issuer_is_of_the_system_of_who_states_it() -> None:
    per_archive = {"copy": COPY}
    assert identify(held(copy=[P1]), SITE, per_archive).key == PatientKey("urn:copy", "P1")
    assert identify(held(pacs=[P1]), SITE, per_archive).key == PatientKey("urn:site", "P1")
    assert identify(held(pacs=[P1], copy=[P1]), SITE, per_archive).keys == (
        PatientKey("urn:copy", "P1"),
        PatientKey("urn:site", "P1"),
    )
    both = held(pacs=[PatientId("P1", LAB)], copy=[PatientId("P1", LAB)])
    assert identify(both, SITE, per_archive).key == PatientKey("urn:lab", "P1")


# -- archives that number one person by themselves -----------------------------------------------

A17, B4711 = PatientKey("urn:copy", "17"), PatientKey("urn:site", "4711")


@pytest.mark.parametrize("order", list(permutations(["copy", "pacs"])))
def test_numbers_in_two_systems_are_both_kept_whichever_was_read_last(
    order: tuple[str, str],
) -> None:
    said = {"copy": [PatientId("17")], "pacs": [PatientId("4711")]}
    found = identify(held(**{name: said[name] for name in order}), SITE, {"copy": COPY})
    assert (found.key, found.also) == (A17, (B4711,))
    assert found.sought == (A17, B4711)
    assert [remark.code for remark in found.remarks] == ["patient-ids-joined"]


def test_what_an_identity_is_known_by_is_all_that_archives_call_it() -> None:
    one = identify(held(copy=[PatientId("17")]), SITE, {"copy": COPY})
    assert one.label == str(A17)
    two = identify(held(copy=[PatientId("17")], pacs=[PatientId("4711")]), SITE, {"copy": COPY})
    other = identify(held(copy=[PatientId("17")], pacs=[PatientId("4712")]), SITE, {"copy": COPY})
    assert len({one.label, two.label, other.label}) == 3


@pytest.mark.parametrize(
    "archives",
    [
        {"copy": [PatientId("17")], "pacs": [PatientId("1"), PatientId("2")]},
        {"copy": [PatientId("17")], "pacs": [PatientId("1"), PatientId("1", LAB)]},
        {"copy": [PatientId("17"), PatientId("1", LAB)], "pacs": []},
        {"copy": [PatientId("17")], "pacs": [PatientId("1")], "third": [PatientId("2")]},
        {"copy": [PatientId("1", LAB)], "pacs": [PatientId("2", LAB)]},
    ],
)
def test_two_numbers_in_one_archive_or_one_system_stay_a_conflict(
    archives: dict[str, list[PatientId | None]],
) -> None:
    with pytest.raises(PatientConflict):
        identify(held(**archives), SITE, {"copy": COPY})


def test_a_third_archive_that_agrees_with_one_of_two_changes_nothing() -> None:
    three = held(copy=[PatientId("17")], pacs=[PatientId("4711")], third=[PatientId("4711"), None])
    assert identify(three, SITE, {"copy": COPY}).keys == (A17, B4711)


def test_headers_without_archive_never_name_one_person_by_two_numbers() -> None:
    headers = [header(patient=named("P1")), header(patient=named("P1", LAB))]
    with pytest.raises(PatientConflict):
        identify(study_of(*(series_of(n, one) for n, one in enumerate(headers, 1))), SITE)
    told = (step(named("17"), "copy"), step(named("4711"), "pacs"))
    with pytest.raises(PatientConflict):
        identify(study_of(steps=told), SITE, {"copy": COPY})


def test_birth_date_and_sex_count_as_both_archives_state_them() -> None:
    """Of instances that both have, the headers of the first alone are kept."""
    study = held(copy=[PatientId("17")], pacs=[PatientId("4711")])
    kept = PatientAttributes(PatientId("17"), birth_date=date(1951, 4, 12), sex="M")
    other = PatientAttributes(PatientId("4711"), birth_date=date(1960, 1, 2), sex="F")
    study = replace(study, patients={"copy": frozenset({kept}), "pacs": frozenset({other})})
    said = identify(study, SITE, {"copy": COPY}).demographics
    assert said.birth_dates == {"1951-04-12", "1960-01-02"}
    assert said.sexes == {"M", "F"}


@pytest.mark.parametrize("known", [(), ("copy",), ("pacs",)])
def test_what_was_not_read_of_an_archive_may_contradict(known: tuple[str, ...]) -> None:
    """A ledger of an older release does not know what every archive says of birth date and sex."""
    study = held(copy=[PatientId("17")], pacs=[PatientId("4711")])
    study = replace(study, patients={name: study.patients[name] for name in known})
    with pytest.raises(PatientConflict, match="retry"):
        identify(study, SITE, {"copy": COPY})


def test_a_step_may_call_the_patient_as_any_of_the_archives_does() -> None:
    study = held(copy=[PatientId("17")], pacs=[PatientId("4711")])
    for one in (step(named("17"), "copy"), step(named("4711"), "pacs"), step(named("4711"))):
        assert identify(replace(study, steps=(one,)), SITE, {"copy": COPY}).keys == (A17, B4711)
    for one in (step(named("17"), "pacs"), step(named("4711"), "copy"), step(named("9"))):
        with pytest.raises(PatientStepConflict):
            identify(replace(study, steps=(one,)), SITE, {"copy": COPY})


def test_an_issuer_of_other_ids_must_mean_one_thing_wherever_the_study_is() -> None:
    """The other number of a person is of the issuer that the archives of the study know."""
    other = replace(named("1"), other_ids=(PatientId("L7", Issuer("LAB")),))
    study = replace(
        study_of(series_of(1, header(patient=other), 1)),
        patient_ids={name: frozenset({PatientId("1")}) for name in ("a", "b")},
    )
    site = PatientSettings(default_system="urn:x", systems={"LAB": "urn:lab"}, use_other_ids=True)
    own = site.model_copy(update={"systems": {"LAB": "urn:other-lab"}})
    assert identify(study, site).others == (PatientKey("urn:lab", "L7"),)
    assert identify(study, site, {"a": own, "b": own}).others == (
        PatientKey("urn:other-lab", "L7"),
    )
    assert identify(study, site, {"a": own, "b": site}).others == ()


def test_an_archive_of_unknown_system_holds_the_study() -> None:
    with pytest.raises(PatientSystemUnknown):
        identify(held(pacs=[P1], copy=[P1]), SITE, {"copy": PatientSettings()})
    with pytest.raises(PatientIssuerUnknown):
        identify(held(pacs=[P1], copy=[PatientId("P1", Issuer("FOREIGN"))]), SITE)


def test_no_id_in_one_archive_contradicts_nobody_but_is_remarked() -> None:
    found = identify(held(pacs=[P1], copy=[None]), SITE)
    assert found.key.value == "P1"
    assert [remark.code for remark in found.remarks] == ["patient-id-missing"]


def test_an_id_that_one_archive_states_unreadably_holds_the_study() -> None:
    with pytest.raises(PatientIdUnusable):
        identify(held(pacs=[P1], copy=[PatientId("")]), SITE)


def test_only_what_archives_state_now_counts() -> None:
    """The headers kept are of the archive read first; what it states now was read since."""
    study = study_of(series_of(1, header(patient=named("P1"))), patient_ids={"pacs": {P2}})
    assert identify(study, SITE).key.value == "P2"


def test_before_there_are_images_a_step_names_the_patient() -> None:
    study = study_of(steps=(step(named("P1")),))
    assert identify(study, SITE).key == PatientKey("urn:site", "P1")
    study = study_of(steps=(step(named("P1"), "copy"),))
    assert identify(study, SITE, {"copy": COPY}).key == PatientKey("urn:copy", "P1")
    assert identify(study, SITE).demographics.names == frozenset()


def test_steps_of_two_patients_are_a_conflict() -> None:
    with pytest.raises(PatientConflict):
        identify(study_of(steps=(step(named("P1")), step(named("P2")))), SITE)


def test_a_step_without_patient_names_nobody() -> None:
    with pytest.raises(PatientIdMissing):
        identify(study_of(steps=(step(named(None)),)), SITE)
    spoilt = Header(STEP_CLASS, named(None), remarks=(Remark("value-unusable", "(0010,0020)"),))
    with pytest.raises(PatientIdUnusable):
        identify(study_of(steps=(Step("1.2", StepStatus.COMPLETED, spoilt),)), SITE)


def test_with_images_a_step_of_another_patient_holds_the_study() -> None:
    images = series_of(1, header(patient=named("P1")))
    with pytest.raises(PatientStepConflict):
        identify(study_of(images, steps=(step(named("P2")),)), SITE)
    with pytest.raises(PatientStepConflict):
        identify(study_of(images, steps=(step(named("P1", LAB)),)), SITE)
    with pytest.raises(PatientStepConflict):
        identify(study_of(images, steps=(step(named("P2", Issuer("FOREIGN"))),)), SITE)


def test_with_images_a_step_that_says_less_is_no_conflict() -> None:
    images = series_of(1, header(patient=named("P1")))
    for patient in (named(None), named("P1"), named("P1", Issuer("FOREIGN"))):
        assert identify(study_of(images, steps=(step(patient),)), SITE).key.value == "P1"


def test_images_without_id_are_not_given_that_of_a_step() -> None:
    images = series_of(1, header(patient=named(None)))
    with pytest.raises(PatientIdMissing):
        identify(study_of(images, steps=(step(named("P1")),)), SITE)
