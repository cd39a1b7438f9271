"""Attempts to sign in, counted in memory that does not grow."""

import hashlib
import hmac
import ipaddress
import secrets
import time
from array import array
from collections.abc import Callable
from datetime import timedelta
from typing import Final

_SLOTS: Final = 65_536


class Attempts:
    """Counts by name or address, in a table of a fixed size.

    What is counted falls into a slot by a keyed hash. Two that share a slot share its count: one
    may be refused for the other's failures, but nothing is forgotten before its time, as would
    happen where old entries make room for new ones.

    Parameters
    ----------
    most
        Attempts within a window; the next is refused.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, most: int, window: timedelta, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._window = window.total_seconds()
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._counts = array("L", bytes(array("L").itemsize * _SLOTS))
        self._since = array("d", bytes(array("d").itemsize * _SLOTS))

    def take(self, what: str) -> timedelta | None:
        """Count an attempt before it is made; return how long to wait where it is one too many."""
        slot, now = self._slot(what), self._clock()
        left = self._since[slot] + self._window - now
        if left <= 0 or self._counts[slot] == 0:
            self._counts[slot], self._since[slot], left = 0, now, self._window
        if self._counts[slot] >= self._most:
            return timedelta(seconds=left)
        self._counts[slot] += 1
        return None

    def give_back(self, what: str) -> None:
        """Take one back, which turned out well."""
        slot = self._slot(what)
        self._counts[slot] = max(self._counts[slot] - 1, 0)

    def forget(self, what: str) -> None:
        """Take all back."""
        self._counts[self._slot(what)] = 0

    def _slot(self, what: str) -> int:
        digest = hmac.new(self._key, what.encode(), hashlib.sha256).digest()
        return int.from_bytes(digest[:4], "big") % _SLOTS


def network_of(address: str) -> str:
    """Return what counts as one address: of IPv6 the /64 network, which one customer has whole."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.ip_network(f"{address.partition('%')[0]}/64", strict=False))
