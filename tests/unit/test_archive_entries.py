"""By which service an archive is read, from what the settings say of it."""

from typing import Any

import pytest

from flute_sync.daemon.config import Config

ADDRESS = "http://pacs.example/dicom-web"
POLLED = {"enabled": True}


@pytest.mark.parametrize(
    ("settings", "by_find"),
    [
        ({"find_scu": POLLED}, True),
        ({"find_scu": POLLED, "archive": {"name": "ris"}}, True),
        ({"find_scu": POLLED, "archive": {"public_url": ADDRESS}}, True),
        ({"archives": [{"name": "ris", "find_scu": POLLED}, {"name": "b"}]}, True),
        ({"find_scu": POLLED, "archive": {"dicomweb_url": ADDRESS}}, False),
        ({"find_scu": POLLED, "archive": {"metadata": "wado-rs"}}, False),
        ({"find_scu": POLLED, "qido_rs": POLLED}, False),
        ({"find_scu": POLLED, "orthanc_changes": POLLED}, False),
        ({"find_scu": {"port": 104}}, False),
        ({"archive": {"metadata": "c-find", "dicomweb_url": ADDRESS}}, True),
    ],
    ids=str,
)
def test_what_is_known_for_c_find_alone_is_read_by_it(
    settings: dict[str, Any], *, by_find: bool
) -> None:
    config = Config(**{"fhir": {"base_url": "http://fhir.example/fhir"}, **settings})
    assert config.every_archive[0].is_read_by_find is by_find
