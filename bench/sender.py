"""Uploads by STOW-RS with as little work as can be."""

import os
import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from tests.stow import dicom, uid

PIXEL_BYTES = 512 * 1024
BOUNDARY = "bench-boundary"
HEAD = (
    "POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n"
    f'Content-Type: multipart/related; type="application/dicom"; boundary={BOUNDARY}\r\n\r\n'
)
PART = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
END = f"--{BOUNDARY}--\r\n".encode()


class Sender:
    """Sends instances that differ in their UID only, with as little work as can be."""

    def __init__(self, pixel_bytes: int = PIXEL_BYTES) -> None:
        self._file = dicom("bench", "series", 0, os.urandom(pixel_bytes))
        self._uid = uid("bench", "series", 0).encode()
        self._lock = threading.Lock()
        self._next = 0

    def file(self) -> bytes:
        """Return the next instance."""
        with self._lock:
            self._next += 1
            number = f"{self._next:012d}".encode()
        return self._file.replace(self._uid, self._uid[: -len(number)] + number)

    def run(self, port: int, instances: int, per_request: int, clients: int) -> float:
        """Send instances, and return how many seconds it took."""
        requests = instances // per_request
        batches = [[self.file() for _ in range(per_request)] for _ in range(requests)]
        queue = iter(batches)
        lock = threading.Lock()

        def client(_: int) -> None:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while True:
                    with lock:
                        batch = next(queue, None)
                    if batch is None:
                        return
                    upload(connection, batch)

        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(client, range(clients)))
        return time.perf_counter() - started

    def stream(self, port: int, instances: int) -> float:
        """Send one request made while it is sent; return how many seconds it took."""
        length = instances * (len(PART) + len(self.file()) + 2) + len(END)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            started = time.perf_counter()
            upload(connection, (self.file() for _ in range(instances)), length)
            return time.perf_counter() - started


def upload(connection: socket.socket, files: Iterable[bytes], length: int | None = None) -> None:
    """Send one request, and read its answer."""
    if length is None:
        files = list(files)
        length = sum(len(PART) + len(file) + 2 for file in files) + len(END)
    connection.sendall(HEAD.format(length).encode())
    for file in files:
        connection.sendall(PART + file + b"\r\n")
    connection.sendall(END)
    answer = b""
    while b"\r\n\r\n" not in answer:
        got = connection.recv(65536)
        if not got:
            raise ConnectionError(answer)
        answer += got
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer[:500]
    size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < size:
        body += connection.recv(65536)
