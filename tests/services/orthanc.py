"""An archive: Orthanc with its DICOMweb plugin."""

import base64
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.services.missing import orthanc_plugin
from tests.services.process import Process, free_port

START_SECONDS = 120


@dataclass
class Orthanc:
    """An Orthanc on loopback with its own storage.

    Parameters
    ----------
    directory
        Its storage, configuration and log.
    credentials
        User and password, when it shall ask for them (HTTP Basic).
    overwrite_instances
        Whether a known SOPInstanceUID sent again replaces the stored object.
    stable_age
        How long a study must be quiet before Orthanc calls it stable; whole seconds.
    settings
        Any further Orthanc settings.
    """

    directory: Path
    aet: str = "ORTHANC"
    credentials: tuple[str, str] | None = None
    overwrite_instances: bool = False
    stable_age: timedelta = timedelta(seconds=1)
    settings: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    dicom_port: int = field(default_factory=free_port)
    process: Process | None = None

    @property
    def base_url(self) -> str:
        """The address of Orthanc's own REST interface."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def dicomweb_url(self) -> str:
        """The address of its DICOMweb service."""
        return f"{self.base_url}/dicom-web"

    def start(self) -> None:
        """Start, on the same ports and storage each time, and wait until it answers."""
        configuration = self.directory / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration()))
        # Debian's Orthanc leaves Nagle's algorithm on: 40 ms an instance, and not what is tested.
        self.process = Process(
            ["Orthanc", str(configuration)],
            self.directory / "orthanc.log",
            environment={"TCP_NODELAY": "1"},
        )
        self.process.await_ready(self._answers, START_SECONDS)

    def stop(self) -> None:
        """End it; what it stored stays."""
        if self.process is not None:
            self.process.stop()
            self.process = None

    def kill(self) -> None:
        """End it at once, when nothing of it is wanted any more: `stop` takes seconds."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def _answers(self) -> bool:
        request = urllib.request.Request(f"{self.base_url}/system")
        if self.credentials:
            token = base64.b64encode(":".join(self.credentials).encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(request, timeout=5):
                return True
        except urllib.error.HTTPError:
            raise
        except OSError:
            return False

    def _configuration(self) -> dict[str, Any]:
        storage = str(self.directory / "storage")
        return {
            "Name": self.aet,
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "Plugins": [str(orthanc_plugin("DicomWeb"))],
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": self.credentials is not None,
            "RegisteredUsers": dict([self.credentials]) if self.credentials else {},
            "DicomAet": self.aet,
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowFind": True,
            "StableAge": int(self.stable_age.total_seconds()),
            "OverwriteInstances": self.overwrite_instances,
            "DefaultEncoding": "Utf8",
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **self.settings,
        }
