"""The settings of the console: what monitors ask, and the pages that show patients."""

import ipaddress
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from flute_sync.settings import HttpUrl, Port, PositiveDuration, SecretFile, Settings
from flute_sync.sources.http_access import AddressSettings
from flute_sync.transport.credentials import BasicAuth, BearerAuth, NoAuth
from flute_sync.transport.openid_settings import OpenIdSettings

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_KNOWN: Final = frozenset({"study_uid", "dicomweb_url"})
_SCHEMES: Final = ("https://", "http://", "weasis://")


def _template(url: str) -> str:
    named = _PLACEHOLDER.findall(url)
    if not url.startswith(_SCHEMES):
        raise ValueError("a viewer's address begins with https://, http:// or weasis://")
    if "study_uid" not in named or set(named) - _KNOWN or set("{}") & set(_plain(url)):
        raise ValueError("a viewer's address holds {study_uid}, and may hold {dicomweb_url}")
    if url.startswith("http") and "{" in urlsplit(url).netloc:
        raise ValueError("the host of a viewer's address is written out")
    return url


def _plain(url: str) -> str:
    return _PLACEHOLDER.sub("", url)


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("not an IP address or network") from None
    if network.prefixlen == 0:
        raise ValueError("every address is no proxy: whoever comes could say that he is anybody")
    return text


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")]


class Viewer(Settings):
    """An image viewer that the page of a study leads to."""

    name: Annotated[str, Field(min_length=1, max_length=40)]
    """What the link says, such as "OHIF"."""

    url: Annotated[str, Field(pattern=r"^[!-~]+$", max_length=2000), AfterValidator(_template)]
    """Its address for one study, with {study_uid} and, where it needs it, {dicomweb_url}."""


class ProxySettings(Settings):
    """A reverse proxy that signs people in and tells who they are."""

    peers: Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], Field(min_length=1)]
    """Addresses or networks of the proxy; the same headers from elsewhere are refused."""

    user_header: HeaderName = "X-Forwarded-User"
    """The header that names the person; the proxy must replace what a client sends."""

    role_header: HeaderName = "X-Forwarded-Groups"
    """The header that names roles or groups, separated by commas."""

    role: Annotated[str, Field(min_length=1)]
    """The role or group that is admitted."""

    def believes(self, address: str) -> bool:
        """Tell whether a peer is the proxy."""
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(peer, "ipv4_mapped", None)
        return any((mapped or peer) in ipaddress.ip_network(network) for network in self.peers)


class ConsoleAuth(Settings):
    """Who may see the pages that show patients, and what monitors must show."""

    mode: Literal["none", "users", "oidc", "proxy"] = "none"
    """Who may see /studies: everybody on this machine, users of a file, whom an OpenID provider
    sends, or whom a reverse proxy names. Beyond loopback ``none`` is refused."""

    users_file: SecretFile | None = None
    """The users of mode ``users``; `flute-sync console-user NAME` writes it."""

    oidc: OpenIdSettings | None = None
    """The provider of mode ``oidc``."""

    proxy: ProxySettings | None = None
    """The proxy of mode ``proxy``."""

    session_idle: PositiveDuration = timedelta(minutes=30)
    """After how long without a page a person is signed out."""

    session_longest: PositiveDuration = timedelta(hours=10)
    """After how long a person signs in again, whatever he does."""

    attempts_per_user: Annotated[int, Field(ge=1, le=1000)] = 5
    """Failed attempts to sign in under one name after which the next is refused unread."""

    attempts_per_address: Annotated[int, Field(ge=1, le=100_000)] = 20
    """The same for one address, or one /64 network of IPv6."""

    attempts_window: PositiveDuration = timedelta(minutes=15)
    """The time within which attempts are counted."""

    method: Literal["none", "basic", "bearer"] = "none"
    """What monitors must show at /live, /ready and /metrics."""

    user: str | None = None
    """User name of method ``basic``."""

    password_file: SecretFile | None = None
    """File that holds the password of method ``basic``."""

    token_file: SecretFile | None = None
    """File that holds the token of method ``bearer``."""

    @model_validator(mode="after")
    def _is_whole(self) -> "ConsoleAuth":
        needed = {"users": "users_file", "oidc": "oidc", "proxy": "proxy"}.get(self.mode)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f'mode = "{self.mode}" needs console.auth.{needed}')
        lacking = [name for name in _MACHINE[self.method] if getattr(self, name) is None]
        if lacking:
            raise ValueError(f'method = "{self.method}" needs {", ".join(lacking)}')
        self.machines  # noqa: B018 - a user name that HTTP cannot carry is refused here
        return self

    @property
    def machines(self) -> NoAuth | BasicAuth | BearerAuth:
        """What monitors must show."""
        if self.method == "basic":
            given = {"user": self.user, "password_file": self.password_file}
            return BasicAuth.model_validate({"method": "basic", **given})
        if self.method == "bearer":
            return BearerAuth.model_validate({"method": "bearer", "token_file": self.token_file})
        return NoAuth()


_MACHINE: Final = {"none": (), "basic": ("user", "password_file"), "bearer": ("token_file",)}


class ConsoleSettings(AddressSettings):
    """``[console]``: where monitors ask /live, /ready and /metrics, and people look at /studies."""

    enabled: bool = True
    """Whether to listen."""

    port: Port = 8105
    """Port to listen on; 0 takes any that is free."""

    auth: ConsoleAuth = ConsoleAuth()
    """Who may see the pages that show patients (``mode``), and what monitors must show
    (``method``)."""

    public_url: HttpUrl | None = None
    """The address by which browsers reach the console, where it is not its own, without a path."""

    viewers: tuple[Viewer, ...] = ()
    """Image viewers that the page of a study leads to."""

    @model_validator(mode="after")
    def _pages_are_protected(self) -> "ConsoleSettings":
        problem = next(self._problems(), None)
        if self.enabled and problem is not None:
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        auth, machines = self.auth, self.auth.method != "none"
        open_to_all = auth.mode == "none" and ("mode" in auth.model_fields_set or not machines)
        if open_to_all and not self.loopback:
            yield (
                "auth.mode is none, which is for loopback alone: pages of patients on another"
                ' host need mode = "users", "oidc" or "proxy"'
            )
        if not (self.loopback or self.insecure or self.tls is not None):
            yield "a host beyond this machine needs tls, or an explicit insecure = true"
        if auth.mode == "oidc" and self.public_url is None and not (self.loopback and self.port):
            yield 'auth.mode = "oidc" needs public_url, to which the provider leads back'

    @field_validator("public_url")
    @classmethod
    def _without_path(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).path.strip("/"):
            raise ValueError("it has no path: the pages are at its root")
        return url

    @property
    def shows_pages(self) -> bool:
        """Whether there are pages: not where only monitors are let in."""
        is_chosen = "mode" in self.auth.model_fields_set or self.auth.method == "none"
        return self.auth.mode != "none" or (self.loopback and is_chosen)

    @property
    def address(self) -> str:
        """The address by which browsers reach the console, without a slash at its end."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}"

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach the console by https."""
        return self.address.startswith("https:")
