"""Studies that reach the PACS another way are noticed: Orthanc's feed, and a QIDO-RS poller."""

import pytest

from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store
from tests.services.hapi import Hapi
from tests.services.orthanc import Orthanc

SOURCES = {
    "orthanc_changes": {"enabled": True, "interval": "500ms"},
    "qido_rs": {"enabled": True, "interval": "1s", "lookback": "P4000D"},
    "sweep": {
        "enabled": True,
        "interval": "1h",
        "lookback": "P1D",
        "sweep": {"enabled": True, "interval": "2s", "rate": 100_000},
    },
}


@pytest.mark.parametrize("source", SOURCES)
def test_what_reaches_the_archive_itself_is_noticed(
    source: str, real_site: Site, hapi: Hapi, orthanc: Orthanc
) -> None:
    upload = Upload()
    create_patient(hapi.base_url, upload.patient)
    real_site.settings["stow_rs"]["enabled"] = False
    section = "qido_rs" if source == "sweep" else source
    real_site.settings[section] = dict(SOURCES[source])
    if source == "orthanc_changes":
        real_site.settings[source]["url"] = orthanc.base_url
    with running(real_site) as site:
        assert store(orthanc.dicomweb_url, upload.files[:5]).status_code == 200
        eventually(lambda: imaging_studies(hapi.base_url, upload.uid), every=0.3)
        assert store(orthanc.dicomweb_url, upload.files).status_code == 200

        def whole() -> bool:
            (found,) = imaging_studies(hapi.base_url, upload.uid)
            return bool(found["numberOfInstances"] == len(upload.files))

        eventually(whole, every=0.3)
        # It is in FHIR before the ledger has it.
        eventually(lambda: site.ask("study", upload.uid)["instances"] == len(upload.files))
