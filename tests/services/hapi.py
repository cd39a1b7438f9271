"""A FHIR R4 server: HAPI's JPA module, built from `fhir-server/`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.fhir_server_build import JVM_OPTIONS, PROFILES, class_archive, jar
from tests.services.process import Process, free_port

START_SECONDS = 240


@dataclass
class Hapi:
    """A server on loopback with the FLUTE profile and its seven target profiles.

    Parameters
    ----------
    directory
        Its log, and with `persistent` its database.
    validate
        Writes with a validation error are answered 422.
    stale_if_match
        409 as HAPI answers, or 412 as FHIR R4 says.
    persistent
        Keep the data over `stop` and `start`: slower than memory.
    jvm_options
        For a bench: the default ones favour a quick start.
    """

    directory: Path
    validate: bool = False
    stale_if_match: int = 409
    persistent: bool = False
    jvm_options: Sequence[str] = JVM_OPTIONS
    port: int = field(default_factory=free_port)
    process: Process | None = None

    @property
    def base_url(self) -> str:
        """The FHIR base address."""
        return f"http://127.0.0.1:{self.port}/fhir"

    def start(self) -> None:
        """Start, on the same port each time, and wait until it answers."""
        log = self.directory / "hapi.log"
        seen = log.stat().st_size if log.exists() else 0
        self.process = Process(self._command(), log)
        ready = re.compile(rb"^READY ", re.MULTILINE)
        self.process.await_ready(
            lambda: ready.search(log.read_bytes()[seen:]) is not None, START_SECONDS
        )

    def stop(self) -> None:
        """End it; without `persistent` its data is gone, and it is not waited for."""
        if self.process is not None:
            end = self.process.stop if self.persistent else self.process.kill
            end()
            self.process = None

    def _command(self) -> list[str]:
        archive = class_archive()
        return [
            "java", *self.jvm_options,
            *([f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []),
            "-jar", str(jar()), f"--port={self.port}", f"--profiles={PROFILES}",
            f"--validate={str(self.validate).lower()}", f"--if-match={self.stale_if_match}",
            *([f"--db={self.directory}"] if self.persistent else []),
        ]  # fmt: skip
