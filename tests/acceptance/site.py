"""One site under test: the installed program as a process, its settings, its log.

Nothing here reaches into the program: what is asserted is what a hospital would see. Only who waits
for a study looks into its ledger.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import httpx

from tests.services.process import GUARD, free_port

PROGRAM = Path(sys.executable).with_name("flute-sync")
PATIENCE = 120  # seconds; what takes two is given many, since the machine may be busy


def eventually(
    condition: Callable[[], Any],
    *,
    within: float = PATIENCE,
    what: str = "condition",
    every: float = 0.05,
) -> Any:
    """Ask until the answer is truthy; fail after ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within} s")
        time.sleep(every)


def toml(settings: Mapping[str, Any]) -> str:
    """Write settings as TOML; JSON's strings, numbers, booleans and lists are TOML's too."""
    lines = []
    for section, tables in settings.items():
        repeated = isinstance(tables, list)
        for values in tables if repeated else [tables]:
            lines.append(f"[[{section}]]" if repeated else f"[{section}]")
            lines += [f"{name} = {_value(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(name)} = {_value(one)}" for name, one in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value)


class Site:
    """A folder with settings and a ledger, and the daemon when it runs."""

    def __init__(self, folder: Path, fhir_url: str, dicomweb_url: str | None) -> None:
        self.folder = folder
        self.port = free_port()
        self.console_port = free_port()
        self.settings: dict[str, Any] = {
            "site": {"timezone": "Europe/Rome", "system": uuid.uuid4().urn},
            "ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"},
            "fhir": {"base_url": fhir_url},
            "stow_rs": {"port": self.port},
            "study": {"quiet_period": "1s", "longest_wait": "30s"},
            "patient": {"default_system": "urn:oid:1.2.3", "systems": {}},
            "console": {"port": self.console_port},
            "log": {"format": "json"},
        }
        if dicomweb_url is not None:
            self.settings["archive"] = {"dicomweb_url": dicomweb_url}
        self.program = PROGRAM
        self.process: subprocess.Popen[str] | None = None
        self.pid = 0
        self.lines: list[str] = []
        self._reader: threading.Thread | None = None

    @property
    def config(self) -> Path:
        path = self.folder / "site.toml"
        path.write_text(toml(self.settings))
        return path

    @property
    def stow_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    @property
    def console_url(self) -> str:
        return f"http://127.0.0.1:{self.console_port}"

    def start(
        self, *, within: float = PATIENCE, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start ``flute-sync run`` and wait until it says that it can take work."""
        self.launch(environment)
        eventually(
            lambda: self.logged("daemon.ready") or self.ended(), within=within, what="daemon.ready"
        )
        assert not self.ended(), "\n".join(self.lines)

    def launch(self, environment: Mapping[str, str] | None = None) -> None:
        """Start ``flute-sync run`` without waiting; it ends with this process at the latest."""
        self.close()
        self.lines = []
        program = [str(self.program), "run", "--config", str(self.config)]
        self.process = subprocess.Popen(
            [sys.executable, "-S", str(GUARD), *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.pid = int(self.process.stdout.readline())
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,))
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        self.lines.extend(iter(stream.readline, ""))

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the log's records of one event."""
        records = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [record for record in records if record["event"] == event]

    def signal(self, number: int) -> None:
        assert not self.ended(), "\n".join(self.lines)
        os.kill(self.pid, number)

    def stop(self, *, within: float = PATIENCE) -> int:
        """End the daemon by SIGTERM and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(within=within)

    def kill(self) -> None:
        """End the daemon as a power cut would."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, *, within: float = PATIENCE) -> int:
        """Wait until the daemon ended; its exit code, or the signal that ended it, negative."""
        assert self.process is not None
        assert self._reader is not None
        code = self.process.wait(within)
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        self.process = None
        return code if code < 128 else code - 256

    def close(self) -> None:
        """End the daemon where it still runs; leave nothing of it behind."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def ask(self, *arguments: str, code: int = 0) -> Any:
        """Run a verb with ``--json`` and return its answer."""
        done = self.run(*arguments, "--json")
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout)

    def run(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end; `text` is what it reads."""
        return subprocess.run(
            [str(self.program), *arguments, "--config", str(self.config)],
            capture_output=True,
            input=text,
            text=True,
            timeout=240,
            check=False,
        )

    def states(self) -> dict[str, str]:
        """Return the state of each study, as ``study`` tells it, for those who wait for one.

        It is read from the ledger: starting the verb for each look would take most of the time
        that all these tests take.
        """
        address = f"file:{self.folder / 'ledger.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=60)) as ledger:
            return dict(ledger.execute("SELECT study_instance_uid, state FROM study"))

    def state(self, study_instance_uid: str) -> str | None:
        return self.states().get(study_instance_uid)


def multipart(files: list[bytes], boundary: str = "a-boundary") -> bytes:
    """Frame DICOM files as the body of a STOW-RS request."""
    parts = [
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + file + b"\r\n"
        for file in files
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def store(base_url: str, files: list[bytes], **options: Any) -> httpx.Response:
    """Upload DICOM files by STOW-RS."""
    return httpx.post(
        f"{base_url}/studies",
        content=multipart(files),
        headers={
            "Content-Type": 'multipart/related; type="application/dicom"; boundary=a-boundary',
            "Accept": "application/dicom+json",
        },
        timeout=120,
        **options,
    )


@contextlib.contextmanager
def running(site: Site) -> Iterator[Site]:
    """Start a site's daemon and end it with the block."""
    site.start()
    try:
        yield site
    finally:
        site.close()
