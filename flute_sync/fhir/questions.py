"""Several questions to the server at once: one batch where it takes batches."""

from collections.abc import Sequence
from dataclasses import dataclass

from flute_sync.bundle import Entry, Resource, Result, search_url
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.queries import Parameters
from flute_sync.fhir.reads import read_result


@dataclass(frozen=True, slots=True)
class Read:
    """Read one resource."""

    resource_type: str
    resource_id: str


@dataclass(frozen=True, slots=True)
class Search:
    """Search resources."""

    resource_type: str
    parameters: Parameters


Question = Read | Search


def ask(client: FhirClient, questions: Sequence[Question]) -> list[list[Resource]]:
    """Return what each question found, in order; a read finds one resource or none.

    Identifiers stay out of URLs: a batch carries them in its body, a lone search in its form.

    Raises
    ------
    FhirGone
        A resource to read was deleted.
    """
    if len(questions) < 2 or not client.bundles:
        return [_alone(client, question) for question in questions]
    answers = client.batch([_entry(question) for question in questions])
    return [
        _answer(client, question, answer)
        for question, answer in zip(questions, answers, strict=True)
    ]


def _alone(client: FhirClient, question: Question) -> list[Resource]:
    if isinstance(question, Search):
        return client.search(question.resource_type, question.parameters)
    found = client.read(question.resource_type, question.resource_id)
    return [] if found is None else [found]


def _entry(question: Question) -> Entry:
    if isinstance(question, Search):
        return Entry("GET", search_url(question.resource_type, question.parameters))
    return Entry("GET", f"{question.resource_type}/{question.resource_id}")


def _answer(client: FhirClient, question: Question, answer: Result) -> list[Resource]:
    if isinstance(question, Search):
        return client.matches(answer, question.resource_type)
    found = read_result(answer, question.resource_type, question.resource_id)
    return [] if found is None else [found]
