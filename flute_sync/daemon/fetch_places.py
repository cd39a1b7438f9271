"""Where images may be fetched from: addresses that the settings know, with their own credentials.

A FHIR resource, which others may have written, names the address. It decides nothing about
trust: credentials go to the archive that they were given for, and an address that nobody at
this site stated is not even asked, unless that was allowed.
"""

from collections.abc import Iterable
from threading import Lock

from flute_sync.daemon.config import Config
from flute_sync.fetch_errors import EndpointUnknown
from flute_sync.retrieval import service_base
from flute_sync.sources.peer_settings import PeerSettings
from flute_sync.sources.wado_rs import WadoRs


class Places:
    """The DICOMweb services of one run, each opened on its first use; for several threads.

    Parameters
    ----------
    any_endpoint
        Whether addresses that the settings do not know are asked too, without credentials.
    """

    def __init__(self, config: Config, *, any_endpoint: bool = False) -> None:
        self._any = any_endpoint
        self._lock = Lock()
        self._open: dict[str, WadoRs] = {}
        self._known: dict[str, tuple[str, PeerSettings]] = {}
        for address in config.fetch.endpoints:
            self._know(address, "endpoint", PeerSettings())
        for entry in config.every_archive:
            if entry.published_url is not None:
                self._know(entry.published_url, entry.name, entry)
                self._know(entry.dicomweb_url, entry.name, entry)

    def _know(self, address: str, name: str, settings: PeerSettings) -> None:
        base = service_base(address)
        if base is not None:
            self._known[base] = name, settings

    def close(self) -> None:
        """Close the connections."""
        for one in self._open.values():
            one.close()

    def of(self, addresses: Iterable[str]) -> list[WadoRs]:
        """Return the services at these addresses that may be asked.

        Raises
        ------
        EndpointUnknown
            None of them may.
        """
        allowed = [one for one in addresses if self._any or one in self._known]
        if not allowed:
            raise EndpointUnknown(", ".join(addresses))
        with self._lock:
            return [self._opened(one) for one in allowed]

    def _opened(self, address: str) -> WadoRs:
        if address not in self._open:
            name, settings = self._known.get(address, ("endpoint", PeerSettings()))
            self._open[address] = WadoRs(settings, address, name=name)
        return self._open[address]
