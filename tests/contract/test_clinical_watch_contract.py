"""Following clinical data, on the sandbox and on HAPI."""

from datetime import timedelta

import httpx

from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.clinical_watch import ClinicalWatch
from tests.contract.fhir_rest import JSON, Resource, create, new_observation, new_patient

OVERLAP = timedelta(minutes=5)


class Follower:
    """Follows one feed of a watch."""

    def __init__(self, watch: ClinicalWatch, feed: str) -> None:
        self.watch, self.feed = watch, feed
        self.cursor: str | None = None
        self.look()

    def look(self) -> tuple[set[str], set[str]]:
        """Return the resources and the patients who are concerned since the last look."""
        resources, patients = set[str](), set[str]()
        for touched, cursor in self.watch.look(self.feed, self.cursor):
            resources |= touched.resources
            patients |= touched.patients
            self.cursor = cursor
        return resources, patients


def made(fhir: httpx.Client, resource: Resource) -> str:
    answer = create(fhir, resource)
    assert answer.status_code == 201, answer.text
    return f"{resource['resourceType']}/{answer.json()['id']}"


def test_an_arrival_and_a_change_are_said_once(
    fhir: httpx.Client, client: FhirClient, subject: str
) -> None:
    feed = Follower(ClinicalWatch(client), "clinical/Observation")
    psa = made(fhir, new_observation(subject))
    made(fhir, new_observation(subject, "8867-4"))  # a heart rate
    resources, patients = feed.look()
    assert psa in resources
    assert subject in patients
    assert psa not in feed.look()[0]
    changed = fhir.get(f"/{psa}").json() | {"status": "entered-in-error"}
    assert fhir.put(f"/{psa}", json=changed, headers=JSON).status_code == 200
    assert psa in feed.look()[0]


def test_every_type_that_matters_is_followed(client: FhirClient) -> None:
    watch = ClinicalWatch(client)
    feeds = watch.feeds(histories=False)
    assert {one.partition("/")[2] for one in feeds} == {
        "Observation",
        "Procedure",
        "FamilyMemberHistory",
        "DiagnosticReport",
        "ServiceRequest",
        "ImagingStudy",
    }
    for feed in watch.feeds(histories=True):
        Follower(watch, feed).look()


def test_a_history_tells_what_is_gone_or_lost_its_code(
    fhir: httpx.Client, client: FhirClient, subject: str
) -> None:
    watch = ClinicalWatch(client)
    assert "history/Observation" in watch.feeds(histories=True)
    gone, recoded = (made(fhir, new_observation(subject)) for _ in range(2))
    search, history = (Follower(watch, f"{way}/Observation") for way in ("clinical", "history"))
    assert {gone, recoded} <= search.look()[0]
    assert not {gone, recoded} & history.look()[0]  # one way has said it
    other = fhir.get(f"/{recoded}").json() | {"code": {"text": "something else"}}
    assert fhir.put(f"/{recoded}", json=other, headers=JSON).status_code == 200
    assert fhir.delete(f"/{gone}").status_code in (200, 204)
    assert not {gone, recoded} & search.look()[0]
    resources, patients = history.look()
    assert {gone, recoded} <= resources
    assert subject not in patients
    assert not {gone, recoded} & history.look()[0]


def test_a_history_is_read_page_by_page(
    fhir: httpx.Client, client: FhirClient, subject: str
) -> None:
    since = client.server_time() - timedelta(seconds=2)
    one, other = (made(fhir, new_observation(subject)) for _ in range(2))
    changed = fhir.get(f"/{one}").json() | {"status": "amended"}
    assert fhir.put(f"/{one}", json=changed, headers=JSON).status_code == 200
    asked = [("_since", since.isoformat(timespec="milliseconds")), ("_count", "1")]
    pages = list(client.history("Observation", asked))
    assert max(map(len, pages)) == 1
    found = [
        (f"Observation/{each['id']}", each["meta"]["versionId"]) for page in pages for each in page
    ]
    # What others write meanwhile may shift a page, so that an entry comes twice.
    assert [each for each in dict.fromkeys(found) if each[0] in {one, other}] == [
        (one, "2"),
        (other, "1"),
        (one, "1"),
    ]


def test_who_was_merged_is_known(fhir: httpx.Client, client: FhirClient, system: str) -> None:
    survivor, single = (made(fhir, new_patient(system, one)) for one in ("a", "b"))
    link = [{"type": "replaced-by", "other": {"reference": survivor}}]
    old = made(fhir, new_patient(system, "c", active=False, link=link))
    asked = {survivor, single, old, "Patient/never-was"}
    assert ClinicalWatch(client, OVERLAP).merged(asked) == {old}
