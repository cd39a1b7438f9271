"""Links to clinical variables, as a hospital sees them: on the FHIR server, and explained."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import DEFAULT_WHEN
from flute_sync.terminology import FLUTE_SUPPORTING_INFO
from tests.acceptance.clinic import Clinic, again, everything_settled, later_study, send
from tests.acceptance.conftest import Upload, create_patient
from tests.acceptance.site import Site, eventually, running
from tests.services.hapi import Hapi

KINDS = {
    "PR_DigitalRectalExamination",
    "PR_PIRADSScore",
    "PR_ProstateCancerFamilyHistory",
    "PR_ProstateSpecificAntigen",
    "PR_ProstateVolume",
}


@pytest.fixture
def clinic(hapi: Hapi) -> Clinic:
    return Clinic(hapi.base_url)


@pytest.fixture
def site(
    clinic: Clinic, sandbox: Sandbox, make_site: Callable[[str, str | None], Site]
) -> Iterator[Site]:
    """A site between the sandbox's archive and the FHIR server, running.

    Its watches are slow: they would let studies be judged again of which a test says when.
    """
    made = make_site(clinic.base_url, sandbox.dicomweb_url)
    made.settings["patient"]["watch_interval"] = "1h"
    made.settings["links"] = {"watch_interval": "1h", "sweep": False}
    with running(made):
        yield made


def test_an_mri_is_linked_to_its_variables_and_tells_why(site: Site, clinic: Clinic) -> None:
    upload = Upload(slices=1)
    subject = create_patient(clinic.base_url, upload.patient)
    written = clinic.variables(subject, upload, DEFAULT_WHEN.date())
    send(site, upload)
    linked = clinic.links(upload.uid)
    assert {written[kind] for kind in KINDS} <= linked.keys()
    told = site.ask("study", upload.uid, "--explain")
    assert {one["reference"] for one in told["links"]} == linked.keys()
    assert {one["kind"] for one in told["links"]} >= KINDS
    known = {one["reference"] for one in (*told["links"], *told["refused"])}
    assert known == set(written.values())
    (psa,) = [one for one in told["links"] if one["kind"] == "PR_ProstateSpecificAntigen"]
    assert (psa["verdict"], psa["waived"]) == ("certain", [])
    words = linked[psa["reference"]]
    assert words is not None
    assert "PSA" in words
    (said,) = clinic.provenances(upload.uid)
    assert said["policy"][0].startswith("urn:uuid:")
    assert said["agent"][0]["type"]["coding"][0]["code"] == "assembler"
    sources = [one["what"] for one in said["entity"] if one["role"] == "source"]
    assert {one["display"] for one in sources} == {f"{one}, version 1" for one in linked}
    addresses = {one["identifier"]["value"] for one in sources}
    assert addresses == {f"{clinic.base_url}/{one}/_history/1" for one in linked}
    assert clinic.faults(clinic.study(upload.uid)) == clinic.faults(said) == []
    before = clinic.study(upload.uid)["meta"]["versionId"]
    again(site, upload.uid)
    assert clinic.study(upload.uid)["meta"]["versionId"] == before
    assert "linked to" in site.run("study", upload.uid, "--explain").stdout


def test_a_nearer_mri_takes_over_and_nothing_is_linked_to_two(site: Site, clinic: Clinic) -> None:
    upload = Upload(slices=1)
    subject = create_patient(clinic.base_url, upload.patient)
    first_day = DEFAULT_WHEN.date()
    score = clinic.variables(subject, upload, first_day + timedelta(days=40))["PR_PIRADSScore"]
    nearer = later_study(upload, DEFAULT_WHEN + timedelta(days=30))
    send(site, upload)
    assert score in clinic.links(upload.uid)
    send(site, nearer)
    everything_settled(site)
    assert score in clinic.links(nearer.uid)
    assert score not in clinic.links(upload.uid)
    (refused,) = [
        one
        for one in site.ask("study", upload.uid, "--explain")["refused"]
        if one["reference"] == score
    ]
    assert refused["reason"]
    lost, gained = (clinic.study(one)["meta"] for one in (upload.uid, nearer.uid))
    assert lost["lastUpdated"] <= gained["lastUpdated"]
    versions = {one: clinic.study(one)["meta"]["versionId"] for one in (upload.uid, nearer.uid)}
    again(site, upload.uid)
    again(site, nearer.uid)
    assert versions == {
        one: clinic.study(one)["meta"]["versionId"] for one in (upload.uid, nearer.uid)
    }


def test_only_our_own_links_go_and_foreign_ones_win(site: Site, clinic: Clinic) -> None:
    upload = Upload(slices=1)
    subject = create_patient(clinic.base_url, upload.patient)
    day = DEFAULT_WHEN.date()
    ours = clinic.psa(subject, day - timedelta(days=5))
    theirs = clinic.psa(subject, day - timedelta(days=300))
    send(site, upload)
    assert set(clinic.links(upload.uid)) == {ours}
    found = clinic.study(upload.uid)
    extension = {"url": FLUTE_SUPPORTING_INFO, "valueReference": {"reference": theirs}}
    reference = f"ImagingStudy/{found['id']}"
    clinic.change(reference, extension=[*found["extension"], extension])
    again(site, upload.uid)
    assert clinic.links(upload.uid)[theirs] is None
    for one in (ours, theirs):
        clinic.change(one, status="entered-in-error")
    again(site, upload.uid)
    assert set(clinic.links(upload.uid)) == {theirs}


def test_a_person_decides_and_releases(site: Site, clinic: Clinic) -> None:
    upload = Upload(slices=1)
    subject = create_patient(clinic.base_url, upload.patient)
    day = DEFAULT_WHEN.date()
    near, far = (
        clinic.psa(subject, day - timedelta(days=5)),
        clinic.psa(subject, day.replace(year=1999)),
    )
    send(site, upload)
    assert set(clinic.links(upload.uid)) == {near}
    site.ask("link", "remove", upload.uid, near, "--why", "the sample was mixed up")
    site.ask("link", "add", upload.uid, far, "--why", "dated wrongly, is of this week")
    eventually(lambda: set(clinic.links(upload.uid)) == {far}, what="the decision")
    again(site, upload.uid)
    told = site.ask("study", upload.uid, "--explain")
    assert [one["rule"] for one in told["links"]] == ["person"]
    assert {one["why"] for one in told["decisions"]} == {
        "the sample was mixed up",
        "dated wrongly, is of this week",
    }
    for one in (near, far):
        site.ask("link", "release", upload.uid, one, "--why", "corrected at the source")
    eventually(lambda: set(clinic.links(upload.uid)) == {near}, what="the rules again")
    refused = site.run("link", "release", upload.uid, near, "--why", "twice")
    assert (refused.returncode, "LINK-UNDECIDED" in refused.stderr) == (65, True)
    assert site.run("link", "add", upload.uid, "Patient/1", "--why", "no").returncode == 2


def test_relink_tells_what_a_changed_rule_would_do(site: Site, clinic: Clinic) -> None:
    upload = Upload(slices=1)
    subject = create_patient(clinic.base_url, upload.patient)
    psa = clinic.psa(subject, DEFAULT_WHEN.date() - timedelta(days=100))
    send(site, upload)
    assert set(clinic.links(upload.uid)) == {psa}
    site.settings["links"] = {"psa_before": "P90D"}
    told = site.ask("relink", "--all", "--dry-run")
    ((change,),) = [one["changes"] for one in told["studies"]]
    assert (change["change"], change["reference"]) == ("removed", psa)
    assert set(clinic.links(upload.uid)) == {psa}
    site.settings["links"] = {}
    late = clinic.psa(subject, DEFAULT_WHEN.date() - timedelta(days=1))
    told = site.ask("relink", "--patient", subject)
    assert {one["change"] for one in told["studies"][0]["changes"]} == {"added", "removed"}
    eventually(lambda: set(clinic.links(upload.uid)) == {late}, what="what came late")
    everything_settled(site)
    assert site.ask("relink", "--patient", subject)["studies"] == []
    assert site.run("relink").returncode == 2
