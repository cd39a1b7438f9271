"""Starting and stopping the sandbox."""

import logging
import socket
import threading
import time

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox
from flute_sync.settings_errors import ListenerUnavailable


def test_it_answers_at_once_and_is_gone_after_stop(tmp_path):
    threads = threading.active_count()
    sandbox = Sandbox(tmp_path).start()
    assert httpx.get(sandbox.fhir_url + "/metadata").status_code == 200
    assert httpx.get(sandbox.dicomweb_url + "/studies").json() == []
    assert httpx.get(sandbox.archive_url + "/system").status_code == 200
    sandbox.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(sandbox.fhir_url + "/metadata")
    sandbox.stop()
    assert threading.active_count() <= threads + 1  # an idle helper thread may linger


def test_it_starts_again_on_the_same_ports_with_the_same_data(tmp_path):
    sandbox = Sandbox(tmp_path)
    with sandbox:
        url = sandbox.fhir_url
        headers = {"Content-Type": "application/fhir+json"}
        path = f"{url}/Patient/a"
        body = {"resourceType": "Patient", "id": "a"}
        assert httpx.put(path, json=body, headers=headers).status_code == 201
    with sandbox:
        assert sandbox.fhir_url == url
        assert httpx.get(path).status_code == 200


def test_two_do_not_meet(tmp_path):
    with Sandbox(tmp_path / "one") as one, Sandbox(tmp_path / "other") as other:
        assert one.archive_url != other.archive_url
        assert httpx.get(other.archive_url + "/studies").json() == []


def test_a_port_in_use_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenerUnavailable):
            Sandbox(tmp_path, fhir_port=port).start()


def test_answers_come_without_delay(tmp_path):
    """A delayed ACK would cost 40 ms each, after the first: the server must not wait for it."""
    taken = []
    with Sandbox(tmp_path) as sandbox, httpx.Client(timeout=60) as client:
        for _ in range(60):
            begun = time.monotonic()
            client.get(sandbox.archive_url + "/system")
            taken.append(time.monotonic() - begun)
    assert min(taken[-30:]) < 0.035  # a busy machine may delay most of them


def test_stop_waits_for_nobody(tmp_path):
    with Sandbox(tmp_path) as sandbox:
        port = int(sandbox.archive_url.rpartition(":")[2])
        idle = socket.create_connection(("127.0.0.1", port))
        half = socket.create_connection(("127.0.0.1", port))
        half.sendall(b"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n")
        begun = time.monotonic()
        sandbox.stop()
        assert time.monotonic() - begun < 10
        idle.close()
        half.close()


def test_it_logs_nothing_in_ordinary_work(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with Sandbox(tmp_path) as sandbox:
        httpx.get(f"{sandbox.fhir_url}/Patient?identifier=secret").raise_for_status()
        assert httpx.get(f"{sandbox.fhir_url}/Patient/absent").status_code == 404
    assert [one for one in caplog.records if not one.name.startswith("http")] == []
