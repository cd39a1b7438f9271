"""Who may be linked at all, and the sheet on which the rules write what becomes of each.

References
----------
FHIR R4 observation.html, procedure.html, familymemberhistory.html (status, subject, patient).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flute_sync.fhir_dates import Verdict
from flute_sync.fhir_elements import Resource
from flute_sync.flute_profiles import RELAXED, broken_rules
from flute_sync.flute_variables import Kind, is_accepted, kind_of
from flute_sync.link_case import Candidate, Case, Link


@dataclass(slots=True)
class Sheet:
    """What is judged of one candidate.

    Parameters
    ----------
    only
        The MRIs that the rules may give it to.
    barred
        Studies that a person took it from.
    links, refused
        Study Instance UID -> what is said of that study.
    rule, reason
        Why it is refused to all other studies.
    done
        Whether no further rule is asked.
    gone
        Whether it is the wrong patient's, withdrawn or not as its profile wants it.
    """

    one: Candidate
    only: frozenset[str]
    barred: set[str] = field(default_factory=set)
    links: dict[str, Link] = field(default_factory=dict)
    refused: dict[str, Link] = field(default_factory=dict)
    rule: str = "time"
    reason: str = "no rule that is in use places it"
    done: bool = False
    gone: bool = False

    def link(self, uid: str, rule: str, verdict: Verdict, reason: str) -> None:
        """Link it to a study."""
        self.links[uid] = self.one.link(rule, verdict, reason)
        self.done = True

    def refuse(self, uid: str, rule: str, verdict: Verdict, reason: str) -> None:
        """Refuse it to one study."""
        self.refused[uid] = self.one.link(rule, verdict, reason)

    def close(self, rule: str, reason: str) -> None:
        """Refuse it to all the studies of which nothing else is said."""
        self.rule, self.reason, self.done = rule, reason, True


def sheets(case: Case, resources: Mapping[str, Resource]) -> dict[str, Sheet]:
    """Return a sheet for each candidate, sorted by kind; unfit ones are closed."""
    mris = frozenset(mri.uid for mri in case.mris)
    found = sorted(_candidates(case, resources), key=lambda one: one.kind)
    return {one.reference: _admitted(Sheet(one, mris), case) for one in found}


def _candidates(case: Case, resources: Mapping[str, Resource]) -> Iterator[Candidate]:
    for name, resource in resources.items():
        kind = kind_of(resource)
        if kind is not None:
            broken = broken_rules(resource, kind)
            yield Candidate(name, kind, resource, case.when(resource), broken)


def _admitted(sheet: Sheet, case: Case) -> Sheet:
    broken = sheet.one.waived
    if broken and case.settings.conformance == "relaxed":
        broken = tuple(rule for rule in broken if rule not in RELAXED)
    if unfit := why_unfit(sheet.one, case):
        sheet.close(*unfit)
    elif broken:
        sheet.close("conformance", f"it breaks rules of its profile: {', '.join(broken)}")
    sheet.gone = sheet.done
    return sheet


def why_unfit(one: Candidate, case: Case) -> tuple[str, str] | None:
    """Return why a resource may never be linked, not even by a person: the rule, and in words."""
    element = "patient" if one.kind is Kind.FAMILY_HISTORY else "subject"
    if case.local(one.resource.get(element)) not in case.patient_references:
        return "patient", "it is of another patient, or does not say of whom"
    if not is_accepted(one.resource, preliminary=case.settings.preliminary):
        return "status", f"its status is {one.resource.get('status', 'absent')}"
    return None
