"""What is linked, and whether a FHIR server's validator agrees, strict and relaxed."""

import uuid
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from flute_sync.ledger import LinkRow
from flute_sync.sandbox.clinical import flute_variables
from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import SyntheticPatient
from flute_sync.study import StudyInstanceUID
from flute_sync.terminology import FLUTE_IMAGING_STUDY
from tests.contract.fhir_rest import create, new_patient
from tests.flute_examples import BIRTH_DATE, Shape, examples
from tests.linking import SYSTEM, Daemon, reference_of
from tests.services.hapi import Hapi

MRI = date(2024, 2, 20)
EXAMPLES = {
    "PR_Biopsy",
    "PR_DigitalRectalExamination",
    "PR_PIRADSScore",
    "PR_ProstateCancerFamilyHistory",
    "PR_ProstateSpecificAntigen",
    "PR_ProstateVolume",
}
DATED = EXAMPLES - {"PR_Biopsy", "PR_DigitalRectalExamination"}
"""Those that are not dated years later, by an age."""


class Ward:
    """One patient with one MRI, judged by a daemon of the test's own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.fhir = httpx.Client(base_url=url, timeout=120, headers={"Cache-Control": "no-cache"})
        self.number = uuid.uuid4().hex
        self.uid = StudyInstanceUID(f"2.25.{uuid.uuid4().int}")
        made = new_patient(SYSTEM, self.number, birthDate=BIRTH_DATE)
        self.patient = reference_of(create(self.fhir, made))
        self.daemon: Daemon | None = None

    def write(self, resource: dict[str, Any]) -> str:
        return reference_of(create(self.fhir, resource))

    def judge(self, **links: Any) -> dict[str, LinkRow]:
        """Let the MRI be written; return what was said of each resource."""
        self.daemon = Daemon(self.folder, self.fhir, **links)
        self.daemon.deliver(self.uid, MRI, self.number)
        self.daemon.work()
        rows = self.daemon.ledger.links.view(self.uid).rows
        assert self.daemon.links(self.uid) == {one.reference for one in rows if one.taken}
        return {one.reference: one for one in rows}

    @property
    def study(self) -> dict[str, Any]:
        assert self.daemon is not None
        return self.daemon.resource(self.uid)

    @property
    def provenances(self) -> list[dict[str, Any]]:
        target = f"ImagingStudy/{self.study['id']}"
        found = self.fhir.get("/Provenance", params={"target": target}).json()
        return [one["resource"] for one in found.get("entry", [])]

    def faults(self, resource: dict[str, Any], profile: str | None = None) -> list[str]:
        """Return the errors of the server's validator, which follows references to it."""
        answer = self.fhir.post(
            f"/{resource['resourceType']}/$validate",
            params={"profile": profile} if profile else {},
            json=resource,
        )
        assert answer.status_code == 200, answer.text
        issues = answer.json()["issue"]
        return [one["diagnostics"] for one in issues if one["severity"] in {"fatal", "error"}]

    def close(self) -> None:
        if self.daemon is not None:
            self.daemon.close()
        self.fhir.close()


@pytest.fixture
def ward_of(tmp_path: Path) -> Iterator[Callable[[str], Ward]]:
    made: list[Ward] = []

    def make(url: str) -> Ward:
        made.append(Ward(tmp_path, url))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def checked(hapi: Hapi, ward_of: Callable[[str], Ward]) -> Ward:
    """A patient on a server that validates, and follows references where it is asked to."""
    return ward_of(hapi.base_url)


@pytest.fixture(params=["sandbox", "hapi"])
def ward(
    request: pytest.FixtureRequest, tmp_path: Path, ward_of: Callable[[str], Ward]
) -> Iterator[Ward]:
    if request.param == "hapi":
        yield ward_of(request.getfixturevalue("hapi").base_url)
        return
    with Sandbox(tmp_path / "sandbox") as sandbox:
        yield ward_of(sandbox.fhir_url)


def unfollowed(resource: dict[str, Any], base_url: str) -> dict[str, Any]:
    """Return a study whose links a validator does not follow: they look to be elsewhere."""
    links = [
        one | {"valueReference": {"reference": f"{base_url}/{one['valueReference']['reference']}"}}
        for one in resource["extension"]
    ]
    return resource | {"extension": links}


