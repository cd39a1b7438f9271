"""What `pseudonym` and `convert` write where FHIR holds pseudonyms."""

import json
from pathlib import Path

import click.testing
import pytest

from flute_sync.command_errors import InputMalformed, InputUnreadable
from flute_sync.console.cli import cli
from flute_sync.pseudonym import Kind, PseudonymKey, ShiftRule
from flute_sync.sandbox.studies import SyntheticPatient, part10, prostate_mpmri
from flute_sync.settings_errors import ConfigurationError
from tests.acceptance.site import toml

KEY = PseudonymKey(b"a key of the site's own, long enough to be one")
SYSTEM = "urn:oid:1.2.3"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    key = tmp_path / "pseudonym.key"
    key.write_bytes(KEY.secret)
    key.chmod(0o400)
    hidden = {"mode": "hmac", "key_file": str(key), "system": "urn:test:pseudonyms"}
    return written(tmp_path, hidden | {"dates": "shifted-here", "sources": "identified"})


def written(folder: Path, pseudonyms: dict[str, str]) -> Path:
    file = folder / "site.toml"
    sections = {
        "fhir": {"base_url": "http://fhir.example/r4"},
        "site": {"timezone": "Europe/Rome"},
        "patient": {"default_system": SYSTEM, "systems": {"SANDBOX": SYSTEM}},
        "pseudonyms": pseudonyms,
    }
    file.write_text(toml(sections))
    return file


def run(config: Path, *arguments: str, said: str | bytes = "") -> click.testing.Result:
    return click.testing.CliRunner().invoke(
        cli, [*arguments, "--config", str(config)], input=said, standalone_mode=False
    )


def test_each_line_has_its_pseudonym_and_its_days(config: Path) -> None:
    done = run(config, "pseudonym", said="\ufeff0042  \r\n\n P,7\n0042")
    named = {one: KEY.pseudonym(Kind.PATIENT, SYSTEM, one) for one in ("0042", "P,7")}
    days = {one: ShiftRule(364).days(KEY, named[one]) for one in named}
    first = f"0042,{named['0042']},{days['0042']}"
    assert done.stdout.splitlines() == [
        "id,pseudonym,shift_days",
        first,
        f'"P,7",{named["P,7"]},{days["P,7"]}',
        first,
    ]


def test_other_kinds_have_no_days_and_a_system_of_their_own(config: Path) -> None:
    done = run(config, "pseudonym", "--kind", "accession", "--json", said="A1")
    assert json.loads(done.stdout) == {
        "key_id": KEY.id,
        "kind": "accession",
        "system": "",
        "pseudonyms": [
            {"id": "A1", "pseudonym": KEY.pseudonym(Kind.ACCESSION, "", "A1"), "shift_days": None}
        ],
    }


@pytest.mark.parametrize(
    ("said", "error"), [("1\na\tb\n", InputMalformed), (b"1\n\xff\n", InputUnreadable)]
)
def test_what_is_no_identifier_is_named_by_its_line(
    config: Path, said: str | bytes, error: type[Exception]
) -> None:
    done = run(config, "pseudonym", said=said)
    assert isinstance(done.exception, error)
    assert "line 2" in str(done.exception)


def test_without_pseudonyms_there_are_none(tmp_path: Path) -> None:
    done = run(written(tmp_path, {}), "pseudonym", said="0042")
    assert isinstance(done.exception, ConfigurationError)


def test_files_are_converted_as_the_service_would_say_them(config: Path, tmp_path: Path) -> None:
    who = SyntheticPatient(patient_id="0042")
    dataset = next(prostate_mpmri(who, slices=1, size=16))
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "one.dcm").write_bytes(part10(dataset))
    done = run(config, "convert", str(folder))
    resource = json.loads(done.stdout)
    named = KEY.pseudonym(Kind.PATIENT, SYSTEM, "0042")
    assert resource["subject"]["identifier"] == {"system": "urn:test:pseudonyms", "value": named}
    assert "0042" not in done.stdout
    assert str(dataset.AccessionNumber) not in done.stdout
    assert "description" not in resource
    assert not resource["started"].startswith("2024-03-01")
    dataset.PatientIdentityRemoved = "YES"
    (folder / "one.dcm").write_bytes(part10(dataset))
    refused = json.loads(run(config, "convert", str(folder), "--json").stdout)["refused"]
    assert [one["code"] for one in refused] == ["PATIENT-PSEUDONYMISED"]
