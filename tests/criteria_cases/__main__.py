"""``python -m tests.criteria_cases`` writes the file of cases anew."""

from tests.criteria_cases import FILE, text

FILE.write_text(text(), encoding="utf-8")
