"""How ``[webhook]`` goes with the rest of a site's settings."""

from typing import Any

import pytest
from pydantic import ValidationError

from flute_sync.daemon.config import Config

TOKEN = "/etc/flute-sync/token"


def config(**sections: Any) -> Config:
    return Config.model_validate({"fhir": {"base_url": "http://localhost:8080/fhir"}, **sections})


def test_a_webhook_alone_is_a_source_and_has_an_archive_to_ask() -> None:
    with pytest.raises(ValidationError, match="no source is enabled"):
        config(stow_rs={"enabled": False})
    alone = config(stow_rs={"enabled": False}, webhook={"enabled": True, "token_file": TOKEN})
    assert [entry.name for entry in alone.every_archive] == ["pacs"]
    indexing = config(stow_rs={"mode": "index"}, webhook={"enabled": True, "token_file": TOKEN})
    assert len(indexing.every_archive) == 1


def test_the_address_is_its_own() -> None:
    with pytest.raises(ValidationError, match=r"stow_rs\.port and console.port are the same"):
        config(
            stow_rs={"enabled": False, "port": 8105},
            webhook={"enabled": True, "token_file": TOKEN},
        )
    for path in ("/dicom-web/studies", "/dicom-web/studies/1.2.3"):
        with pytest.raises(ValidationError, match=r"webhook\.path"):
            config(webhook={"enabled": True, "token_file": TOKEN, "path": path})
    assert config(stow_rs={"path": "/"}).webhook.path == "/notify/study"


def test_the_token_is_a_file_and_never_said() -> None:
    with pytest.raises(ValidationError, match="token_file") as refused:
        config(webhook={"enabled": True, "token_file": "hunter2"})
    assert "hunter2" not in str(refused.value)
