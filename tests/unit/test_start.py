"""What people type must not load what only others need: that is most of the time of its start."""

import subprocess
import sys

import pytest

LOADED = """
import sys
import click
from flute_sync.console.cli import cli
cli.get_command(click.Context(cli), sys.argv[1])
print(*sys.modules)
"""

DIMSE = {"pydicom", "pynetdicom"}
SIGN_IN = {"authlib", "joserfc"}
MIGRATION = {"alembic", "sqlalchemy.dialects.postgresql"}
TALK = {"httpx", "starlette", "uvicorn", "fhir.resources"}
CRITERIA = {"fhirpathpy", "pyarrow"}
RARE = DIMSE | SIGN_IN | MIGRATION | CRITERIA


@pytest.mark.parametrize(
    ("verb", "spared"),
    [
        ("status", RARE | TALK),
        ("study", RARE | TALK),
        ("link", RARE | TALK),
        ("removals", RARE | TALK),
        ("check", RARE),
        ("run", RARE),
    ],
)
def test_a_verb_loads_only_what_it_uses(verb: str, spared: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, verb], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert f"flute_sync.console.verbs.{verb}" in loaded
    assert sorted(loaded & spared) == []
