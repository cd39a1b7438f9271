"""Which notices are taken that archives push."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from flute_sync.settings import Bytes, PositiveDuration, SecretFile, Settings


class WebhookSettings(Settings):
    """``[webhook]``: notices that an archive pushes, on the address of ``[stow_rs]``."""

    enabled: bool = False
    """Whether notices are taken; also where STOW-RS is off, on its host and port, with its TLS."""

    path: Annotated[str, Field(pattern=r"^(?:/[A-Za-z0-9._~-]*[A-Za-z0-9_~-])+$")] = "/notify/study"
    """Where notices are posted to."""

    token_file: SecretFile | None = None
    """File that holds the bearer token that pushers must show; read again when it changes."""

    max_body_bytes: Bytes = 2 << 20
    """Largest notice."""

    max_notices: Annotated[int, Field(ge=1)] = 10_000
    """How many events or studies one notice may hold."""

    body_timeout: PositiveDuration = timedelta(seconds=20)
    """How long a pusher may take to send its notice."""

    allowed_origins: tuple[str, ...] = ("eventgrid.azure.net",)
    """Senders of CloudEvents that are told that their events are wanted, when they ask."""

    @model_validator(mode="after")
    def _has_token(self) -> "WebhookSettings":
        if self.enabled and self.token_file is None:
            raise ValueError("webhook.token_file must be set: notices are taken with a token alone")
        return self
