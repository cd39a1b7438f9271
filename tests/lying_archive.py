"""An archive between us and a real one: what it answers can be changed, held back or cut off."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@dataclass
class Answer:
    """What would be answered; a test changes it."""

    path: str
    status: int
    content_type: str
    body: bytes
    cut: bool = False


@dataclass
class LyingArchive:
    """Passes requests on, and lets ``change`` have each answer before it is given."""

    upstream: str
    change: Callable[[Answer], None] = lambda _answer: None
    asked: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    url: str = ""

    def requests(self, ending: str = "") -> list[str]:
        """Return the paths asked for, those of metadata left out."""
        return [one for one in self.asked if one.endswith(ending) and "metadata" not in one]


@contextmanager
def lying_archive(upstream: str) -> Iterator[LyingArchive]:
    """Run one in front of a DICOMweb address."""
    archive = LyingArchive(upstream)
    client = httpx.Client(timeout=60)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            archive.asked.append(self.path)
            archive.authorizations.append(self.headers.get("Authorization"))
            found = client.get(
                archive.upstream + self.path, headers={"Accept": self.headers["Accept"]}
            )
            kind = found.headers.get("content-type", "text/plain")
            answer = Answer(self.path, found.status_code, kind, found.content)
            archive.change(answer)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if answer.cut:
                self.wfile.write(answer.body[: len(answer.body) // 2])
                self.close_connection = True
            else:
                self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True  # a client that was killed

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    archive.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        client.close()
