"""The JSON of import and reconcile is documented as it is."""

import re
from pathlib import Path
from typing import Any

import orjson

from flute_sync.console.verbs import import_studies, reconcile
from flute_sync.daemon.importing import Plan, Report
from flute_sync.daemon.reconciling import Result
from flute_sync.daemon.tally import Tally
from flute_sync.reconciliation import Finding, Kind
from flute_sync.sources.listing import Choice
from flute_sync.study import StudyInstanceUID

COMMANDS = (Path(__file__).parents[2] / "docs/commands.md").read_text(encoding="utf-8")


def section(verb: str) -> str:
    return COMMANDS.partition(f"\n## {verb}\n")[2].partition("\n## ")[0]


def example(verb: str) -> Any:
    (shown,) = re.findall(r"```json\n(.*?)```", section(verb), re.DOTALL)
    return orjson.loads(shown)


def test_the_example_of_import_has_the_shape() -> None:
    shown = example("import")
    report = Report(Tally(listed=1, written=1), finished=True)
    told = import_studies.as_dict(report, Plan(Choice(), ("pacs",)))
    assert list(shown) == list(told)
    settled = shown["written"] + shown["unchanged"] + shown["out_of_scope"]
    held = sum(shown["on_hold"].values()) + sum(shown["failed"].values())
    assert settled + held == shown["listed"]


def test_the_example_of_reconcile_has_the_shape() -> None:
    shown = example("reconcile")
    result = Result(compared=1)
    result.tell(Finding(Kind.MISSING, StudyInstanceUID("1.2.3")), mended=True)
    told = orjson.loads(
        orjson.dumps(reconcile.as_dict(result, ("pacs",), finished=True, repair=True))
    )
    assert list(shown) == list(told)
    assert list(shown["found"]) == list(shown["mended"]) == list(told["found"])
    assert list(shown["findings"][0]) == list(told["findings"][0])
    assert told["remaining"] == 0


def test_every_finding_is_documented() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", section("reconcile"), re.MULTILINE)
    assert sorted(rows) == sorted(kind.value for kind in Kind)


def test_only_what_can_be_told_is_listed() -> None:
    result = Result()
    for number in range(12_000):
        result.tell(Finding(Kind.MISSING, StudyInstanceUID(f"1.{number}")), mended=None)
    result.tell(Finding(Kind.ON_HOLD, StudyInstanceUID("2")), mended=None)
    assert (len(result.told), result.omitted, result.remaining) == (10_000, 2_001, 12_000)
