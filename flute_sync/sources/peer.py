"""Asks a peer for JSON: bounded in size and time, its failures said in our words."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import orjson

from flute_sync.archive_errors import (
    ArchiveAnswerTooLarge,
    ArchiveRefused,
    ArchiveServerError,
    ArchiveUnauthorized,
    ArchiveUnavailable,
)
from flute_sync.auth_errors import TokenRefused, TokenUnavailable
from flute_sync.errors import FluteSyncError
from flute_sync.settings_errors import SecretUnreadable
from flute_sync.sources.json_stream import objects
from flute_sync.sources.peer_settings import PeerSettings
from flute_sync.transport.client import client
from flute_sync.transport.failure import retry_after, what_failed

_UNAUTHORIZED: Final = frozenset({401, 403, 407})
_UNAVAILABLE: Final = frozenset({408, 425, 429, 502, 503})
_UNSUPPORTED: Final = frozenset({501, 505})

Json = dict[str, Any]


class Peer:
    """One server that answers GET with JSON; safe to use from several threads.

    Parameters
    ----------
    name
        How failures name it: the section of the settings.
    accept
        The media type asked for.
    transport
        Replaces the network.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        settings: PeerSettings,
        base_url: str,
        *,
        name: str,
        accept: str,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._base = base_url.rstrip("/")
        self._name = name
        self._accept = accept
        self._clock = clock
        self._http = client(settings, self._base, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def objects(self, path: str) -> Generator[Json, None, None]:
        """Yield the objects of a JSON array as they arrive.

        Parameters
        ----------
        path
            Below the base address, with its query; sent as it is.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError
            Worth another try.
        ArchiveUnauthorized, ArchiveRefused, ArchiveAnswerTooLarge
            Not so.
        """
        with self._answer(path) as chunks:
            yield from objects(chunks, self._settings.max_instance_bytes)

    def value(self, path: str) -> object:
        """Return whatever JSON is answered, whole; raises as `objects`."""
        try:
            return orjson.loads(self.body(path))
        except orjson.JSONDecodeError:
            raise ArchiveServerError(f"{self._name}: its answer is not JSON") from None

    def body(self, path: str) -> bytes:
        """Return whatever is answered, whole; raises as `objects`."""
        with self._answer(path) as chunks:
            return b"".join(chunks)

    def object(self, path: str) -> Json:
        """Return a JSON object; raises as `objects`."""
        found = self.value(path)
        if not isinstance(found, dict):
            raise ArchiveServerError(f"{self._name}: its answer is not a JSON object")
        return found

    @contextmanager
    def _answer(self, path: str) -> Iterator[Iterator[bytes]]:
        request = self._http.build_request(
            "GET", self._base + path, headers={"Accept": self._accept}
        )
        with answered(self._http, request, self._name) as answer:
            yield self._bounded(answer)

    def _bounded(self, answer: httpx.Response) -> Iterator[bytes]:
        taken, until = 0, self._clock() + self._settings.longest_answer.total_seconds()
        for chunk in answer.iter_bytes():
            taken += len(chunk)
            if taken > self._settings.max_answer_bytes:
                raise ArchiveAnswerTooLarge(self._name)
            if self._clock() > until:
                raise ArchiveUnavailable(f"{self._name}: its answer does not end")
            yield chunk


@contextmanager
def answered(http: httpx.Client, request: httpx.Request, name: str) -> Iterator[httpx.Response]:
    """Send a request and give its answer, once it says success; raises as `Peer.objects`.

    What fails while the answer is read is said in the same words.
    """
    try:
        answer = http.send(request, stream=True)
        try:
            if not answer.is_success:
                raise _failure(answer, name)
            yield answer
        finally:
            answer.close()
    except httpx.HTTPError as error:
        raise ArchiveUnavailable(f"{name}: {what_failed(error)}") from error
    except TokenUnavailable as error:
        raise ArchiveUnavailable(f"{name}: {error.sentence}") from error
    except (TokenRefused, SecretUnreadable) as error:
        raise ArchiveUnauthorized(f"{name}: {error.sentence}") from error


def _failure(answer: httpx.Response, name: str) -> FluteSyncError:
    status = answer.status_code
    said = f"{name}: HTTP {status}"
    if status in _UNAUTHORIZED:
        return ArchiveUnauthorized(said)
    if status in _UNAVAILABLE:
        wait = retry_after(answer.headers, datetime.now(UTC))
        return ArchiveUnavailable(said, retry_after=wait)
    if answer.is_redirect:
        return ArchiveRefused(f"{said}, a redirection; set its final address", status=status)
    if answer.is_client_error or status in _UNSUPPORTED:
        return ArchiveRefused(said, status=status)
    return ArchiveServerError(said)
