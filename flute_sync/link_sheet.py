"""Who may be linked at all, and the sheet on which the rules write what becomes of each.

References
----------
FHIR R4 observation.html, procedure.html, familymemberhistory.html (status, subject, patient).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flute_sync.fhir_dates import ALWAYS, Verdict, effective
from flute_sync.fhir_elements import Resource, members, type_named
from flute_sync.flute_profiles import RELAXED, broken_rules
from flute_sync.flute_variables import Kind, is_accepted, kind_of
from flute_sync.link_case import Candidate, Case, Link
from flute_sync.link_settings import LinkSettings


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
    barred: frozenset[str] = frozenset()
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


def sheets(case: Case, resources: Mapping[str, Resource]) -> dict[Kind, list[Sheet]]:
    """Return a sheet for each candidate, by its kind, and kinds sorted; unfit ones are closed."""
    mris = frozenset(mri.uid for mri in case.mris)
    found: dict[Kind, list[Sheet]] = {kind: [] for kind in sorted(Kind)}
    for name, resource in resources.items():
        kind = kind_of(resource)
        if kind is not None:
            span = effective(resource, case.birth) or ALWAYS
            one = Candidate(name, kind, resource, span, broken_rules(resource, kind))
            sheet = Sheet(one, mris)
            unfit = why_unfit(one, case) or (_unmet(one, case.settings) if one.waived else None)
            if unfit is not None:
                sheet.close(*unfit)
                sheet.gone = True
            found[kind].append(sheet)
    return found


def _unmet(one: Candidate, settings: LinkSettings) -> tuple[str, str] | None:
    """Return why a resource that breaks rules of its profile may not be linked by a rule."""
    waived = RELAXED if settings.conformance == "relaxed" else frozenset()
    broken = [rule for rule in one.waived if rule not in waived]
    if not broken:
        return None
    return "conformance", f"it breaks rules of its profile: {', '.join(broken)}"


def _focus(resource: Resource) -> list[Resource]:
    return members(resource["focus"]) if "focus" in resource else []


def _is_person(reference: Resource) -> bool:
    return type_named(reference) in ("Patient", "RelatedPerson")


def why_unfit(one: Candidate, case: Case) -> tuple[str, str] | None:
    """Return why a resource may never be linked, not even by a person: the rule, and in words."""
    element = "patient" if one.kind is Kind.FAMILY_HISTORY else "subject"
    if not case.is_his(one.resource.get(element)):
        return "patient", "it is of another patient, or does not say of whom"
    if any(_is_person(about) and not case.is_his(about) for about in _focus(one.resource)):
        return "patient", "its focus is another person"
    if not is_accepted(one.resource, preliminary=case.settings.preliminary):
        return "status", f"its status is {one.resource.get('status', 'absent')}"
    return None
