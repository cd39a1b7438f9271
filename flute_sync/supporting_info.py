"""Which FLUTE variables belong to which study, and why: the links of ``supporting-info``.

A pure function of all that is known of one patient. The same facts give the same links, whatever
was linked before and in whatever order things came; a rule change is a change of the settings.

The first rule with an answer wins: a person's word, an explicit reference, a common request, a
common encounter, the dates, and last that there is only one of each. No variable is linked to two
MRIs, except family history, which belongs to all.

References
----------
FLUTE guide 0.1.0, "Link between FHIR ImagingStudy and DICOM Images" and resource-supportingInfo;
FHIR R4 provenance.html#Provenance.policy. The rules are those of docs/links.md.
"""

from hashlib import sha256
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from flute_sync.fhir_dates import Interval, Verdict, date_time
from flute_sync.fhir_elements import Resource
from flute_sync.flute_variables import SHORT
from flute_sync.link_case import Candidate, Case, Decision, Imaging, Link, StudyLinks
from flute_sync.link_judgement import Judgement
from flute_sync.link_settings import UNJUDGED, LinkSettings
from flute_sync.prostate import has_modality

__all__ = ["Candidate", "Case", "Decision", "Imaging", "Link", "LinkSettings", "StudyLinks"]

RULE_SET: Final = "urn:uuid:2f0d7a0e-6a56-5c1e-9a83-7e0f6f1a9d35"
RULES_VERSION: Final = 1
"""Raised when the rules judge the same facts in another way: patients are judged again then."""
_NO_RULES: Final = {"enabled", "display", *UNJUDGED}


def judge(case: Case) -> dict[str, StudyLinks]:
    """Judge the links of all studies of one patient.

    Returns
    -------
        Study Instance UID -> its links, and every other candidate with the reason why not.
    """
    return Judgement(case).result()


def rules_version(settings: LinkSettings) -> str:
    """Return the version of the rules, with a short hash of the settings that they follow.

    Another version may judge the same facts in another way.
    """
    stated = settings.model_dump_json(exclude=_NO_RULES)
    return f"{RULES_VERSION}-{sha256(stated.encode()).hexdigest()[:12]}"


def rule_set(settings: LinkSettings) -> str:
    """Return the URI of the rules in one version, for ``Provenance.policy``.

    A `uri` must be absolute and cannot carry ``|version``: each version has an URI of its own.
    """
    return uuid5(NAMESPACE_URL, f"{RULE_SET}|{rules_version(settings)}").urn


def display(link: Link, study: Resource) -> str:
    """Return what a person reads at a link: kind, date, rule, and how far from the study it is."""
    words = [f"{SHORT[link.kind]} {link.when}" if link.when else SHORT[link.kind]]
    words.append(f" - rule {link.rule}")
    distance = _distance(link.when, date_time(study.get("started")))
    if distance is not None:
        words.append(f", {distance} {'MRI' if has_modality(study, 'MR') else 'study'}")
    if link.verdict is not Verdict.CERTAIN:
        words.append(
            ", uncertain" if link.verdict is Verdict.POSSIBLE else ", contradicted by dates"
        )
    return "".join(words)


def _distance(when: Interval | None, study: Interval | None) -> str | None:
    if when is None or study is None or when.low != when.high or study.low != study.high:
        return None
    count = (when.low - study.low).days
    if count == 0:
        return "on the day of the"
    return f"{abs(count)} d {'after' if count > 0 else 'before'}"
