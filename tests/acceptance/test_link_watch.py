"""Links kept right while clinical data change on a real FHIR server."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import DEFAULT_WHEN
from tests.acceptance.clinic import Clinic, everything_settled, later_study, send
from tests.acceptance.conftest import Upload, create_patient
from tests.acceptance.site import Site, eventually, running
from tests.services.hapi import Hapi

DAY = DEFAULT_WHEN.date()


@pytest.fixture
def clinic(hapi: Hapi) -> Clinic:
    return Clinic(hapi.base_url)


@pytest.fixture
def site(
    clinic: Clinic, sandbox: Sandbox, make_site: Callable[[str, str | None], Site]
) -> Iterator[Site]:
    made = make_site(clinic.base_url, sandbox.dicomweb_url)
    made.settings["patient"]["watch_interval"] = "1h"
    made.settings["links"] = {"watch_interval": "300ms", "sweep": False}
    with running(made):
        yield made


def linked_to(clinic: Clinic, upload: Upload, *references: str) -> None:
    """Wait until a study is linked to these and to nothing else."""
    eventually(
        lambda: set(clinic.links(upload.uid)) == set(references), what="the links", every=0.3
    )


def test_links_follow_what_happens_to_a_value(site: Site, clinic: Clinic) -> None:
    """It comes after the images, is corrected, withdrawn, goes to another patient, and is gone."""
    upload, other = Upload(slices=1), Upload(slices=1)
    subject = create_patient(clinic.base_url, upload.patient)
    another = create_patient(clinic.base_url, other.patient)
    send(site, upload)
    send(site, other)
    assert clinic.links(upload.uid) == {}
    psa = clinic.psa(subject, DAY - timedelta(days=5))
    linked_to(clinic, upload, psa)
    clinic.change(psa, effectiveDateTime=(DAY - timedelta(days=500)).isoformat())
    linked_to(clinic, upload)
    clinic.change(psa, effectiveDateTime=(DAY - timedelta(days=6)).isoformat())
    linked_to(clinic, upload, psa)
    clinic.change(psa, status="entered-in-error")
    linked_to(clinic, upload)
    clinic.change(psa, status="corrected")
    linked_to(clinic, upload, psa)
    clinic.change(psa, subject={"reference": another})
    linked_to(clinic, other, psa)
    assert clinic.links(upload.uid) == {}
    lost, gained = (clinic.study(one.uid)["meta"] for one in (upload, other))
    assert lost["lastUpdated"] <= gained["lastUpdated"]
    answer = httpx.delete(f"{clinic.base_url}/{psa}", timeout=60)
    assert answer.status_code == 200, answer.text
    linked_to(clinic, other)
    everything_settled(site)
    told = site.ask("study", other.uid, "--explain")
    assert (told["links"], told["refused"]) == ([], [])
    eventually(
        lambda: (
            'flute_sync_clinical_changes_total{type="Observation"}'
            in httpx.get(f"{site.console_url}/metrics", timeout=60).text
        )
    )


def test_what_happens_during_a_restart_or_an_outage_is_made_up_for(
    site: Site, clinic: Clinic
) -> None:
    upload = Upload(slices=1)
    subject = create_patient(clinic.base_url, upload.patient)
    score = clinic.variables(subject, upload, DAY + timedelta(days=40))["PR_PIRADSScore"]
    send(site, upload)
    assert score in clinic.links(upload.uid)
    site.stop()
    clinic.change(score, status="entered-in-error")
    late = clinic.psa(subject, DAY)
    site.start()
    eventually(
        lambda: late in clinic.links(upload.uid) and score not in clinic.links(upload.uid),
        what="what changed meanwhile",
        every=0.3,
    )
    clinic.change(score, status="final")
    eventually(lambda: score in clinic.links(upload.uid), what="the score again", every=0.3)
    nearer = later_study(upload, DEFAULT_WHEN + timedelta(days=30))
    send(site, nearer)
    eventually(lambda: score in clinic.links(nearer.uid), what="the nearer MRI", every=0.3)
    assert score not in clinic.links(upload.uid)


def test_a_hint_of_the_fhir_server_is_followed_at_once(
    clinic: Clinic, sandbox: Sandbox, make_site: Callable[[str, str | None], Site]
) -> None:
    site = make_site(clinic.base_url, sandbox.dicomweb_url)
    token = site.folder / "token"
    token.write_text("hinting\n")
    site.settings["patient"]["watch_interval"] = "1h"
    site.settings["links"] = {"watch_interval": "1h", "sweep": False}
    url = f"http://127.0.0.1:{site.port}/notify/fhir"
    site.settings["subscription"] = {"enabled": True, "url": url, "token_file": str(token)}
    upload = Upload(slices=1)
    subject = create_patient(clinic.base_url, upload.patient)
    with running(site):
        eventually(lambda: site.logged("fhir.subscribed"), what="the Subscriptions")
        send(site, upload)
        psa = clinic.psa(subject, DAY - timedelta(days=5))
        answer = httpx.get(f"{clinic.base_url}/Subscription", params={"url": url}, timeout=60)
        for entry in answer.json()["entry"]:
            (header,) = entry["resource"]["channel"]["header"]
            name, _, value = header.partition(": ")
            assert httpx.post(url, headers={name: value}, timeout=60).status_code == 200
        linked_to(clinic, upload, psa)
