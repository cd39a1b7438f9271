"""What is sent on must not come back: success would be said of what nobody holds."""

from typing import Any

import pytest
from pydantic import ValidationError

from flute_sync.daemon.config import Config
from flute_sync.fhir.client import FhirSettings

HERE = {"dicomweb_url": "http://127.0.0.1:8104/dicom-web"}
ELSEWHERE = {"dicomweb_url": "http://127.0.0.1:8042/dicom-web"}
STOW: dict[str, Any] = {"stow_rs": {"enabled": True, "mode": "forward"}}
STORE: dict[str, Any] = {
    "store_scp": {"enabled": True, "mode": "forward"},
    "stow_rs": {"mode": "index"},
}
PACS = {"pacs": {"host": "pacs.example", "ae_title": "PACS"}}


def config(**sections: Any) -> Config:
    return Config.model_validate({"fhir": FhirSettings(base_url="http://fhir.example"), **sections})


@pytest.mark.parametrize("sections", [STOW, STORE])
def test_an_archive_that_is_this_service_is_refused(sections: dict[str, Any]) -> None:
    assert config(archive=ELSEWHERE, **sections)
    with pytest.raises(ValidationError, match=r"the address of \[stow_rs\] itself"):
        config(archive=HERE, **sections)


def test_what_goes_on_by_c_store_does_not_come_back_by_stow() -> None:
    assert config(archive=HERE, **{**STORE, "store_scp": {**STORE["store_scp"], **PACS}})


def test_of_several_archives_the_one_behind_counts() -> None:
    archives = [{"name": "a", **ELSEWHERE}, {"name": "b", **HERE}]
    assert config(archives=archives, **STORE)
    behind = {**STORE["store_scp"], "archive": "b"}
    with pytest.raises(ValidationError, match="itself"):
        config(archives=archives, **{**STORE, "store_scp": behind})
