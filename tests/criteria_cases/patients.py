"""The cases of the criterion, patient by patient, as any engine takes them: a Bundle of each.

Whose a resource is, and which of its versions counts, is found as `flute-sync criteria` finds it.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from flute_sync.criteria_evidence import History, history, piece
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.eligibility import judge
from flute_sync.exports.loading import load
from flute_sync.exports.spool import Spool, history_of
from flute_sync.link_settings import LinkSettings
from tests.criteria_cases import FILE
from tests.histories import DCM, SNOMED_CT, Resource, biopsy, patient, study

WHOLE = frozenset({"Patient", "ImagingStudy", "Procedure"})


@dataclass(frozen=True)
class CasePatient:
    """A patient of a case, and the verdict on each of his biopsies."""

    case: str
    settings: CriteriaSettings
    history: History
    expected: dict[str, str]

    @property
    def bundle(self) -> dict[str, Any]:
        """All that is known of him."""
        entries = [{"resource": one} for one in self.history.resources.values()]
        return {"resourceType": "Bundle", "type": "collection", "entry": entries}


HOURS = ("07", "08:30", "09", "10:15", "11")
SITES: tuple[dict[str, str], ...] = (
    {},
    {"code": "41216001"},
    *(
        {"system": SNOMED_CT, "code": code}
        for code in ("41216001", "716891004", "816092008", "72696002", "1")
    ),
    {"system": SNOMED_CT, "display": "Knee"},
    {"system": SNOMED_CT, "code": "72696002", "display": "Base of prostate"},
    {"display": "Pr\u00d3STATA"},
    {"display": "pro\u0301stata"},
    {"display": "Abdomen/Pelvis"},
    {"display": "right knee"},
    {"display": "Knee"},
    *(
        {"system": "urn:local", "code": code}
        for code in ("PROSTATE", "knee", "WHOLE-BODY", "Pelvis", "X", "T-92000", "RID343")
    ),
    {"system": "urn:local", "code": "X", "display": "KNEE"},
    {"system": "urn:local", "code": "PELVIS", "display": "KNEE"},
    {"system": "urn:local", "code": "KNEE", "display": "PELVIS"},
    {"system": "urn:local", "code": "--", "display": "||"},
)


def more_patients(procedure: str | None = None) -> Iterator[CasePatient]:
    """Yield patients whose verdict is what our evaluator says: body sites, hours and ages."""
    for settings, resources, name in _more(procedure):
        found = [piece(one, whole=WHOLE) for one in (patient("2000-02-29"), *resources)]
        known = history("Patient/p1", [one for one in found if one is not None])
        results = judge(known, settings, LinkSettings()).results
        expected = {one.biopsy.name: one.verdict.value for one in results}
        yield CasePatient(f"more: {name}", settings, known, expected)


def _more(procedure: str | None) -> Iterator[tuple[CriteriaSettings, list[Resource], str]]:
    after, day = biopsy("b", "2024-06-10"), "2024-06-10"
    coded = {"coding": [{"system": "urn:x", "code": procedure or "other"}]}
    pairs = [*product(SITES, [None]), *product(SITES[::3], [SITES[5]])]
    for at, sites in enumerate(pairs):
        series = [
            {"uid": f"1.2.{n}", "modality": {"system": DCM, "code": kind}, "bodySite": site}
            for n, (kind, site) in enumerate(zip(("MR", "SR"), sites, strict=True))
            if site is not None
        ]
        scan = study("m", "2024-05-01", series=series)
        yield CriteriaSettings(), [scan, after], f"site {at} {sites}"
        if at % 4 == 0:
            yield CriteriaSettings(prostate="certain"), [scan, after], f"certain, site {at}"
    tagged = {"tag": [{"code": "date-untrusted"}]}
    for started in ("2024-05-01", "2022-05-01", "2024-06"):
        scan = study("m", started, site=None, procedureCode=[coded], meta=tagged)
        yield CriteriaSettings(), [scan, after], f"procedure {started}"
    lasting = (("08", "10"), ("10", "08"), ("09", "09"))
    for same_day, scanned, (start, end) in product(("unknown", "include"), HOURS, lasting):
        hours = [f"{day}T{one}{'' if ':' in one else ':00'}:00Z" for one in (scanned, start, end)]
        resources = [study("m", hours[0]), biopsy("b", {"start": hours[1], "end": hours[2]})]
        settings = CriteriaSettings(same_day=same_day)
        yield settings, resources, f"{same_day} {scanned} in {start} to {end}"
    for years, started in product((1, 23, 24), ("2001-02-27", "2023-02-28", "2023-03-01",
                                              "2024-02-28", "2024-02-29", "2025-02-27",
                                              "2025-02-28", "2026-03-01", "2024")):  # fmt: skip
        yield CriteriaSettings(), [study("m", started), biopsy("b", years)], f"{years} in {started}"
    for started in ("2023-02-29", "2024-02-30", "2024-06-31", "2024-04-31T10:00:00Z", "2023-02-28",
                    "2024-06-10T24:00:00Z", "2024-06-09Tx", "24", "0000", "9999"):  # fmt: skip
        yield CriteriaSettings(), [study("m", started), after], f"date {started}"
        yield CriteriaSettings(), [study("m", "2024-06-01"), biopsy("b", started)], f"by {started}"


def patients() -> Iterator[CasePatient]:
    """Yield the patients of all cases."""
    cases = json.loads(FILE.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "case.json"
        for case in cases:
            file.write_text(json.dumps(case["bundle"]), encoding="utf-8")
            settings = CriteriaSettings(**case["settings"])
            expected = {one["biopsy"]: one["verdict"] for one in case["expected"]}
            with Spool() as spool:
                load(file, spool, lambda _done, _all_of: None, whole=WHOLE)
                for person in spool.people(None):
                    known = history_of(person)
                    own = {name: expected[name] for name in expected if name in known.procedures}
                    yield CasePatient(case["name"], settings, known, own)
