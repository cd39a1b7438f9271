"""Who receives in the bench of C-STORE, each a process: ``python -m bench.store_parties ...``."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

from bench.parties import Party, listens
from flute_sync.completeness import StudySettings
from flute_sync.ledger import Ledger, LedgerSettings
from flute_sync.sources.dimse_acceptor import Acceptor
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.store_index import IndexSink
from flute_sync.sources.store_settings import StoreScpSettings
from tests.acceptance.site import eventually, free_port

OURS: Final = ("lean", "memory", "pynetdicom")
"""memory: the lean path with a ledger that waits for no disk, to tell the one from the other."""
AE_TITLE: Final = "BENCH"


def serve(kind: str, port: int, folder: Path) -> None:
    """Be one of the parties until told to stop."""
    if kind == "nothing":
        _serve_nothing(port)
        return
    data_path = "pynetdicom" if kind == "pynetdicom" else "lean"
    settings: dict[str, Any] = {"port": port, "ae_title": AE_TITLE, "data_path": data_path}
    url = f"sqlite:///{folder / kind}.db"
    ledger = Ledger.open(LedgerSettings(url=url), StudySettings(), create=True)
    acceptor = Acceptor(StoreScpSettings(**settings), IndexSink(ledger, HeaderReader(), "pacs"))
    acceptor.start()
    signal.sigwait({signal.SIGTERM})
    acceptor.stop(timedelta(seconds=1))
    ledger.close()


def _serve_nothing(port: int) -> None:
    """Be pynetdicom as it comes, which takes everything and looks at nothing."""
    entity = AE(AE_TITLE)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    handlers = [(evt.EVT_C_STORE, lambda _event: 0)]
    entity.start_server(("127.0.0.1", port), evt_handlers=handlers)  # type: ignore[arg-type]


@contextmanager
def party(kind: str, folder: Path) -> Iterator[Party]:
    """Start a party, and stop it."""
    port = free_port()
    here = [sys.executable, "-m", "bench.store_parties", kind, str(port), str(folder)]
    to_disk = folder / "disk"
    to_disk.mkdir(exist_ok=True)
    storescp = ["storescp", "--fork", "+B", "-pdu", "131072", "-od", str(to_disk), str(port)]
    process = subprocess.Popen(
        storescp if kind == "storescp" else here,
        env={**os.environ, "TCP_NODELAY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: listens(port), what=kind)
        yield Party(process.pid, port)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Be a party."""
    parser = argparse.ArgumentParser(description="A party of bench.c_store.")
    parser.add_argument("kind", choices=[*OURS, "nothing"])
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    serve(options.kind, options.port, options.folder)


if __name__ == "__main__":
    main()
