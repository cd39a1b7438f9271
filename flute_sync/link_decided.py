"""What is decided before any rule is asked: links of other systems, and a person's word.

Links that another system wrote stay, whatever we think of them. A person may take a variable from a
study, so that the rules go on without that pair, or give it to one, against the rules of time, of
conformance and of the part of the body; not against the patient or a withdrawn resource.
"""

from collections.abc import Mapping

from flute_sync.fhir_dates import Verdict
from flute_sync.flute_variables import Kind
from flute_sync.link_case import Case, Decision
from flute_sync.link_sheet import Sheet, why_unfit

PERSON = "person"
FOREIGN = "foreign"


def keep_foreign(case: Case, sheets: Mapping[str, Sheet]) -> None:
    """Keep what other systems linked, out of the rules' reach."""
    for uid, reference in sorted(case.foreign):
        sheet = sheets.get(reference)
        if sheet is not None and uid in case.imaging:
            sheet.link(uid, FOREIGN, Verdict.CERTAIN, "another system linked it")
            if sheet.one.kind is Kind.FAMILY_HISTORY and not sheet.gone:
                sheet.done = False
            else:
                sheet.close(FOREIGN, "another system linked it to another study")


def obey(case: Case, sheets: Mapping[str, Sheet]) -> None:
    """Do what people decided; of several decisions on a pair, or on a resource, the last holds."""
    last = {(one.study_instance_uid, one.reference): one for one in case.decisions}
    added: dict[str, Decision] = {}
    for decision in case.decisions:
        uid, reference = decision.study_instance_uid, decision.reference
        sheet = sheets.get(reference)
        if sheet is None or uid not in case.imaging or last[uid, reference] is not decision:
            continue
        if decision.verb == "remove":
            _remove(sheet, uid, decision.why)
        elif sheet.one.kind is Kind.FAMILY_HISTORY:
            _add(case, sheet, decision)
        else:
            added[reference] = decision
    for reference, decision in added.items():
        _add(case, sheets[reference], decision)


def _remove(sheet: Sheet, uid: str, why: str) -> None:
    if uid in sheet.links:
        reason = f"another system linked it, although a person decided against it: {why}"
        sheet.link(uid, FOREIGN, Verdict.CONTRADICTED, reason)
        return
    sheet.only -= {uid}
    sheet.barred |= {uid}
    sheet.refuse(uid, PERSON, Verdict.CONTRADICTED, f"a person decided: {why}")


def _add(case: Case, sheet: Sheet, decision: Decision) -> None:
    uid = decision.study_instance_uid
    why_not = _why_not(case, sheet, uid)
    if why_not is not None:
        reason = f"a person decided: {decision.why}; but {why_not}"
        sheet.refuse(uid, PERSON, Verdict.CONTRADICTED, reason)
        return
    sheet.link(uid, PERSON, Verdict.CERTAIN, f"a person decided: {decision.why}")
    if sheet.one.kind is Kind.FAMILY_HISTORY and not sheet.gone:
        sheet.done = False
    else:
        sheet.close(PERSON, "a person gave it to another study")


def _why_not(case: Case, sheet: Sheet, uid: str) -> str | None:
    unfit = why_unfit(sheet.one, case)
    if unfit is not None:
        return unfit[1]
    if not case.imaging[uid].took_place:
        return case.imaging[uid].why_never
    if sheet.one.kind is not Kind.FAMILY_HISTORY and sheet.links.keys() - {uid}:
        return "another system linked it to another study"
    return None
