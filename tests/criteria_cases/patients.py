"""The cases of the criterion, patient by patient, as any engine takes them: a Bundle of each.

Whose a resource is, and which of its versions counts, is found as `flute-sync criteria` finds it.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flute_sync.criteria_evidence import History
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.exports.loading import load
from flute_sync.exports.spool import Spool, history_of
from tests.criteria_cases import FILE

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
                    history = history_of(person)
                    own = {name: expected[name] for name in expected if name in history.procedures}
                    yield CasePatient(case["name"], settings, history, own)
