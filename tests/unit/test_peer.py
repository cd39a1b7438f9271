"""What goes wrong on the wire is said in our words: whether to try again, never what was sent."""

from datetime import timedelta

import httpx
import pytest

from flute_sync.archive_errors import (
    ArchiveAnswerTooLarge,
    ArchiveRefused,
    ArchiveServerError,
    ArchiveUnauthorized,
    ArchiveUnavailable,
)
from flute_sync.sources.peer import Peer
from flute_sync.sources.peer_settings import PeerSettings

SECRET = "Example^Adam"


def peer(answer, *, clock=None, **settings) -> Peer:
    more = {} if clock is None else {"clock": clock}
    return Peer(
        PeerSettings(**settings),
        "http://pacs/dicom-web/",
        name="archive",
        accept="application/dicom+json",
        transport=httpx.MockTransport(answer),
        **more,
    )


def status(code, **headers):
    return lambda _: httpx.Response(code, text=SECRET, headers=headers)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (301, ArchiveRefused),
        (307, ArchiveRefused),
        (400, ArchiveRefused),
        (401, ArchiveUnauthorized),
        (403, ArchiveUnauthorized),
        (404, ArchiveRefused),
        (406, ArchiveRefused),
        (407, ArchiveUnauthorized),
        (413, ArchiveRefused),
        (429, ArchiveUnavailable),
        (500, ArchiveServerError),
        (501, ArchiveRefused),
        (502, ArchiveUnavailable),
        (503, ArchiveUnavailable),
        (504, ArchiveServerError),
    ],
)
def test_a_status_is_one_of_our_errors(code, kind):
    with pytest.raises(kind) as caught:
        list(peer(status(code, location="http://elsewhere/x")).objects(f"/studies?x={SECRET}"))
    assert str(code) in caught.value.sentence
    assert SECRET not in caught.value.sentence
    if kind is ArchiveRefused:
        assert caught.value.status == code


def test_a_redirection_is_not_followed():
    asked = []

    def answer(request):
        asked.append(request.url.host)
        return httpx.Response(302, headers={"location": "http://elsewhere/"})

    with pytest.raises(ArchiveRefused):
        list(peer(answer).objects("/studies"))
    assert asked == ["pacs"]


@pytest.mark.parametrize("code", [429, 503])
def test_the_time_to_wait_is_kept(code):
    with pytest.raises(ArchiveUnavailable) as caught:
        list(peer(status(code, **{"retry-after": "7"})).objects("/studies"))
    assert caught.value.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError(SECRET),
        httpx.ReadTimeout(SECRET),
        httpx.RemoteProtocolError(SECRET),
        httpx.ReadError(SECRET),
    ],
)
def test_a_failure_of_the_network_is_worth_another_try(failure):
    def answer(_):
        raise failure

    with pytest.raises(ArchiveUnavailable) as caught:
        list(peer(answer).objects("/studies"))
    assert SECRET not in caught.value.sentence


def test_a_connection_that_breaks_in_the_middle_is_no_end():
    def body():
        yield b"[{}"
        raise httpx.ReadError(SECRET)

    with pytest.raises(ArchiveUnavailable):
        list(peer(lambda _: httpx.Response(200, content=body())).objects("/studies"))


def test_a_compressed_answer_is_bounded_by_what_it_expands_to():
    def answer(_):
        return httpx.Response(200, content=b"[" + b" " * 10_000 + b"]")

    with pytest.raises(ArchiveAnswerTooLarge):
        list(peer(answer, max_answer_bytes=5_000).objects("/studies"))


def test_an_answer_that_drips_is_given_up():
    seconds = iter(range(0, 10_000, 100))

    def body():
        while True:
            yield b" "

    with pytest.raises(ArchiveUnavailable):
        list(
            peer(
                lambda _: httpx.Response(200, content=body()), clock=lambda: float(next(seconds))
            ).objects("/studies")
        )


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"1"])
def test_an_object_is_an_object(body):
    with pytest.raises(ArchiveServerError):
        peer(lambda _: httpx.Response(200, content=body)).object("/changes")


def test_a_success_without_content_is_empty():
    assert list(peer(lambda _: httpx.Response(204)).objects("/studies")) == []


def test_paths_are_below_the_base_address():
    asked = []

    def answer(request):
        asked.append((request.url.path, request.headers["accept"]))
        return httpx.Response(200, content=b"[]")

    list(peer(answer).objects("/studies"))
    assert asked == [("/dicom-web/studies", "application/dicom+json")]
