"""Which FLUTE variables belong to which study, and why: the links of ``supporting-info``.

A pure function of all that is known of one patient. The same facts give the same links, whatever
was linked before and in whatever order things came; a rule change is a change of the settings.

The first rule with an answer wins: a person's word, an explicit reference, a common request, a
common encounter, the dates, and last that there is only one of each. No variable is linked to two
MRIs, except family history, which belongs to all.

References
----------
FLUTE guide 0.1.0, "Link between FHIR ImagingStudy and DICOM Images" and resource-supportingInfo.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from flute_sync.fhir_dates import Verdict
from flute_sync.flute_variables import (
    RELAXED,
    Kind,
    Resource,
    Rule,
    broken_rules,
    is_accepted,
    kind_of,
)
from flute_sync.link_case import (
    Candidate,
    Case,
    Decision,
    Imaging,
    Link,
    StudyLinks,
    own_reference,
    references,
)
from flute_sync.link_stated import Stated, StatedLinks
from flute_sync.link_time import Placed, TimeLinks
from flute_sync.prostate import Prostate

RULES_VERSION: Final = 1
"""Raised when the rules judge the same facts in another way: patients are judged again then."""


def judge(case: Case) -> dict[str, StudyLinks]:
    """Judge the links of all studies of one patient.

    Returns
    -------
        Study Instance UID -> its links, and every candidate that it was refused, with the reason.

    References
    ----------
    FHIR R4 extension-definitions.html; the rules are those of docs/links.md.
    """
    return _Judgement(case).result()


class _Judgement:
    def __init__(self, case: Case) -> None:
        self._case = case
        self._settings = case.settings
        self._links: dict[str, dict[str, Link]] = {one.uid: {} for one in case.imaging}
        self._refused: dict[str, dict[str, Link]] = {one.uid: {} for one in case.imaging}
        self._homes: dict[str, Imaging] = {}
        self._candidates = tuple(self._admitted())
        self._stated = StatedLinks(case, self._candidates)

    def result(self) -> dict[str, StudyLinks]:
        if self._settings.enabled:
            self._judge()
        self._obey()
        return {
            one.uid: StudyLinks(
                _sorted(self._links[one.uid].values()),
                _sorted(
                    link
                    for reference, link in self._refused[one.uid].items()
                    if reference not in self._links[one.uid]
                ),
            )
            for one in self._case.imaging
        }

    # -- who may be linked at all ---------------------------------------------------------------

    def _admitted(self) -> Iterator[Candidate]:
        """Yield what may be linked; refuse the others to every MRI, with the reason."""
        seen = set()
        for resource in self._case.candidates:
            kind, reference = kind_of(resource), own_reference(resource)
            if kind is None or reference is None or reference in seen:
                continue
            seen.add(reference)
            broken = broken_rules(resource, kind)
            reason = self._unfit(resource, broken)
            candidate = Candidate(
                reference, kind, resource, self._case.when(resource), tuple(sorted(broken))
            )
            if reason is None:
                yield candidate
            else:
                rule, said = reason
                self._refuse(candidate, self._case.mris, rule, Verdict.CONTRADICTED, said)

    def _unfit(self, resource: Resource, broken: frozenset[Rule]) -> tuple[str, str] | None:
        """Return why a resource may not be linked, as a rule and in words."""
        element = "patient" if resource.get("resourceType") == "FamilyMemberHistory" else "subject"
        subjects = {self._case.local(one) for one in references(resource.get(element))}
        if not subjects or not subjects <= self._case.patient_references:
            return "patient", "it is of another patient, or of nobody"
        if not is_accepted(resource, preliminary=self._settings.preliminary):
            return "status", f"its status is {resource.get('status', 'absent')}"
        waivable = RELAXED if self._settings.conformance == "relaxed" else frozenset[Rule]()
        lasting = sorted(broken - waivable)
        if lasting:
            return "conformance", f"it breaks its profile: {', '.join(lasting)}"
        return None

    # -- the rules ------------------------------------------------------------------------------

    def _judge(self) -> None:
        unstated = [one for one in self._candidates if not self._by_statement(one)]
        for one in unstated:
            if one.kind is Kind.FAMILY_HISTORY:
                self._to_all(one)
        biopsies = [one for one in unstated if one.kind is Kind.BIOPSY]
        self._by_time(biopsies, self._times(biopsies).biopsies())
        others = [
            one
            for one in unstated
            if one.kind not in (Kind.BIOPSY, Kind.FAMILY_HISTORY) and not self._with_biopsy(one)
        ]
        self._by_time(others, self._times(others).others())

    def _times(self, candidates: list[Candidate]) -> TimeLinks:
        biopsies = [one for one in self._candidates if one.kind is Kind.BIOPSY]
        return TimeLinks(self._case, candidates, biopsies, self._homes)

    def _by_statement(self, one: Candidate) -> bool:
        """Link what somebody stated; False where nobody did."""
        for rule, found in (
            ("explicit", self._stated.explicit),
            ("request", self._stated.by_request),
            ("encounter", self._stated.by_encounter),
        ):
            stated = found(one) if rule in self._settings.rules else ()
            if stated:
                self._follow(one, rule, stated)
                return True
        return False

    def _follow(self, one: Candidate, rule: str, stated: tuple[Stated, ...]) -> None:
        fit = [each for each in stated if _may_have_links(each.study)]
        for each in stated:
            if each not in fit:
                reason = f"{each.reason}, but that shows another part of the body or was withdrawn"
                self._refuse(one, [each.study], rule, Verdict.CONTRADICTED, reason)
        if len({each.study.uid for each in fit}) > 1 and one.kind is not Kind.FAMILY_HISTORY:
            reason = "several studies are named for it, and it can belong to one"
            self._refuse(one, [each.study for each in fit], rule, Verdict.POSSIBLE, reason)
            return
        for each in fit:
            if _is_before(one, each.study):
                reason = f"{each.reason}, although it is dated before it"
                self._link(one, each.study, rule, Verdict.CONTRADICTED, reason)
            else:
                self._link(one, each.study, rule, Verdict.CERTAIN, each.reason)

    def _to_all(self, one: Candidate) -> None:
        for mri in self._case.mris:
            reason = "family history belongs to every MRI of the prostate"
            self._link(one, mri, "family-history", _sureness(mri), reason)

    def _with_biopsy(self, one: Candidate) -> bool:
        """Put an ISUP grade where the biopsy is that it names; False where it names none."""
        if one.kind is not Kind.OUTCOME or "explicit" not in self._settings.rules:
            return False
        named = {
            self._case.local(reference)
            for element in ("partOf", "basedOn", "derivedFrom")
            for reference in references(one.resource.get(element))
        }
        biopsies = [
            each.reference
            for each in self._candidates
            if each.kind is Kind.BIOPSY and each.reference in named
        ]
        for biopsy in biopsies[:1]:
            home = self._homes.get(biopsy)
            if home is None:
                reason = f"its biopsy {biopsy} belongs to no MRI"
                self._refuse(one, self._case.mris, "biopsy", Verdict.CONTRADICTED, reason)
            else:
                self._link(one, home, "biopsy", Verdict.CERTAIN, f"with its biopsy {biopsy}")
        return bool(biopsies)

    def _by_time(self, candidates: list[Candidate], placed: Mapping[str, Placed]) -> None:
        for one in candidates:
            place = placed.get(one.reference) if "time" in self._settings.rules else None
            if place is not None and place.study and place.verdict is Verdict.CERTAIN:
                self._link(one, place.study, place.rule, _sureness(place.study), place.reason)
            elif not self._is_sole(one, place):
                self._leave(one, place)
            else:
                reason = "the only one of its kind, for the only MRI of the prostate"
                self._link(one, self._case.mris[0], "sole-candidate", Verdict.POSSIBLE, reason)

    def _is_sole(self, one: Candidate, place: Placed | None) -> bool:
        wanted = self._settings.sole_candidate
        if "sole-candidate" not in self._settings.rules or wanted == "never":
            return False
        if wanted == "undated" and one.day is not None and not one.is_age_dated:
            return False
        alike = [each for each in self._candidates if each.kind is one.kind]
        contradicted = place is not None and place.verdict is Verdict.CONTRADICTED
        return len(self._case.mris) == len(alike) == 1 and not contradicted

    def _leave(self, one: Candidate, place: Placed | None) -> None:
        """Refuse what no rule places, to every MRI, with what the dates say."""
        if place is not None:
            self._refuse(one, self._case.mris, place.rule, place.verdict, place.reason)
        elif one.day is None:
            self._refuse(one, self._case.mris, "time", Verdict.POSSIBLE, "it has no date")
        else:
            self._refuse(one, self._case.mris, "time", Verdict.POSSIBLE, "no rule places it")

    # -- a person's word ------------------------------------------------------------------------

    def _obey(self) -> None:
        for decision in self._case.decisions:
            study = next(
                (one for one in self._case.imaging if one.uid == decision.study_instance_uid), None
            )
            candidate = next(
                (one for one in self._every() if one.reference == decision.reference), None
            )
            if study is not None and candidate is not None:
                self._decide(candidate, study, decision)

    def _every(self) -> Iterator[Candidate]:
        for resource in self._case.candidates:
            kind, reference = kind_of(resource), own_reference(resource)
            if kind is not None and reference is not None:
                yield Candidate(reference, kind, resource, self._case.when(resource))

    def _decide(self, one: Candidate, study: Imaging, decision: Decision) -> None:
        reason = f"a person decided: {decision.why}"
        if decision.verb == "remove":
            self._links[study.uid].pop(one.reference, None)
            self._refuse(one, [study], "person", Verdict.CONTRADICTED, reason)
            return
        if one.kind is not Kind.FAMILY_HISTORY:
            for uid, links in self._links.items():
                if links.pop(one.reference, None) is not None and uid != study.uid:
                    other = next(each for each in self._case.imaging if each.uid == uid)
                    elsewhere = "a person gave it to another study"
                    self._refuse(one, [other], "person", Verdict.CONTRADICTED, elsewhere)
        self._link(one, study, "person", Verdict.CERTAIN, reason)

    # -- writing down ---------------------------------------------------------------------------

    def _link(
        self, one: Candidate, study: Imaging, rule: str, verdict: Verdict, reason: str
    ) -> None:
        self._links[study.uid][one.reference] = _said(one, rule, verdict, reason)
        if one.kind is Kind.BIOPSY:
            self._homes[one.reference] = study

    def _refuse(
        self,
        one: Candidate,
        studies: Iterable[Imaging],
        rule: str,
        verdict: Verdict,
        reason: str,
    ) -> None:
        for study in studies:
            self._refused[study.uid][one.reference] = _said(one, rule, verdict, reason)


def _said(one: Candidate, rule: str, verdict: Verdict, reason: str) -> Link:
    return Link(one.reference, one.kind, rule, verdict, reason, one.waived, one.day)


def _sorted(links: Iterable[Link]) -> tuple[Link, ...]:
    return tuple(sorted(links, key=lambda link: (link.kind.value, link.reference)))


def _may_have_links(study: Imaging) -> bool:
    return study.part is not Prostate.NO and not study.is_withdrawn


def _is_before(one: Candidate, study: Imaging) -> bool:
    """Tell whether dates contradict an explicit word: made before the images were."""
    from_images = one.kind in (Kind.PI_RADS, Kind.VOLUME)
    return bool(from_images and one.day and study.day and one.day.high < study.day.low)


def _sureness(study: Imaging) -> Verdict:
    return Verdict.CERTAIN if study.part is Prostate.YES else Verdict.POSSIBLE
