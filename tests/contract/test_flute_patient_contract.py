"""The demo's FLUTE patient is taken by the sandbox and by a server that checks the profiles."""

from datetime import date

import httpx
import pytest

from flute_sync.sandbox.clinical import flute_bundle
from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import SyntheticPatient
from tests.contract.fhir_rest import JSON

PATIENT = SyntheticPatient(patient_id="FLUTE-DEMO")


@pytest.mark.parametrize("server", ["sandbox", "strict_hapi"])
def test_the_flute_patient_conforms_and_may_be_sent_again(request, server):
    running = request.getfixturevalue(server)
    url = running.fhir_url if isinstance(running, Sandbox) else running.base_url
    bundle = flute_bundle(PATIENT, "urn:oid:1.2.3.4.5", date(2024, 3, 1))
    for status in ("201", "200"):
        response = httpx.post(url, json=bundle, headers=JSON, timeout=120)
        answer = response.json()
        faults = [one for one in answer.get("issue", ()) if one["severity"] == "error"]
        assert not faults
        assert {one["response"]["status"][:3] for one in answer["entry"]} == {status}
