"""The other side of the sync bench: a loop that sends the same requests with ready-made bodies."""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import httpx

from bench.sync_ours import study_uid

_HEADERS: Final = frozenset(
    {"accept", "cache-control", "content-type", "if-match", "if-none-exist", "prefer"}
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it is sent; ``creates`` a resource whose id later requests name."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    content: bytes
    creates: bool

    def said_of(self, old: str, new: str) -> "Request":
        """Return the same request with one text exchanged for another."""
        return Request(
            self.method,
            self.url.replace(old, new),
            tuple((name, value.replace(old, new)) for name, value in self.headers),
            self.content.replace(old.encode(), new.encode()),
            self.creates,
        )


class Recorder(httpx.BaseTransport):
    """Sends requests and keeps them."""

    def __init__(self) -> None:
        self._transport = httpx.HTTPTransport()
        self._kept: list[Request] = []
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one."""
        headers = tuple((k, v) for k, v in request.headers.items() if k in _HEADERS)
        kept = Request(
            request.method,
            str(request.url),
            headers,
            request.read(),
            creates="if-none-exist" in request.headers,
        )
        with self._lock:
            self._kept.append(kept)
        return self._transport.handle_request(request)

    def take(self) -> list[Request]:
        """Return what was sent since the last time."""
        kept, self._kept = self._kept, []
        return kept

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


class Bare:
    """Sends what was recorded of one study for others: no ledger, no decision, no JSON.

    Parameters
    ----------
    recorded
        Of each phase, the requests of the study ``model``, whose id on the server is ``model_id``.
    """

    def __init__(
        self, recorded: dict[str, list[Request]], model: int, model_id: str, connections: int
    ) -> None:
        self._recorded = recorded
        self._model, self._model_id = study_uid(model), model_id
        self._connections = connections
        self._ids: dict[int, str] = {}
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.Client(limits=limits, trust_env=False, timeout=300)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def run(self, phase: str, numbers: Iterable[int]) -> float:
        """Send all requests of a phase for these studies; return the seconds."""
        ready = iter([(number, self._made(phase, number)) for number in numbers])
        lock = threading.Lock()
        faults: list[BaseException] = []

        def send_all() -> None:
            try:
                while True:
                    with lock:
                        number, requests = next(ready, (0, None))
                    if requests is None:
                        return
                    self._send(number, requests)
            except (httpx.HTTPError, AssertionError) as fault:
                faults.append(fault)

        threads = [threading.Thread(target=send_all) for _ in range(self._connections)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
        if faults:
            raise faults[0]
        return seconds

    def _made(self, phase: str, number: int) -> list[Request]:
        made = [one.said_of(self._model, study_uid(number)) for one in self._recorded[phase]]
        if number in self._ids:
            for text in ("ImagingStudy/{}", '"id":"{}"'):
                old, new = text.format(self._model_id), text.format(self._ids[number])
                made = [one.said_of(old, new) for one in made]
        return made

    def _send(self, number: int, requests: Sequence[Request]) -> None:
        for one in requests:
            answer = self._http.request(
                one.method, one.url, headers=dict(one.headers), content=one.content
            )
            expected = 201 if one.creates else 200
            assert answer.status_code == expected, f"HTTP {answer.status_code}: {answer.text[:500]}"
            if one.creates:
                self._ids[number] = answer.headers["location"].split("/")[-3]
