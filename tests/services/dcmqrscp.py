"""An archive that speaks DIMSE alone: dcmqrscp of dcmtk."""

import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.dcmtk import dcmtk
from tests.services.process import Process, ServiceFailedError, free_port

START_SECONDS = 120

CONFIGURATION = """\
NetworkTCPPort  = {port}
MaxPDUSize      = 16384
MaxAssociations = 16
HostTable BEGIN
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
{aet} {storage} RW (2000, 1024mb) ANY
AETable END
"""


@dataclass
class Dcmqrscp:
    """A dcmqrscp on loopback with its own storage.

    Parameters
    ----------
    directory
        Its storage, configuration and log.
    options
        Further options, such as TLS.
    """

    directory: Path
    aet: str = "DCMQRSCP"
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: Process | None = None

    def start(self) -> None:
        """Start, on the same port and storage each time, and wait until it answers."""
        storage = self.directory / "storage"
        storage.mkdir(exist_ok=True)
        configuration = self.directory / "dcmqrscp.cfg"
        configuration.write_text(
            CONFIGURATION.format(port=self.port, aet=self.aet, storage=storage)
        )
        command = ["dcmqrscp", *self.options, "--config", str(configuration)]
        self.process = Process(
            command, self.directory / "dcmqrscp.log", environment={"TCP_NODELAY": "1"}
        )
        self.process.await_ready(self._answers, START_SECONDS)

    def stop(self) -> None:
        """End it; what it stored stays."""
        if self.process is not None:
            self.process.stop()
            self.process = None

    def store(self, parts: list[bytes]) -> None:
        """Send it DICOM files.

        Raises
        ------
        ServiceFailedError
            When it does not take them.
        """
        folder = self.directory / "sent"
        folder.mkdir()
        for number, part in enumerate(parts):
            (folder / f"{number}.dcm").write_bytes(part)
        address = ("-aec", self.aet, "127.0.0.1", str(self.port))
        sent = dcmtk("storescu", "--scan-directories", *address, str(folder))
        shutil.rmtree(folder)
        if sent.returncode:
            raise ServiceFailedError(sent.stderr)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        return True
