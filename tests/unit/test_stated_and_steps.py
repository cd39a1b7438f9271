"""Series that are known by a statement alone, and studies that only a modality told of."""

from dataclasses import replace
from datetime import date, time
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flute_sync.daemon.agreement import held_instances
from flute_sync.imaging_study import ImagingStudySettings, map_study, to_json
from flute_sync.rejection import Status, standing
from flute_sync.selection import SelectSettings, judge
from flute_sync.study import (
    Accession,
    Code,
    Header,
    Instance,
    KeyObjects,
    Reference,
    Series,
    SeriesAttributes,
    SeriesInstanceUID,
    Step,
    StepStatus,
    Study,
    StudyAttributes,
)
from flute_sync.valuerep import Moment
from tests.studies import (
    ARCHIVE,
    KO,
    MR,
    PATIENT,
    ROOT,
    STUDY,
    context,
    header,
    rejection_note,
    series_of,
    study_of,
)

SETTINGS = ImagingStudySettings()
QUALITY, SAFETY, WORKLIST, RETENTION = "113001", "113037", "113038", "113039"
STEP_CLASS = "1.2.840.10008.3.1.2.3.3"
NONE_YET: Study = study_of(archives=frozenset())


def stated(number: int, count: int | None = 20, **attributes: Any) -> Series:
    said = header("", **{"number": number, "modality": "MR", **attributes})
    uid = SeriesInstanceUID(f"{ROOT}.{number}")
    return Series(uid, (), ARCHIVE, stated=said, instance_count=count)


def step(status: StepStatus = StepStatus.IN_PROGRESS, modality: str | None = "MR") -> Step:
    said = Header(STEP_CLASS, PATIENT, STUDY, SeriesAttributes(modality=modality))
    return Step("1.2.9", status, said, "pacs")


def note_on(title: str, series: Series, numbers: range) -> Series:
    uid = series.series_instance_uid
    references = tuple(Reference(ROOT, uid, f"{uid}.{number}") for number in numbers)
    objects = KeyObjects(Code(title, "DCM"), references)
    return series_of(99, header(KO, key_objects=objects))


# -- statements ------------------------------------------------------------------------------


def test_a_stated_series_is_mapped_without_instances() -> None:
    start = Moment(date(2023, 3, 1), time(9, 0))
    series = stated(2, description="T2", started=start, body_part="PROSTATE")
    mapped = map_study(study_of(series), context(), SETTINGS)
    (said,) = mapped.resource["series"]
    assert said == {
        "uid": series.series_instance_uid,
        "number": 2,
        "modality": {
            "system": "http://dicom.nema.org/resources/ontology/DCM",
            "code": "MR",
            "display": "Magnetic Resonance",
        },
        "description": "T2",
        "numberOfInstances": 20,
        "bodySite": said["bodySite"],
        "started": "2023-03-01T09:00:00+01:00",
    }
    assert said["bodySite"]["code"] == "41216001"
    assert mapped.resource["status"] == "available"
    assert mapped.resource["numberOfInstances"] == 20
    assert mapped.resource["modality"][0]["code"] == "MR"
    assert len(mapped.resource["endpoint"]) == 2
    assert "series-without-instances" in [remark.code for remark in mapped.remarks]


def test_a_series_of_unknown_size_says_no_number() -> None:
    resource = map_study(study_of(stated(2, None)), context(), SETTINGS).resource
    assert "numberOfInstances" not in resource["series"][0]
    assert (resource["status"], resource["numberOfSeries"]) == ("available", 1)
    assert resource["numberOfInstances"] == 0
    counted = study_of(stated(2, None), instance_count=30)
    assert map_study(counted, context(), SETTINGS).resource["numberOfInstances"] == 30


def test_known_and_stated_series_stand_side_by_side() -> None:
    known = replace(series_of(1, header(modality="MR", number=1), 3), instance_count=5)
    study = study_of(known, stated(2))
    resource = map_study(study, context(), SETTINGS).resource
    assert [one["numberOfInstances"] for one in resource["series"]] == [5, 20]
    assert len(resource["series"][0]["instance"]) == 3
    assert held_instances(study, "pacs") == 25


