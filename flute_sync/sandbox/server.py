"""Both sandbox servers in one thread, on loopback ports."""

import asyncio
import contextlib
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import uvicorn
from starlette.types import ASGIApp

from flute_sync.sandbox.archive.app import archive_app
from flute_sync.sandbox.archive.store import Store
from flute_sync.sandbox.archive.web import ROOT
from flute_sync.sandbox.fhir_server.app import ROOT as FHIR_ROOT
from flute_sync.sandbox.fhir_server.app import fhir_app
from flute_sync.sandbox.fhir_server.store import ResourceStore
from flute_sync.settings_errors import ListenerUnavailable

_GRACE_SECONDS: Final = 2


class Sandbox:
    """An archive and a FHIR R4 server for demo and tests; also a context manager.

    Parameters
    ----------
    folder
        Where both keep their data; a later Sandbox on the same folder finds it again.
    host
        The address to listen on; the sandbox has no authentication, so keep it loopback.
    archive_port
        The archive's port, 0 for any that is free.
    fhir_port
        The FHIR server's port, 0 for any that is free.
    stale_status
        What the FHIR server answers to a stale If-Match: 409 as HAPI does, 412 as FHIR says.
    expunge
        Whether the FHIR server removes versions for good on request.
    """

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        archive_port: int = 0,
        fhir_port: int = 0,
        stale_status: int = 409,
        expunge: bool = True,
    ) -> None:
        self._stale_status = stale_status
        self._expunge = expunge
        self._folder = folder
        self._host = host
        self._ports = {"archive": archive_port, "fhir": fhir_port}
        self._open = contextlib.ExitStack()
        self._servers: list[uvicorn.Server] = []
        self._thread: threading.Thread | None = None

    @property
    def archive_url(self) -> str:
        """The archive's base address, of its Orthanc-like native interface."""
        return f"http://{self._host}:{self._ports['archive']}"

    @property
    def dicomweb_url(self) -> str:
        """The archive's DICOMweb base address."""
        return self.archive_url + ROOT

    @property
    def fhir_url(self) -> str:
        """The FHIR server's base address."""
        return f"http://{self._host}:{self._ports['fhir']}{FHIR_ROOT}"

    def start(self) -> Self:
        """Listen and serve; from now on clients are answered.

        After ``stop``, start again on the same ports with the same data.

        Raises
        ------
        ListenerUnavailable
            When a port cannot be taken.
        """
        store = Store(self._folder / "archive")
        self._open.callback(store.close)
        resources = ResourceStore(str(self._folder / "fhir.db"))
        self._open.callback(resources.close)
        apps = {
            "archive": archive_app(store),
            "fhir": fhir_app(resources, self._stale_status, expunge=self._expunge),
        }
        listeners = {name: self._listen(name) for name in apps}
        self._servers = [_server(app) for app in apps.values()]
        self._thread = threading.Thread(
            target=asyncio.run,
            args=(_serve(self._servers, list(listeners.values())),),
            name="sandbox",
            daemon=True,
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """End what is being answered, close ports and files; again: nothing."""
        for server in self._servers:
            server.should_exit = True
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._servers = []
        self._open.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _listen(self, name: str) -> socket.socket:
        # asyncio sets TCP_NODELAY only where the protocol is named: 40 ms an answer otherwise
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._open.callback(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._ports[name]))
        except OSError as error:
            self._open.close()
            raise ListenerUnavailable(f"{self._host}:{self._ports[name]}") from error
        listener.listen(128)  # connections wait here from now on, so `start` need not
        self._ports[name] = listener.getsockname()[1]
        return listener


def _server(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        access_log=False,  # paths and queries hold identifiers
        lifespan="off",
        log_config=None,
        log_level="error",
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return uvicorn.Server(config)


async def _serve(servers: list[uvicorn.Server], listeners: list[socket.socket]) -> None:
    pairs = zip(servers, listeners, strict=True)
    await asyncio.gather(*(server.serve(sockets=[listener]) for server, listener in pairs))
