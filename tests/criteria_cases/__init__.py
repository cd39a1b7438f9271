"""Cases of the eligibility criterion that every engine is held to, as JSON."""

import json
from pathlib import Path

from tests.criteria_cases.table import CASES

FILE = Path(__file__).with_name("cases.json")


def text() -> str:
    """What the file is to hold."""
    return json.dumps([case.as_dict() for case in CASES], indent=1) + "\n"
