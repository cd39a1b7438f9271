"""The judgement of one patient: each rule in its turn, and what is said of every candidate."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final

from flute_sync.fhir_dates import Verdict
from flute_sync.flute_profiles import Rule
from flute_sync.flute_variables import Kind
from flute_sync.link_after import of_biopsy, of_report, place_after, place_outcomes
from flute_sync.link_around import Around, place_around
from flute_sync.link_case import Candidate, Case, Imaging, Link, StudyLinks, newest_of
from flute_sync.link_decided import keep_foreign, obey
from flute_sync.link_place import Dated, Placed, Question
from flute_sync.link_settings import RuleName
from flute_sync.link_sheet import Sheet, sheets
from flute_sync.link_stated import WITH_ITS_STUDY, Named, StatedLinks, contradiction
from flute_sync.prostate import Prostate

_BIOPSY_OF = ("partOf", "basedOn", "derivedFrom")
_NAMED: Final = "explicit"


class Judgement:
    """Judges all candidates for all studies of one patient."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._settings = case.settings
        self._imaging = case.imaging
        self._mris = {mri.uid: mri for mri in case.mris}
        resources = newest_of(case.candidates)
        self._of_kind = sheets(case, resources)
        self._sheets = {
            sheet.one.reference: sheet for of_kind in self._of_kind.values() for sheet in of_kind
        }
        self._stated = StatedLinks(case, resources)
        finders: tuple[tuple[RuleName, Callable[[Candidate], Named]], ...] = (
            (_NAMED, self._stated.explicit),
            ("request", self._stated.by_request),
            ("encounter", self._stated.by_encounter),
        )
        self._finders = [one for one in finders if one[0] in case.settings.rules]
        self._dated_mris = Dated(case.mris)
        # A biopsy took place, and limits what follows, whether or not it meets its profile.
        self._biopsies = Dated(
            sheet.one
            for sheet in self._of_kind[Kind.BIOPSY]
            if sheet.one.is_dated
            and (not sheet.gone or sheet.rule == "conformance")
            and Rule.BODY_SITE not in sheet.one.waived
        )

    def result(self) -> dict[str, StudyLinks]:
        """Judge, and say it for each study."""
        keep_foreign(self._case, self._sheets)
        obey(self._case, self._sheets)
        if self._settings.enabled:
            self._apply_rules()
        return self._of_studies()

    def _apply_rules(self) -> None:
        for sheet in self._sheets.values():
            if not sheet.done and sheet.one.kind is Kind.FAMILY_HISTORY:
                self._to_all(sheet)
            elif not sheet.done:
                self._by_statement(sheet)
        biopsy = of_biopsy(self._settings.biopsy_after_months)
        self._place(Kind.BIOPSY, lambda question: place_after(question, biopsy))
        for sheet in self._open(Kind.OUTCOME):
            self._with_named_biopsy(sheet)
        self._place(Kind.OUTCOME, self._outcomes)
        report = of_report(self._settings.report_after)
        for kind in (Kind.PI_RADS, Kind.VOLUME):
            self._place(kind, lambda question: place_after(question, report))
        psa = Around("psa", self._settings.psa_before, self._settings.psa_after)
        self._place(Kind.PSA, lambda question: place_around(question, psa, self._biopsies))
        dre = Around("dre", self._settings.dre_before, self._settings.dre_after)
        self._place(Kind.DRE, lambda question: place_around(question, dre, self._biopsies))

    def _open(self, kind: Kind) -> list[Sheet]:
        return [sheet for sheet in self._of_kind[kind] if not sheet.done]

    # -- what is stated -------------------------------------------------------------------------

    def _by_statement(self, sheet: Sheet) -> None:
        for rule, find in self._finders:
            stated = find(sheet.one)
            if stated:
                self._follow(sheet, rule, stated)
            if sheet.done or sheet.one.kind not in WITH_ITS_STUDY:
                return

    def _follow(self, sheet: Sheet, rule: str, stated: Named) -> None:
        """Link what is named; of several MRIs, leave it to the next rules to choose one."""
        fit: dict[str, str] = {}
        named = 0
        for uid, words in stated.items():
            if uid in sheet.barred or (rule != _NAMED and uid not in sheet.only):
                continue
            named += 1
            why_not = self._why_unfit(sheet, rule, uid) if uid is not None else None
            if uid is not None and why_not is None:
                fit[uid] = words
            elif uid is not None:
                sheet.refuse(uid, rule, Verdict.CONTRADICTED, f"{words}, but {why_not}")
        if fit:
            self._choose(sheet, rule, fit)
        elif named and rule == _NAMED:
            sheet.close(rule, "it names another study, to which it cannot be linked here")

    def _why_unfit(self, sheet: Sheet, rule: str, uid: str) -> str | None:
        """Say why a study does not fit; dates undo what a request says, not a reference."""
        study = self._imaging[uid]
        if rule == _NAMED or study.why_never is not None:
            return study.why_never
        return contradiction(sheet.one, study, self._settings)

    def _choose(self, sheet: Sheet, rule: str, fit: Mapping[str, str]) -> None:
        mris = frozenset(uid for uid in fit if self._imaging[uid].is_mr)
        if len(mris) > 1:
            self._narrow(sheet, rule, mris)
            return
        for uid, words in fit.items():
            self._state(sheet, self._imaging[uid], rule, words)
        others = " and ".join(self._imaging[uid].words for uid in fit)
        sheet.close(rule, f"it belongs to {others}")

    def _state(self, sheet: Sheet, study: Imaging, rule: str, words: str) -> None:
        against = contradiction(sheet.one, study, self._settings)
        if against is None:
            verdict = Verdict.CERTAIN if rule == _NAMED else _sureness(study)
            sheet.link(study.uid, rule, verdict, words)
        else:
            sheet.link(study.uid, rule, Verdict.CONTRADICTED, f"{words}, although {against}")

    def _narrow(self, sheet: Sheet, rule: str, mris: frozenset[str]) -> None:
        sheet.only &= mris
        if not sheet.only:
            for uid in mris:
                sheet.refuse(uid, rule, Verdict.POSSIBLE, "it names several MRIs, and has one")
            sheet.close(rule, "it names several other MRIs")

    def _with_named_biopsy(self, sheet: Sheet) -> None:
        """Put an ISUP grade where the biopsy is that it names, or whose request it shares."""
        named = self._named_procedures(sheet.one) or self._of_one_request(sheet.one)
        if not named:
            return
        words = " and ".join(sorted(named))
        biopsies = [self._sheets[name] for name in sorted(named) if name in self._sheets]
        homes = {home for biopsy in biopsies if (home := self._home(biopsy)) is not None}
        if len(homes) == 1 and not homes <= sheet.barred:
            home = homes.pop()
            sheet.link(home, "biopsy", self._verdict(sheet, home), f"with its biopsy {words}")
            sheet.close("biopsy", f"it belongs to {self._imaging[home].words}, with its biopsy")
            return
        for uid in homes.union(*(_open_to(biopsy) for biopsy in biopsies)) - sheet.barred:
            reason = f"its biopsy {words} may belong to this MRI"
            sheet.refuse(uid, "biopsy", Verdict.POSSIBLE, reason)
        sheet.close("biopsy", f"the procedure that it names, {words}, belongs to no MRI")

    def _named_procedures(self, one: Candidate) -> set[str]:
        if _NAMED not in self._settings.rules:
            return set()
        return {
            name
            for element in _BIOPSY_OF
            if element in one.resource
            for name in self._case.locals(one.resource[element])
            if name.startswith("Procedure/")
        }

    def _of_one_request(self, one: Candidate) -> set[str]:
        """Return the biopsies of an ISUP grade's request: `basedOn` cannot name a Procedure."""
        if "request" not in self._settings.rules or "basedOn" not in one.resource:
            return set()
        return {
            sheet.one.reference
            for sheet in self._of_kind[Kind.BIOPSY]
            if (sheet.links or not sheet.gone)
            and sheet.one.span.low <= one.span.high
            and self._stated.of_one_request(one, sheet.one)
        }

    def _home(self, biopsy: Sheet) -> str | None:
        """Return the MRI that a biopsy is linked to."""
        homes = [uid for uid in biopsy.links if self._imaging[uid].is_mr]
        return homes[0] if biopsy.one.kind is Kind.BIOPSY and len(homes) == 1 else None

    # -- what the dates say ---------------------------------------------------------------------

    def _to_all(self, sheet: Sheet) -> None:
        rule, mris = "family-history", self._case.mris
        if mris and "time" in self._settings.rules:
            reason = "family history belongs to every MRI of the prostate"
            link = sheet.one.link(rule, _sureness(mris[0]), reason)
            sheet.links = dict.fromkeys(sheet.only, link) | sheet.links
        sheet.close(rule, "family history belongs to MRIs of the prostate")

    def _outcomes(self, question: Question) -> dict[str, Placed]:
        biopsies = self._of_kind[Kind.BIOPSY]
        homes = {
            sheet.one.reference: home
            for sheet in biopsies
            if (home := self._home(sheet)) is not None
        }
        open_to = {sheet.one.reference: _open_to(sheet) for sheet in biopsies}
        limit = self._settings.outcome_after
        return place_outcomes(question.candidates, self._biopsies, homes, open_to, limit)

    def _place(self, kind: Kind, rule: Callable[[Question], dict[str, Placed]]) -> None:
        waiting = self._open(kind)
        if not waiting:
            return
        occupied = frozenset(uid for sheet in self._of_kind[kind] for uid in sheet.links)
        count = len(self._mris)
        narrowed = {one.one.reference: one.only for one in waiting if len(one.only) < count}
        dated = tuple(sheet.one for sheet in waiting if sheet.one.is_dated)
        placed = rule(Question(dated, self._case.mris, self._dated_mris, occupied, narrowed))
        for sheet in waiting:
            place = placed.get(sheet.one.reference)
            if place is None:
                place = Placed("time", "it has no date", None, sheet.only - occupied)
            self._settle(sheet, place)

    def _settle(self, sheet: Sheet, place: Placed) -> None:
        uid = place.study
        if uid is not None and uid in sheet.barred:
            sheet.close(place.rule, place.reason)
        elif uid is not None and "time" in self._settings.rules:
            sheet.link(uid, place.rule, self._verdict(sheet, uid), place.reason)
            sheet.close(place.rule, f"it belongs to {self._imaging[uid].words}")
        elif self._is_sole(sheet, place):
            reason = "the only one of its kind, for the only MRI of the prostate"
            sheet.link(self._case.mris[0].uid, "sole-candidate", Verdict.POSSIBLE, reason)
        else:
            self._leave(sheet, place)

    def _leave(self, sheet: Sheet, place: Placed) -> None:
        """Refuse what no rule places: where dates leave it open, and everywhere else."""
        open_to = place.possible if place.study is None else {place.study}
        for uid in open_to:
            if uid not in sheet.barred:
                sheet.refuse(uid, place.rule, Verdict.POSSIBLE, place.reason)
        if open_to and sheet.one.is_dated:
            sheet.close(place.rule, f"its date {sheet.one.span} does not fit this MRI")
        else:
            sheet.close(place.rule, place.reason)

    def _verdict(self, sheet: Sheet, uid: str) -> Verdict:
        """Say how sure a link by time is: no surer than the MRI, or than the biopsy's own link."""
        if sheet.one.kind is Kind.OUTCOME and uid in self._with_unsure_biopsy:
            return Verdict.POSSIBLE
        return _sureness(self._imaging[uid])

    @cached_property
    def _with_unsure_biopsy(self) -> frozenset[str]:
        """Studies to which a biopsy is linked that may be another's; known when all are placed."""
        return frozenset(
            uid
            for biopsy in self._of_kind[Kind.BIOPSY]
            for uid, link in biopsy.links.items()
            if link.verdict is Verdict.POSSIBLE
        )

    def _is_sole(self, sheet: Sheet, place: Placed) -> bool:
        wanted = self._settings.sole_candidate
        if len(self._mris) != 1 or wanted == "never":
            return False
        if "sole-candidate" not in self._settings.rules:
            return False
        if wanted == "undated" and sheet.one.is_dated and not sheet.one.is_age_dated:
            return False
        open_to = place.possible | {place.study}
        return self._fit[sheet.one.kind] == 1 and self._case.mris[0].uid in open_to

    @cached_property
    def _fit(self) -> Counter[Kind]:
        """How many of each kind may be linked."""
        return Counter(sheet.one.kind for sheet in self._sheets.values() if not sheet.gone)

    # -- writing down ---------------------------------------------------------------------------

    def _of_studies(self) -> dict[str, StudyLinks]:
        """Say for each study what is linked to it, and why every other candidate is not."""
        linked: dict[str, dict[int, Link]] = {uid: {} for uid in self._imaging}
        refused: dict[str, dict[int, Link]] = {uid: {} for uid in self._imaging}
        for index, sheet in enumerate(self._sheets.values()):
            for uid, link in sheet.links.items():
                linked[uid][index] = link
            for uid, link in sheet.refused.items():
                refused[uid][index] = link
        shared: dict[str | None, list[Link]] = {}
        found = {}
        for uid, study in self._imaging.items():
            reason = self._why_not(study)
            if reason not in shared:
                shared[reason] = self._elsewhere(reason)
            rest = shared[reason].copy()
            for index, link in refused[uid].items():
                rest[index] = link
            for index in reversed(linked[uid]):
                del rest[index]
            found[uid] = StudyLinks(tuple(linked[uid].values()), tuple(rest))
        return found

    def _elsewhere(self, why_never: str | None) -> list[Link]:
        """Say why candidates are not linked to studies of which nothing else is said."""
        against = Verdict.CONTRADICTED
        return [
            sheet.one.link(sheet.rule, against, sheet.reason)
            if why_never is None or sheet.gone
            else sheet.one.link("study", against, why_never)
            for sheet in self._sheets.values()
        ]

    def _why_not(self, study: Imaging) -> str | None:
        """Say why no rule of time links anything to a study."""
        if study.why_never is not None or study.uid in self._mris:
            return study.why_never
        if not study.is_mr:
            return "this study is no MRI: only a reference or a person can link it"
        return (
            "this MRI does not say that it shows the prostate, and the patient has others: "
            "only a reference or a person can link it"
        )


def _open_to(sheet: Sheet) -> frozenset[str]:
    return frozenset(uid for uid, link in sheet.refused.items() if link.verdict is Verdict.POSSIBLE)


def _sureness(mri: Imaging) -> Verdict:
    return Verdict.CERTAIN if mri.part is Prostate.YES else Verdict.POSSIBLE
