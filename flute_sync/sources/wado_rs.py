"""Retrieving instances and pictures by WADO-RS, as they come: nothing is held in memory.

References
----------
PS3.18 10.4.1.1.1 (instances), 10.4.1.1.3 (rendered), 8.7.3.5 (transfer syntaxes) (2026b)
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final

import httpx

from flute_sync.archive_errors import ArchiveUnavailable
from flute_sync.dicom_errors import HeaderError
from flute_sync.fetch_errors import AnswerMalformed, InstanceTruncated
from flute_sync.intake import Received
from flute_sync.sources.dicom_json import JsonReader
from flute_sync.sources.multipart import (
    MediaType,
    MultipartReader,
    PartEnd,
    PartHead,
    Piece,
    media_type,
)
from flute_sync.sources.peer import Peer, answered
from flute_sync.sources.peer_settings import PeerSettings
from flute_sync.transport.client import download_client
from flute_sync.upload_errors import MultipartError

_RELATED: Final = "multipart/related"
_DICOM: Final = "application/dicom"
_DICOM_JSON: Final = "application/dicom+json"
_AS_STORED: Final = f'{_RELATED}; type="{_DICOM}"; transfer-syntax=*'
_STEP_BYTES: Final = 1 << 20


class WadoRs:
    """One DICOMweb service that images are retrieved from; safe to use from several threads.

    Parameters
    ----------
    settings
        How it is reached, and the credentials that go to ``base_url`` alone.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        settings: PeerSettings,
        base_url: str,
        *,
        name: str = "archive",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_url = base_url
        self.name = name
        self._patience = settings.longest_answer
        self._clock = clock
        self._http = download_client(settings, base_url)
        self._json = Peer(settings, base_url, name=name, accept=_DICOM_JSON)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._json.close()

    def headers(self, path: str) -> Iterator[Received]:
        """Yield what the metadata say of each instance; one that cannot be used is passed over.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized, ArchiveRefused
            As the archive answers.
        """
        reader = JsonReader()
        for attributes in self._json.objects(f"{path}/metadata"):
            with suppress(HeaderError):
                yield reader.received(attributes)

    def instances(self, path: str) -> Generator[Piece, None, None]:
        """Yield the parts of an answer: of each its head, its data and its end.

        Instances come in the transfer syntax in which they are stored.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized, ArchiveRefused
            As the archive answers.
        AnswerMalformed, InstanceTruncated
            It is not multipart, or ends before its end.
        """
        with self._answer(path, _AS_STORED) as (kind, chunks):
            if kind.essence == _DICOM:  # one instance, by a server that does not heed Accept
                yield PartHead({})
                yield from chunks
                yield PartEnd()
                return
            if kind.essence != _RELATED:
                raise AnswerMalformed(f"{self.name}: its answer is not {_RELATED}")
            yield from _parts(kind, chunks)

    @contextmanager
    def picture(self, path: str, essence: str) -> Iterator[Iterator[bytes]]:
        """Give a rendered picture's bytes as they come; raises as `instances`."""
        with self._answer(path, essence) as (kind, chunks):
            if kind.essence != essence:
                raise AnswerMalformed(f"{self.name}: its answer is not {essence}")
            yield chunks

    @contextmanager
    def _answer(self, path: str, accept: str) -> Iterator[tuple[MediaType, Iterator[bytes]]]:
        # Compression costs an archive more than a network: images hardly shrink.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        request = self._http.build_request("GET", self.base_url + path, headers=headers)
        with answered(self._http, request, self.name) as answer:
            kind = media_type(answer.headers.get("content-type", "").encode("latin-1"))
            if kind is None:
                raise AnswerMalformed(f"{self.name}: its answer has no Content-Type")
            yield kind, self._in_time(answer)

    def _in_time(self, answer: httpx.Response) -> Iterator[bytes]:
        """Yield what comes, as long as it comes faster than a trickle."""
        taken, until = 0, self._later(self._patience)
        for chunk in answer.iter_bytes():
            taken += len(chunk)
            if taken >= _STEP_BYTES:
                taken, until = 0, self._later(self._patience)
            elif self._clock() > until:
                raise ArchiveUnavailable(f"{self.name}: its answer does not go on")
            yield chunk

    def _later(self, patience: timedelta) -> float:
        return self._clock() + patience.total_seconds()


def _parts(kind: MediaType, chunks: Iterator[bytes]) -> Iterator[Piece]:
    try:
        reader = MultipartReader(kind.parameters.get("boundary", ""))
        for chunk in chunks:
            yield from reader.feed(chunk)
    except MultipartError as error:
        raise AnswerMalformed(error.detail) from error
    if not reader.ended:
        raise InstanceTruncated("the answer ends before its closing delimiter")
