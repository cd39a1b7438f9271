"""How systemd sees the service: notifications, and the unit file."""

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.site import Site, eventually

UNIT = Path(__file__).parents[2] / "systemd" / "flute-sync.service"


def test_it_tells_systemd_how_it_is(sandbox_site: Site, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        said: list[str] = []

        def hear(word: str) -> bool:
            while not any(word in message for message in said):
                said.append(manager.recv(4096).decode())
            return True

        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        sandbox_site.start(environment=environment)
        assert hear("READY=1")
        assert hear("WATCHDOG=1")
        assert hear("STATUS=Studies: none.")
        said.clear()
        sandbox_site.signal(signal.SIGHUP)
        assert hear("RELOADING=1")
        assert hear("READY=1")
        sandbox_site.signal(signal.SIGTERM)
        assert hear("STOPPING=1")
        eventually(sandbox_site.ended)


@pytest.mark.usefixtures("systemd")
def test_the_unit_is_clean_and_closed() -> None:
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(UNIT)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout
