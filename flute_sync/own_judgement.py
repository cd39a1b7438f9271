"""Judges a patient by a criterion of a site's own, as the built-in one does: in three values.

The Bundle that the expressions see has the patient and what was read of him; of the resources that
the criterion judges it has one.

References
----------
FHIRPath 2.0.0; FHIR R4 fhirpath.html; docs/criteria.md.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Final

from flute_sync.criteria_evidence import History
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.criterion_errors import CriterionContradicts, CriterionFailed
from flute_sync.eligibility import Biopsy, Eligibility, Ground, Judged, Mri, Result, judge, recorded
from flute_sync.fhir_dates import Interval, date_time, effective
from flute_sync.fhirpath import Expression, plain
from flute_sync.link_settings import LinkSettings
from flute_sync.own_criterion import OwnCriterion
from flute_sync.prostate import Prostate

Resource = Mapping[str, Any]
_WORD: Final = re.compile(r"%`(\w+)`")
_SAID: Final = {
    Ground.BY_INCLUDED: "the expression `included` holds",
    Ground.BY_EXCLUDED: "the expression `excluded` holds",
    Ground.BY_NEITHER: "neither the expression `included` nor `excluded` holds",
}


class OwnJudge:
    """A criterion that is ready to judge patients.

    Raises
    ------
    CriterionMalformed
        An expression is no FHIRPath.
    CriterionFailed
        One cannot even be evaluated where there is nothing.
    """

    def __init__(self, criterion: OwnCriterion) -> None:
        self.criterion = criterion
        self._steps = {name: _Step(name, text) for name, text in criterion.steps.items()}
        self._asked = {name: _Step(name, text) for name, text in criterion.short.items()}
        nothing = _Bundle((), self._steps)
        for one in self._asked.values():
            nothing.ask(one)

    def __call__(self, history: History, settings: CriteriaSettings, site: LinkSettings) -> Judged:
        """Judge every resource of a patient that the index of the criterion selects.

        The MRIs that are told beside it are those that count for the built-in criterion.

        Raises
        ------
        CriterionFailed, CriterionContradicts
            An expression cannot be evaluated on these data, or both hold.
        """
        resources = history.resources
        chosen = self._named("index", _Bundle(resources.values(), self._steps), history)
        results = []
        for name in chosen:
            seen = (one for at, one in resources.items() if at == name or at not in chosen)
            results.append(self._judged(name, _Bundle(seen, self._steps), history))
        results.sort(key=lambda one: (_order(one.biopsy.day), one.biopsy.name))
        return Judged(tuple(results), judge(history, settings, site).mris)

    def _judged(self, name: str, bundle: "_Bundle", history: History) -> Result:
        included, excluded = (self._holds(one, bundle) for one in ("included", "excluded"))
        if included and excluded:
            raise CriterionContradicts(self.criterion.name)
        verdict, ground = Eligibility.UNKNOWN, Ground.BY_NEITHER
        if included:
            verdict, ground = Eligibility.INCLUDED, Ground.BY_INCLUDED
        elif excluded:
            verdict, ground = Eligibility.EXCLUDED, Ground.BY_EXCLUDED
        resource = history.resources[name]
        birth = date_time(history.person.get("birthDate"))
        biopsy = Biopsy(name, _day(resource, birth), "performedAge" in resource)
        study = self._study(bundle, history) if "study" in self._asked else None
        return Result(history.patient, biopsy, verdict, ground, _SAID[ground], study)

    def _study(self, bundle: "_Bundle", history: History) -> Mri | None:
        """Return the last of the studies that the criterion says decided."""
        found = [
            Mri(name, Prostate.POSSIBLE, recorded(history.resources[name].get("started")))
            for name in self._named("study", bundle, history)
        ]
        return max(found, key=lambda one: (_order(one.day), one.name), default=None)

    def _named(self, expression: str, bundle: "_Bundle", history: History) -> list[str]:
        names = {id(one): name for name, one in history.resources.items()}
        found = [names.get(id(one)) for one in bundle.ask(self._asked[expression])]
        if None in found:
            raise CriterionFailed(f"`{expression}` selects something else than resources")
        return [one for one in dict.fromkeys(found) if one is not None]

    def _holds(self, expression: str, bundle: "_Bundle") -> bool:
        found = bundle.ask(self._asked[expression])
        if found not in ([], [True], [False]):
            raise CriterionFailed(f"`{expression}` is not boolean")
        return found == [True]


class _Step:
    """An expression, and the names that it uses."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.names = frozenset(_WORD.findall(text))
        self.expression = Expression(name, text)


class _Bundle:
    """What expressions are evaluated on; the value of a step is found once, when it is needed."""

    def __init__(self, resources: Iterable[Resource], steps: Mapping[str, _Step]) -> None:
        entries = [{"resource": one} for one in resources]
        self._bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
        self._steps = steps
        self._values: dict[str, list[Any]] = {}

    def ask(self, asked: _Step) -> list[Any]:
        return plain(self._evaluate(asked))

    def _evaluate(self, asked: _Step) -> list[Any]:
        for name in asked.names & self._steps.keys() - self._values.keys():
            self._values[name] = self._evaluate(self._steps[name])
        return asked.expression(self._bundle, self._values)


def _day(resource: Resource, birth: Interval | None) -> Interval | None:
    for name in ("started", "performedDateTime"):
        if name in resource:
            return recorded(resource[name])
    return effective(resource, birth)


def _order(day: Interval | None) -> tuple[date, date]:
    return (day.low, day.high) if day else (date.max, date.max)
