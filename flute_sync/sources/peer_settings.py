"""How an archive is reached over HTTP, and how much it may answer."""

from datetime import timedelta
from typing import Final

from flute_sync.settings import Bytes, PositiveDuration
from flute_sync.transport.http_settings import HttpSettings

_MIB: Final = 1 << 20


class PeerSettings(HttpSettings):
    """How to reach an archive, and how much of an answer is taken."""

    max_answer_bytes: Bytes = 256 * _MIB
    """Largest answer; a study whose metadata is larger is read series by series."""

    max_instance_bytes: Bytes = 32 * _MIB
    """Largest metadata of one instance, which is what is in memory at once."""

    longest_answer: PositiveDuration = timedelta(minutes=5)
    """How long one answer may take from its first byte to its last."""
