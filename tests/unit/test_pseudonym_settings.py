"""`[pseudonyms]` with the sections that it changes, as the service reads them."""

from pathlib import Path
from typing import Any

import pytest

from flute_sync.daemon.config import Config, load
from flute_sync.settings_errors import ConfigurationError
from tests.acceptance.site import toml

HMAC = {"mode": "hmac", "key_file": "/etc/key", "system": "urn:test:pseudonyms"}


def config(folder: Path, **sections: Any) -> Config:
    file = folder / "site.toml"
    file.write_text(toml({"fhir": {"base_url": "http://fhir.example/r4"}} | sections))
    return load(file)


@pytest.mark.parametrize(
    ("sections", "label", "text"),
    [
        ({}, "none", True),
        ({"imaging_study": {"deidentification": "pseudonymised"}}, "pseudonymised", False),
        ({"pseudonyms": HMAC}, "pseudonymised", False),
        ({"pseudonyms": HMAC, "imaging_study": {"instances": "none"}}, "pseudonymised", False),
        ({"pseudonyms": {"sources": "pseudonymised"}}, "pseudonymised", False),
        ({"pseudonyms": {"sources": "identified"}}, "none", True),
        ({"pseudonyms": HMAC, "imaging_study": {"free_text": True}}, "pseudonymised", True),
        (
            {"pseudonyms": HMAC, "imaging_study": {"deidentification": "anonymised"}},
            "anonymised",
            False,
        ),
    ],
)
def test_free_text_stays_out_where_fhir_holds_pseudonyms(
    tmp_path: Path, sections: dict[str, Any], label: str, text: bool
) -> None:
    mapping = config(tmp_path, **sections).mapping
    assert (mapping.deidentification, mapping.free_text) == (label, text)


def test_a_study_id_is_in_the_system_of_pseudonyms(tmp_path: Path) -> None:
    said = {"study_id_system": "urn:hospital:study-ids"}
    found = config(tmp_path, pseudonyms=HMAC, imaging_study=said)
    assert found.mapping.study_id_system == "urn:test:pseudonyms"
    assert config(tmp_path, imaging_study=said).mapping.study_id_system == "urn:hospital:study-ids"


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"pseudonyms": {"mode": "hmac", "system": "urn:x:p"}}, "key_file"),
        ({"pseudonyms": {"mode": "hmac", "key_file": "/etc/key"}}, "system"),
        ({"pseudonyms": {"dates": "shifted-here"}}, "shifted-here"),
        ({"pseudonyms": HMAC, "imaging_study": {"referrer": True}}, "imaging_study.referrer"),
        ({"pseudonyms": HMAC, "imaging_study": {"performer": True}}, "imaging_study.performer"),
        ({"pseudonyms": HMAC, "patient": {"default_system": HMAC["system"]}}, "hospital's own"),
        ({"pseudonyms": HMAC, "patient": {"systems": {"A": HMAC["system"]}}}, "hospital's own"),
        ({"pseudonyms": {"largest_shift": 3}}, "largest_shift"),
    ],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, sections: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        config(tmp_path, **sections)
    assert said in raised.value.sentence
