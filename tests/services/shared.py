"""One server for all workers of a test run: the first that needs it starts it, for all."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar


class Service(Protocol):
    """What can be shared: a server that is found by its port alone."""

    port: int

    def start(self) -> None: ...

    def stop(self) -> None: ...


S = TypeVar("S", bound=Service)


@contextlib.contextmanager
def shared(folder: Path, make: Callable[[], S]) -> Iterator[S]:
    """Give a running server, which lives until its last user is done with it.

    Parameters
    ----------
    folder
        The same for all workers, and for this server only.
    make
        Describes the server; it is started only where no other worker has done so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "users").open("w") as users:
        with _locked(folder / "turn"):
            service, ours = _join(folder / "address", make)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield service
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            if ours:
                _stop_after_the_last_user(folder, service)


def _join(address: Path, make: Callable[[], S]) -> tuple[S, bool]:
    service = make()
    if address.exists():
        starter, port = map(int, address.read_text().split())
        if Path(f"/proc/{starter}").exists():
            service.port = port
            return service, False
    service.start()
    address.write_text(f"{os.getpid()} {service.port}")
    return service, True


def _stop_after_the_last_user(folder: Path, service: Service) -> None:
    while True:
        with _locked(folder / "turn"), (folder / "users").open("w") as users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                (folder / "address").unlink()
                service.stop()
                return
        time.sleep(0.1)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