def test_an_empty_series_makes_nothing_available() -> None:
    assert standing(study_of(stated(2, 0))).status is Status.REGISTERED


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        (QUALITY, Status.CANCELLED),
        (SAFETY, Status.ENTERED_IN_ERROR),
        (WORKLIST, Status.ENTERED_IN_ERROR),
        (RETENTION, Status.AVAILABLE),
    ],
)
def test_a_note_that_names_a_whole_stated_series_takes_it_back(
    title: str, expected: Status
) -> None:
    series = stated(2, 3)
    whole = standing(study_of(series, note_on(title, series, range(3))))
    assert whole.status is expected
    assert whole.retention_expired is (title == RETENTION)
    assert whole.rejected == (0 if title == RETENTION else 3)
    part = standing(study_of(series, note_on(title, series, range(2))))
    assert part.status is Status.AVAILABLE
    assert len(part.study.series) == 1
    assert part.partly_expired is (title == RETENTION)


def test_statements_are_selected_like_instances() -> None:
    wanted = SelectSettings(modalities=("MR",), body_parts=("PROSTATE",))
    assert judge(study_of(stated(1, body_part="PROSTATE")), wanted).wanted
    assert not judge(study_of(stated(1, body_part="HEAD")), wanted).wanted
    assert not judge(study_of(stated(1, modality="CT")), wanted).wanted


# -- steps -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([StepStatus.IN_PROGRESS], Status.REGISTERED),
        ([StepStatus.COMPLETED], Status.REGISTERED),
        ([StepStatus.DISCONTINUED], Status.CANCELLED),
        ([StepStatus.DISCONTINUED, StepStatus.DISCONTINUED], Status.CANCELLED),
        ([StepStatus.DISCONTINUED, StepStatus.IN_PROGRESS], Status.REGISTERED),
        ([StepStatus.DISCONTINUED, StepStatus.COMPLETED], Status.REGISTERED),
    ],
)
def test_without_images_the_steps_say_the_status(
    statuses: list[StepStatus], expected: Status
) -> None:
    steps = tuple(step(status) for status in statuses)
    assert standing(replace(NONE_YET, steps=steps)).status is expected
    images = study_of(series_of(1, header(modality="MR")), steps=steps)
    assert standing(images).status is Status.AVAILABLE
    gone = replace(NONE_YET, steps=steps, vanished=True)
    assert standing(gone).status is Status.UNKNOWN


def test_a_registered_study_says_what_its_step_says() -> None:
    resource = map_study(replace(NONE_YET, steps=(step(),)), context(), SETTINGS).resource
    assert resource["status"] == "registered"
    assert [one["code"] for one in resource["modality"]] == ["MR"]
    assert resource["started"] == "2023-03-01T09:15:30+01:00"
    assert resource["procedureCode"][0]["coding"][0]["code"] == "RPID2235"
    assert resource["basedOn"][0]["identifier"]["value"] == "ACC200000"
    assert (resource["numberOfSeries"], resource["numberOfInstances"]) == (0, 0)
    assert "series" not in resource
    assert "endpoint" not in resource


def test_images_say_it_once_they_are_there() -> None:
    said = StudyAttributes(accessions=(Accession("A2"),))
    images = series_of(1, header(MR, study=said, modality="CT"))
    resource = map_study(study_of(images, steps=(step(),)), context(), SETTINGS).resource
    assert [one["code"] for one in resource["modality"]] == ["CT"]
    assert resource["basedOn"][0]["identifier"]["value"] == "A2"
    assert "started" not in resource


@pytest.mark.parametrize(
    ("modality", "strict", "wanted"),
    [("MR", False, True), ("CT", False, False), (None, False, True), (None, True, False)],
)
def test_a_step_is_selected_by_its_modality(
    modality: str | None, strict: bool, wanted: bool
) -> None:
    study = replace(NONE_YET, steps=(step(modality=modality),))
    assert judge(study, SelectSettings(modalities=("MR",), strict=strict)).wanted is wanted


def test_a_step_is_selected_by_its_procedure() -> None:
    study = replace(NONE_YET, steps=(step(),))
    assert judge(study, SelectSettings(procedure_codes=("RPID2235",))).wanted
    assert not judge(study, SelectSettings(procedure_codes=("RPID1",))).wanted


# -- what comes back -------------------------------------------------------------------------