def breaking(variables: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return variables that each break one rule of its profile, by the rule."""
    by_profile = {one["meta"]["profile"][0].rpartition("/")[2]: one for one in variables}
    psa, score = by_profile["PR-ProstateSpecificAntigen"], by_profile["PR-PIRADSScore"]
    biopsy, volume = by_profile["PR-Biopsy"], by_profile["PR-ProstateVolume"]
    (coding,) = psa["code"]["coding"]
    dated = {key: value for key, value in biopsy.items() if key != "performedAge"}
    coded = {key: value for key, value in score.items() if key != "valueInteger"}
    pi_rads = {"coding": [{"system": "http://acr.org/pi-rads", "code": "4"}]}
    day = (MRI + timedelta(days=20)).isoformat()
    return {
        "display": psa | {"code": {"coding": [coding | {"display": "PSA"}]}},
        "decimals": volume | {"valueQuantity": volume["valueQuantity"] | {"value": 42.55}},
        "performed": dated | {"performedDateTime": day},
        "value-type": coded | {"valueCodeableConcept": pi_rads},
    }


def test_strict_links_are_valid_with_their_targets(checked: Ward) -> None:
    person = SyntheticPatient(patient_id=checked.number)
    variables = flute_variables(checked.patient, uuid.uuid4().urn, person, MRI)
    good = {checked.write(one) for one in variables}
    bad = {checked.write(one): rule for rule, one in breaking(variables).items()}
    told = checked.judge(conformance="strict", sole_candidate="any")
    linked = {reference for reference, row in told.items() if row.taken}
    assert linked <= good
    assert {told[one].kind for one in linked} >= DATED
    assert not any(told[one].waived for one in linked)
    for reference, rule in bad.items():
        row = told[reference]
        assert (row.rule, row.taken) == ("conformance", False)
        assert rule in row.reason
    study = checked.study
    assert checked.faults(study, FLUTE_IMAGING_STUDY) == []
    assert [checked.faults(one) for one in checked.provenances] == [[]]


def test_relaxed_links_are_valid_but_for_their_targets(checked: Ward) -> None:
    person = SyntheticPatient(patient_id=checked.number)
    variables = flute_variables(checked.patient, uuid.uuid4().urn, person, MRI)
    bad = {checked.write(one): rule for rule, one in breaking(variables).items()}
    told = checked.judge()
    linked = {reference: row for reference, row in told.items() if row.taken}
    assert set(linked) == set(bad)
    assert {reference: list(row.waived) for reference, row in linked.items()} == {
        reference: [rule] for reference, rule in bad.items()
    }
    study = checked.study
    base = str(checked.fhir.base_url).rstrip("/")
    assert checked.faults(unfollowed(study, base), FLUTE_IMAGING_STUDY) == []
    assert checked.faults(study, FLUTE_IMAGING_STUDY) != []
    assert [checked.faults(one) for one in checked.provenances] == [[]]


@pytest.mark.parametrize(
    ("shape", "conformance", "linked"),
    [
        ("guide", "relaxed", DATED),
        ("guide", "strict", DATED),
        ("extracted", "relaxed", DATED),
        ("extracted", "strict", DATED - {"PR_ProstateSpecificAntigen"}),
        ("undated", "relaxed", EXAMPLES),
        ("undated", "strict", {"PR_ProstateVolume", "PR_ProstateCancerFamilyHistory"}),
    ],
)
def test_the_guides_own_examples(
    ward: Ward, shape: Shape, conformance: str, linked: set[str]
) -> None:
    made = {ward.write(one): kind for kind, one in examples(ward.patient, shape).items()}
    told = ward.judge(conformance=conformance)
    rows = {made[reference]: row for reference, row in told.items()}
    assert {kind: row.kind for kind, row in rows.items()} == {kind: kind for kind in EXAMPLES}
    assert {kind for kind, row in rows.items() if row.taken} == linked
    waived = {kind: row.waived for kind, row in rows.items() if row.taken and row.waived}
    others: dict[str, tuple[str, ...]] = {"PR_ProstateSpecificAntigen": ("display",)}
    expected: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
        ("extracted", "relaxed"): others,
        ("undated", "relaxed"): {
            **others,
            "PR_DigitalRectalExamination": ("display",),
            "PR_Biopsy": ("performed",),
            "PR_PIRADSScore": ("value-type",),
        },
    }
    assert waived == expected.get((shape, conformance), {})
    sure = {"certain"} if shape != "undated" else {"certain", "possible"}
    assert {row.verdict for row in rows.values() if row.taken} <= sure
    if shape == "guide":
        ages = [rows[kind] for kind in sorted(EXAMPLES - DATED)]
        assert [(row.rule, row.verdict) for row in ages] == [
            ("time/biopsy", "contradicted"),
            ("time/dre", "contradicted"),
        ]
