"""Steps that link studies to clinical variables, against the sandbox's FHIR, in any order."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from flute_sync import __version__
from flute_sync.daemon.withdrawal import Left
from flute_sync.fhir.client import FhirClient
from flute_sync.ledger import Claim, Settlement
from flute_sync.study import Study, StudyInstanceUID
from flute_sync.supporting_info import LinkSettings, rule_set, rules_version
from flute_sync.terminology import FLUTE_SUPPORTING_INFO
from tests.contract.fhir_rest import create, new_patient
from tests.contract.ledger_site import OTHER, STUDY
from tests.linking import MRI, PSA, SCORE, SYSTEM, THIRD, Daemon, days, observe, put, reference_of


def test_studies_that_are_written_at_once_do_not_miss_each_other(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    """Both judge before the other is on the server; the later one is judged again."""
    score = observe(fhir, patient, MRI + days(40), **SCORE)
    daemon.deliver(STUDY)
    daemon.deliver(OTHER, MRI + days(30))
    claims = [daemon.claim("a"), daemon.claim("b")]
    steps = [daemon.pipeline.step(one) for one in claims]
    for claimed, step in zip(claims, steps, strict=True):
        daemon.ledger.settle(claimed, step)
    daemon.work()
    assert (daemon.links(STUDY), daemon.links(OTHER)) == (set(), {score})
    before = daemon.versions()
    for uid in (STUDY, OTHER):
        daemon.ledger.replay(uid)
    daemon.work()
    assert daemon.versions() == before


def test_a_link_waits_until_the_study_that_loses_it_is_written(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    score = observe(fhir, patient, MRI + days(40), **SCORE)
    daemon.deliver(STUDY)
    daemon.work()
    assert daemon.links(STUDY) == {score}
    daemon.deliver(OTHER, MRI + days(30))
    gaining = daemon.claim()
    daemon.ledger.settle(gaining, daemon.pipeline.step(gaining))
    assert daemon.links(OTHER) == set()
    held = daemon.row(OTHER, score)
    assert not held.taken
    assert "waits until ImagingStudy/" in held.reason
    losing = daemon.claim()
    assert losing.study_instance_uid == STUDY
    daemon.ledger.settle(losing, daemon.pipeline.step(losing))
    assert (daemon.links(STUDY), daemon.links(OTHER)) == (set(), set())
    daemon.work()
    assert daemon.links(OTHER) == {score}
    assert daemon.row(OTHER, score).ours
    assert daemon.row(STUDY, score).verdict == "contradicted"


def test_what_goes_to_another_patient_waits_until_his_study_is_written(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    """The gaining study is judged first, again while the losing one is written, and waits."""
    other = reference_of(create(fhir, new_patient(SYSTEM, "p2")))
    psa = observe(fhir, patient, MRI - days(5), **PSA)
    daemon.deliver(STUDY)
    daemon.deliver(OTHER, patient="p2")
    daemon.work()
    assert (daemon.links(STUDY), daemon.links(OTHER)) == ({psa}, set())
    put(fhir, psa, subject={"reference": other})
    assert daemon.ledger.links.judge_again([other]) == 1
    daemon.work()
    assert (daemon.links(STUDY), daemon.links(OTHER)) == ({psa}, set())
    refused = daemon.row(OTHER, psa)
    assert refused.reason.endswith(
        f"it waits until ImagingStudy/{daemon.resource(STUDY)['id']} gives it up"
    )
    assert daemon.ledger.links.judge_again([patient, other]) == 2
    claims = {one.study_instance_uid: one for one in (daemon.claim("a"), daemon.claim("b"))}
    losing = daemon.pipeline.step(claims[STUDY])
    gaining = daemon.pipeline.step(claims[OTHER])
    assert daemon.links(OTHER) == set()  # although it is lost: a crash may follow
    daemon.ledger.settle(claims[STUDY], losing)
    daemon.ledger.settle(claims[OTHER], gaining)
    daemon.work()
    assert (daemon.links(STUDY), daemon.links(OTHER)) == (set(), {psa})
    assert daemon.ledger.links.view(STUDY).rows == ()
    before = daemon.versions()
    assert daemon.ledger.links.judge_again([patient, other]) == 2
    daemon.work()
    assert daemon.versions() == before


def test_two_studies_that_wait_for_another_patients_do_not_wake_each_other(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    other = reference_of(create(fhir, new_patient(SYSTEM, "p2")))
    values = [
        observe(fhir, patient, MRI - days(5), **PSA),
        observe(fhir, patient, MRI + days(400), **PSA),
    ]
    for uid, day in ((STUDY, MRI), (THIRD, MRI + days(405))):
        daemon.deliver(uid, day)
    daemon.work()
    for value in values:
        put(fhir, value, subject={"reference": other})
    for number, day in enumerate((MRI, MRI + days(405))):
        daemon.deliver(StudyInstanceUID(f"1.2.7.{number}"), day, "p2")
    daemon.work()  # it ends
    assert daemon.ledger.links.judge_again([patient]) == 2
    daemon.work()
    assert [daemon.links(StudyInstanceUID(f"1.2.7.{n}")) for n in range(2)] == [
        {value} for value in values
    ]


def test_what_was_written_before_a_crash_is_known_to_be_ours(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    psa = observe(fhir, patient, MRI - days(5), **PSA)
    daemon.deliver(STUDY)
    claimed = daemon.claim()
    daemon.pipeline.step(claimed)  # written, and never settled
    assert daemon.links(STUDY) == {psa}
    daemon.ledger.release(claimed.owner)
    put(fhir, psa, status="entered-in-error")
    daemon.work()
    assert daemon.links(STUDY) == set()
    assert daemon.row(STUDY, psa).rule == "status"


def test_clinical_data_that_came_during_a_step_are_not_missed(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    daemon.deliver(STUDY)
    claimed = daemon.claim()
    step = daemon.pipeline.step(claimed)
    psa = observe(fhir, patient, MRI - days(5), **PSA)
    daemon.ledger.links.judge_again([patient])
    daemon.ledger.settle(claimed, step)
    daemon.work()
    assert daemon.links(STUDY) == {psa}
    assert daemon.ledger.links.judge_again([patient]) == 1
    before = daemon.versions()
    daemon.work()
    assert daemon.versions() == before


def test_what_belongs_to_a_merged_patient_is_found(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    old = reference_of(create(fhir, new_patient(SYSTEM, "p-old")))
    psa = observe(fhir, old, MRI - days(5), **PSA)
    daemon.deliver(STUDY)
    daemon.work()
    assert daemon.links(STUDY) == set()
    replaced = {"type": "replaced-by", "other": {"reference": patient}}
    put(fhir, old, active=False, link=[replaced])
    daemon.ledger.links.judge_again([patient])
    daemon.work()
    assert daemon.links(STUDY) == {psa}


def test_foreign_links_stay_and_take_their_candidate(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    score = observe(fhir, patient, MRI + days(5), **SCORE)
    foreign = {"url": FLUTE_SUPPORTING_INFO, "valueReference": {"reference": score}}
    older = {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{THIRD}"}],
        "status": "available",
        "subject": {"reference": patient},
        "started": (MRI - days(400)).isoformat(),
        "extension": [foreign],
    }
    create(fhir, older)
    daemon.deliver(STUDY)
    daemon.work()
    assert daemon.links(STUDY) == set()
    assert daemon.links(THIRD) == {score}
    assert daemon.row(STUDY, score).rule == "foreign"


def test_switched_off_links_of_ours_go_and_a_persons_word_stays(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    near = observe(fhir, patient, MRI - days(5), **PSA)
    far = observe(fhir, patient, MRI - days(500), **PSA)
    daemon.deliver(STUDY)
    daemon.work()
    daemon.ledger.links.decide(STUDY, far, "add", "it is dated wrongly")
    daemon.work()
    assert daemon.links(STUDY) == {far}
    daemon.ledger.links.decide(STUDY, far, "release", "the date was mended")
    daemon.work()
    assert daemon.links(STUDY) == {near}
    daemon.follow(enabled=False)
    daemon.work()
    assert daemon.links(STUDY) == set()
    daemon.ledger.links.decide(STUDY, far, "add", "for the study")
    daemon.work()
    assert daemon.links(STUDY) == {far}


def test_a_study_that_goes_to_another_patient_leaves_its_links(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    numbers = [{"system": SYSTEM, "value": value} for value in ("p1", "p2")]
    put(fhir, patient, identifier=numbers)
    score = observe(fhir, patient, MRI + days(40), **SCORE)
    daemon.deliver(STUDY)
    daemon.deliver(OTHER, MRI + days(30), patient="p2")
    daemon.work()
    assert (daemon.links(STUDY), daemon.links(OTHER)) == (set(), {score})
    put(fhir, patient, identifier=numbers[:1])
    other = reference_of(create(fhir, new_patient(SYSTEM, "p2")))
    daemon.ledger.replay(OTHER)
    daemon.work()
    assert daemon.resource(OTHER)["subject"]["reference"] == other
    assert (daemon.links(STUDY), daemon.links(OTHER)) == ({score}, set())


def test_a_study_whose_images_vanished_keeps_its_links_until_a_nearer_mri_takes_them(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    score = observe(fhir, patient, MRI + days(40), **SCORE)
    psa = observe(fhir, patient, MRI - days(40), **PSA)
    daemon.deliver(STUDY)
    daemon.work()
    gone = Left(None, believed=True, next_look=datetime.now(UTC))

    def vanish() -> None:
        claimed = daemon.claim()
        assert claimed.study_instance_uid == STUDY
        step = daemon.pipeline.removals.settle(claimed, Study(STUDY), gone)
        daemon.ledger.settle(claimed, step)

    daemon.ledger.replay(STUDY)
    vanish()
    assert daemon.resource(STUDY)["status"] == "unknown"
    assert daemon.links(STUDY) == {score, psa}
    daemon.deliver(OTHER, MRI + days(30))
    nearer = daemon.claim()
    daemon.ledger.settle(nearer, daemon.pipeline.step(nearer))
    assert daemon.links(OTHER) == set()
    vanish()
    assert daemon.links(STUDY) == {psa}
    daemon.work()
    assert daemon.links(OTHER) == {score}


def test_what_belonged_to_a_withdrawn_study_goes_to_the_one_before(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    score = observe(fhir, patient, MRI + days(40), **SCORE)
    rival = {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{THIRD}"}],
        "status": "available",
        "subject": {"reference": patient},
        "started": (MRI + days(30)).isoformat(),
        "series": [
            {"uid": "1.2.5.1", "modality": {"code": "MR"}, "bodySite": {"display": "prostate"}}
        ],
    }
    reference = reference_of(create(fhir, rival))
    daemon.deliver(STUDY)
    daemon.work()
    assert daemon.links(STUDY) == set()
    put(fhir, reference, status="entered-in-error")
    daemon.ledger.links.judge_again([patient])
    daemon.work()
    assert daemon.links(STUDY) == {score}


def test_a_reference_to_the_study_and_one_to_its_uid_go_before_dates(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    daemon.deliver(STUDY)
    daemon.work()
    named = f"ImagingStudy/{daemon.resource(STUDY)['id']}"
    logical = {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY}"}}
    far = MRI + days(700)
    score = observe(fhir, patient, far, **SCORE, derivedFrom=[{"reference": named}])
    panel = {"code": {"text": "panel"}, "partOf": [logical]}
    volume = observe(
        fhir,
        patient,
        far,
        code={"coding": [{"system": "http://snomed.info/sct", "code": "1297142007"}]},
        valueQuantity={"value": 40, "unit": "cc"},
    )
    observe(fhir, patient, far, **panel, hasMember=[{"reference": volume}])
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"text": "MRI"},
        "subject": {"reference": patient},
        "imagingStudy": [{"reference": named}],
        "result": [{"reference": volume}],
    }
    create(fhir, report)
    daemon.ledger.links.judge_again([patient])
    daemon.work()
    assert daemon.links(STUDY) == {score, volume}
    assert {daemon.row(STUDY, one).rule for one in (score, volume)} == {"explicit"}


def test_other_words_are_a_change_that_is_accounted_for(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    observe(fhir, patient, MRI - days(5), **PSA)
    daemon.deliver(STUDY)
    daemon.work()
    daemon.follow(display=False)
    daemon.work()
    (link,) = daemon.resource(STUDY)["extension"]
    assert link["valueReference"].keys() == {"reference"}
    reasons = {
        one["reason"][0]["text"].partition(": ")[2].partition(";")[0]
        for one in _provenances(fhir, daemon.resource(STUDY)["id"])
    }
    assert reasons == {
        "1 added, 0 removed, 0 in other words",
        "0 added, 0 removed, 1 in other words",
    }


def test_a_persons_decision_is_stated_with_the_change_that_it_makes(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    psa, far = (observe(fhir, patient, MRI - days(count), **PSA) for count in (5, 900))
    daemon.deliver(STUDY)
    daemon.work()
    daemon.ledger.links.decide(STUDY, psa, "remove", "a mixed-up sample")
    daemon.ledger.links.decide(STUDY, far, "add", "dated wrongly")
    daemon.work()
    assert daemon.links(STUDY) == {far}
    said = [
        [one["text"] for one in provenance["reason"][1:]]
        for provenance in _provenances(fhir, daemon.resource(STUDY)["id"])
    ]
    assert sorted(said) == [
        [],
        [
            f"A person decided to remove {psa}: a mixed-up sample",
            f"A person decided to add {far}: dated wrongly",
        ],
    ]


def test_each_change_is_accounted_for_with_what_was_judged(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    psa = observe(fhir, patient, MRI - days(5), **PSA)
    daemon.deliver(STUDY)
    claimed = daemon.claim()
    step = daemon.pipeline.step(claimed)
    assert "linked to 1 clinical variables with Provenance" in step.sentence
    daemon.ledger.settle(claimed, step)
    (said,) = _provenances(fhir, daemon.resource(STUDY)["id"])
    assert said["policy"] == [rule_set(LinkSettings())]
    assert said["reason"][0]["text"].endswith(f"; rules {rules_version(LinkSettings())}.")
    judged = {
        "type": "Observation",
        "identifier": {
            "system": "urn:ietf:rfc:3986",
            "value": f"{daemon.base_url}/{psa}/_history/1",
        },
        "display": f"{psa}, version 1",
    }
    assert said["entity"] == [{"role": "source", "what": judged}]
    put(fhir, psa, status="entered-in-error")
    daemon.ledger.links.judge_again([patient])
    daemon.work()
    first, second = sorted(
        _provenances(fhir, daemon.resource(STUDY)["id"]), key=lambda one: str(one["recorded"])
    )
    assert first == said
    assert ": 0 added, 1 removed, 0 in other words;" in second["reason"][0]["text"]
    revision, source = (one["what"] for one in second["entity"])
    assert revision == {"reference": f"ImagingStudy/{daemon.resource(STUDY)['id']}/_history/1"}
    assert source["identifier"]["value"] == f"{daemon.base_url}/{psa}/_history/2"


@pytest.mark.parametrize("provenance", [True, False])
@pytest.mark.parametrize("id_strategy", ["server", "hash"])
def test_however_a_study_is_written_one_provenance_tells_of_its_links(
    tmp_path: Path, fhir: httpx.Client, patient: str, provenance: bool, id_strategy: str
) -> None:
    psa = observe(fhir, patient, MRI - days(5), **PSA)
    daemon = Daemon(tmp_path, fhir, provenance=provenance, id_strategy=id_strategy)
    daemon.deliver(STUDY)
    daemon.work()
    (created,) = _provenances(fhir, daemon.resource(STUDY)["id"])
    put(fhir, psa, status="entered-in-error")
    daemon.ledger.links.judge_again([patient])
    daemon.work()
    said = _provenances(fhir, daemon.resource(STUDY)["id"])
    (updated,) = [one for one in said if one != created]
    assert daemon.links(STUDY) == set()
    for one, activity in ((created, "CREATE"), (updated, "UPDATE")):
        assert one["activity"]["coding"][0]["code"] == activity
        assert one["agent"][0]["who"]["display"] == f"flute-sync {__version__}"
        assert [each["role"] for each in one["entity"]][-1] == "source"
        assert one["policy"]
    daemon.close()


def _provenances(fhir: httpx.Client, study_id: str) -> list[dict[str, Any]]:
    found = fhir.get("/Provenance", params={"target": f"ImagingStudy/{study_id}"}).json()
    return [one["resource"] for one in found.get("entry", [])]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_order_the_end_is_the_same(
    daemon: Daemon, fhir: httpx.Client, patient: str, seed: int
) -> None:
    """Studies and variables come at random, and two workers have steps in hand at random."""
    chance = Random(seed)
    dates = {STUDY: MRI, OTHER: MRI + days(60), THIRD: MRI + days(200)}
    variables: list[tuple[str, date, dict[str, Any]]] = [
        ("score of the first", MRI + days(10), SCORE),
        ("score of the second", MRI + days(65), SCORE),
        ("PSA of the second", MRI + days(58), PSA),
        ("PSA of the first", MRI - days(1), PSA),
        ("PSA of the third", MRI + days(199), PSA),
    ]
    names: dict[str, str] = {}
    news: list[Callable[[], object]] = [partial(daemon.deliver, *one) for one in dates.items()]

    def observed(name: str, day: date, said: dict[str, Any]) -> None:
        names[observe(fhir, patient, day, **said)] = name
        daemon.ledger.links.judge_again([patient])

    news += [partial(observed, *one) for one in variables]
    chance.shuffle(news)
    in_hand: list[tuple[Claim, Settlement]] = []
    for tell in news:
        tell()
        in_hand += [
            (claimed, daemon.pipeline.step(claimed))
            for worker in ("a", "b")
            if chance.random() < 0.6 and (claimed := daemon.ledger.claim(worker)) is not None
        ]
        while in_hand and chance.random() < 0.6:
            daemon.ledger.settle(*in_hand.pop(chance.randrange(len(in_hand))))
    for one in in_hand:
        daemon.ledger.settle(*one)
    daemon.work()
    found = {uid: {names[reference] for reference in daemon.links(uid)} for uid in dates}
    assert found == {
        STUDY: {"score of the first", "PSA of the first"},
        OTHER: {"score of the second", "PSA of the second"},
        THIRD: {"PSA of the third"},
    }
    assert daemon.pipeline.linker.review(patient) == []


def test_one_request_finds_what_may_be_linked(
    daemon: Daemon, fhir: httpx.Client, patient: str
) -> None:
    observe(fhir, patient, MRI - days(5), **PSA)
    daemon.deliver(STUDY)
    daemon.work()
    asked: list[str] = []
    daemon.client.close()
    daemon.client = FhirClient(
        daemon.configured().fhir, on_request=lambda interaction, _status: asked.append(interaction)
    )
    daemon.follow()
    daemon.ledger.replay(STUDY)
    daemon.work()
    assert asked == ["bundle", "bundle"]  # the study and its patient; what may be linked
