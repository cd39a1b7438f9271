"""The console's pages on a port, with a ledger and the sandbox's servers behind them."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount

from flute_sync.console.pages.site import Site
from flute_sync.daemon.config import Config
from flute_sync.daemon.http_server import HttpServer, Listener
from flute_sync.ledger import Ledger
from tests.services.process import free_port


class Pages:
    """Pages of one site, served in this process."""

    def __init__(self, settings: Mapping[str, Any], ledger: Ledger, **console: Any) -> None:
        self.port = free_port()
        console = {"port": self.port, **console}
        self.config = Config(**{"stow_rs": {"port": 0}, **settings, "console": console})
        self.requests: list[tuple[str, int | None]] = []
        self.site = Site(self.config, ledger, lambda what, how: self.requests.append((what, how)))
        app = Starlette(routes=[Mount("/", self.site.app)])
        self._server = HttpServer([Listener("console", app, "127.0.0.1", self.port)])
        self._server.start()
        self._clients: list[httpx.Client] = []

    def client(self, **options: Any) -> httpx.Client:
        """A browser of its own."""
        made = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False, **options
        )
        self._clients.append(made)
        return made

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._server.stop(timedelta(seconds=1))
        self.site.close()


def form_token(page: str) -> str:
    """The hidden word of a page's form."""
    found = re.search(r'name="form_token" value="([^"]+)"', page)
    assert found, page
    return found[1]


def sign_in(client: httpx.Client, name: str, password: str, **more: str) -> httpx.Response:
    """Fill in the form for a password, as a person does."""
    form = {"form_token": form_token(client.get("/sign-in").text), **more}
    return client.post("/sign-in", data={**form, "name": name, "password": password})
