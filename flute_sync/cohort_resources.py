"""The result for a cohort as FHIR resources: the Group of those included, and a MeasureReport.

The same data give the same resources, so that a repetition writes nothing.

References
----------
FHIR R4 group.html, measurereport.html; the code system measure-population.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, Final

from flute_sync.cohort import Tally
from flute_sync.eligibility import CRITERION, TEXT, Eligibility, Ground

Resource = dict[str, Any]
_POPULATION: Final = "http://terminology.hl7.org/CodeSystem/measure-population"
_ABSENT: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"


def identifier(system: str, scope: str, criterion: str = CRITERION) -> Resource:
    """Return the identifier of what is written for the patients of a scope.

    Parameters
    ----------
    system
        The site's own.
    scope
        Which patients were judged, such as ``Group/x``; empty: all of the server.
    criterion
        Its name.
    """
    return {"system": system, "value": f"criteria/{criterion}{'/' if scope else ''}{scope}"}


def group(key: Resource, patients: Iterable[str], criterion: str = CRITERION) -> Resource:
    """Return the Group of the patients with at least one biopsy that is included."""
    members = [{"entity": {"reference": one}} for one in sorted(patients)]
    found = {
        "resourceType": "Group",
        "identifier": [key],
        "active": True,
        "type": "person",
        "actual": True,
        "name": f"Included: {criterion}",
        "quantity": len(members),
    }
    return found | ({"member": members} if members else {})


def measure_report(
    key: Resource,
    tally: Tally,
    *,
    measure: str,
    written: datetime,
    subject: str | None,
    text: str = TEXT,
) -> Resource:
    """Return the MeasureReport that counts biopsies.

    Parameters
    ----------
    measure
        Canonical URL of what was measured.
    written
        When.
    subject
        Reference of the Group that was judged; None: all patients.
    text
        What was measured, in words.
    """
    populations = [
        _population("initial-population", tally.biopsies),
        _population("numerator", tally.verdicts[Eligibility.INCLUDED], "included"),
        _population("denominator-exclusion", tally.verdicts[Eligibility.EXCLUDED], "excluded"),
        _other("unknown", tally.verdicts[Eligibility.UNKNOWN]),
        _other("patients", tally.patients),
        _other("patients with a biopsy", tally.with_biopsy),
        _other("patients with an MRI of the prostate", tally.with_mri),
        _other("patients included", tally.eligible),
        *(
            _other(f"{verdict.value}: {ground.value}", tally.grounds[verdict, ground])
            for verdict in Eligibility
            for ground in Ground
            if tally.grounds[verdict, ground]
        ),
    ]
    found: Resource = {
        "resourceType": "MeasureReport",
        "identifier": [key],
        "status": "complete",
        "type": "summary",
        "measure": measure,
        "date": written.isoformat(timespec="seconds"),
        "period": _period(tally.first, tally.last),
        "group": [{"code": {"text": text}, "population": populations}],
    }
    return found | ({"subject": {"reference": subject}} if subject else {})


def says_the_same(known: Resource, now: Resource) -> bool:
    """Tell whether a resource on the server says what we would write, whenever it was written."""
    return all(known.get(name) == value for name, value in now.items() if name != "date")


def _population(code: str, count: int, text: str | None = None) -> Resource:
    concept: Resource = {"coding": [{"system": _POPULATION, "code": code}]}
    return {"code": concept | ({"text": text} if text else {}), "count": count}


def _other(text: str, count: int) -> Resource:
    return {"code": {"text": text}, "count": count}


def _period(first: date | None, last: date | None) -> Resource:
    """From the first to the last biopsy; where none is dated there is no period to speak of."""
    if first is None and last is None:
        return {"extension": [{"url": _ABSENT, "valueCode": "not-applicable"}]}
    ends = {"start": first, "end": last}
    return {name: day.isoformat() for name, day in ends.items() if day is not None}
