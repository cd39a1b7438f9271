"""Settings of C-FIND: the PACS that is asked, how it is polled, and how much it answers."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from flute_sync.settings import Bytes, PositiveDuration
from flute_sync.sources.dimse_peer import AeTitle, DimsePeerSettings
from flute_sync.sources.poller_settings import StudyPollerSettings


class FindScuSettings(StudyPollerSettings, DimsePeerSettings):
    """``[find_scu]``: asking the PACS by C-FIND, Study Root.

    ``host``, ``port`` and ``ae_title`` are the PACS's; ``calling_ae_title`` is ours.
    """

    enabled: bool = False
    """Whether the PACS is polled, and read where no ``archive.dicomweb_url`` is given; with
    ``archive.metadata = "c-find"`` it is read in any case."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The PACS's host name or address."""

    port: Annotated[int, Field(ge=1, le=65535)] = 104
    """The port it listens on."""

    ae_title: AeTitle = "ANY-SCP"
    """The PACS's application entity title, by which it is called."""

    max_answers: Annotated[int, Field(ge=2, le=100_000)] = 500
    """Most studies that are taken of one query over several days; where there are more, its window
    is split. Where the PACS stops earlier by itself, that number."""

    max_answer_bytes: Bytes = 1 << 20
    """Largest single answer."""

    longest_query: PositiveDuration = timedelta(minutes=5)
    """How long one query may take from its request to its last answer."""

    max_associations: Annotated[int, Field(ge=1, le=64)] = 2
    """How many associations are open at once; further work waits for one."""
