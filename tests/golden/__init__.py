"""ImagingStudyFlutes as they must come out, one file a case; read the changes before committing.

They are written anew only by ``python -m tests.golden --write``.
"""

from pathlib import Path

import orjson

from flute_sync.imaging_study import map_study
from tests.studies import golden_cases

FOLDER = Path(__file__).parent


def golden_file(name: str) -> Path:
    """Where the expected resource and remarks of a case are."""
    return FOLDER / f"{name}.json"


def produced(name: str) -> bytes:
    """What the mapping makes of a case today."""
    study, context, settings = golden_cases()[name]
    mapped = map_study(study, context, settings)
    remarks = [f"{one.code} {one.tag} x{one.count}" for one in mapped.remarks]
    found = {"remarks": remarks, "resource": mapped.resource}
    return orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