OLD, NEW = series_of(1, header(modality="MR"), 2), series_of(2, header(modality="MR"), 3)


@pytest.mark.parametrize("before", ["unknown", "cancelled"])
def test_what_was_gone_is_available_when_it_is_found_again(before: str) -> None:
    state = standing(study_of(OLD), before)
    assert (state.status, state.reappeared) == (Status.AVAILABLE, True)
    mapped = map_study(study_of(OLD), context(status_before=before), SETTINGS)
    assert mapped.resource == map_study(study_of(OLD), context(), SETTINGS).resource
    assert "study-reappeared" in [remark.code for remark in mapped.remarks]


@pytest.mark.parametrize(
    ("title", "before"), [(QUALITY, "cancelled"), (WORKLIST, "entered-in-error")]
)
def test_new_instances_bring_back_what_was_rejected(title: str, before: str) -> None:
    rejected = study_of(OLD, rejection_note(title, [OLD]))
    assert standing(rejected).status == before
    state = standing(study_of(OLD, rejection_note(title, [OLD]), NEW), before)
    assert (state.status, state.reappeared, state.rejected) == (Status.AVAILABLE, True, 2)
    assert [one.series_instance_uid for one in state.study.series] == [NEW.series_instance_uid]


def test_new_instances_do_not_bring_back_what_was_a_danger() -> None:
    study = study_of(OLD, rejection_note(SAFETY, [OLD]), NEW)
    state = standing(study, "entered-in-error")
    assert (state.status, state.withheld) == (Status.ENTERED_IN_ERROR, True)
    mapped = map_study(study, context(status_before="entered-in-error"), SETTINGS)
    assert mapped.resource["status"] == "entered-in-error"
    assert "series" not in mapped.resource
    assert "study-withheld" in [remark.code for remark in mapped.remarks]
    assert standing(study_of(OLD, NEW), "entered-in-error").status is Status.AVAILABLE
    assert standing(study, "available").status is Status.AVAILABLE


# -- laws ------------------------------------------------------------------------------------

KINDS = st.sampled_from(["known", "stated", "both"])


def _any_series(number: int, kind: str, count: int) -> Series:
    known = series_of(number, header(MR, number=number, modality="MR"), count)
    if kind == "known":
        return known
    if kind == "stated":
        return stated(number, count)
    return replace(known, instance_count=count + 2)


@settings(max_examples=80, deadline=None)
@given(
    kinds=st.lists(st.tuples(KINDS, st.integers(0, 4)), max_size=5),
    statuses=st.lists(st.sampled_from(StepStatus), max_size=3),
    title=st.sampled_from([None, QUALITY, SAFETY, WORKLIST, RETENTION]),
    named=st.integers(1, 5),
    random=st.randoms(use_true_random=False),
)
def test_the_order_in_which_things_are_known_does_not_matter(
    kinds: list[tuple[str, int]],
    statuses: list[StepStatus],
    title: str | None,
    named: int,
    random: Random,
) -> None:
    series = [
        _any_series(number, kind, max(count, kind != "stated"))
        for number, (kind, count) in enumerate(kinds, 1)
    ]
    if title is not None and series:
        series.append(note_on(title, series[0], range(1, named + 1)))
    steps = [replace_uid(step(status), number) for number, status in enumerate(statuses)]
    study = study_of(*series, steps=tuple(steps))
    told = map_study(study, context(), SETTINGS)
    random.shuffle(series)
    random.shuffle(steps)
    mixed = [replace(one, instances=_shuffled(one, random)) for one in series]
    again = map_study(study_of(*mixed, steps=tuple(steps)), context(), SETTINGS)
    assert to_json(again.resource) == to_json(told.resource)
    assert again.remarks == told.remarks
    listed = told.resource.get("series", [])
    assert told.resource.get("numberOfSeries", 0) >= len(listed)
    assert told.resource.get("numberOfInstances", 0) >= sum(
        len(one.get("instance", [])) for one in listed
    )


def replace_uid(one: Step, number: int) -> Step:
    return one._replace(sop_instance_uid=f"1.2.9.{number}")


def _shuffled(series: Series, random: Random) -> tuple[Instance, ...]:
    instances = list(series.instances)
    random.shuffle(instances)
    return tuple(instances)
