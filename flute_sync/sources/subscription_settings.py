"""What the FHIR server shall tell by itself, and where."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from flute_sync.settings import HttpUrl, PositiveDuration, SecretFile, Settings


class SubscriptionSettings(Settings):
    """``[subscription]``: the FHIR server tells that clinical data changed, on the address of
    ``[stow_rs]``."""

    enabled: bool = False
    """Whether Subscriptions are kept on the FHIR server (R4, rest-hook), where it offers them, and
    what it sends is taken, also where STOW-RS is off. ``url`` and ``token_file`` must be set."""

    url: HttpUrl | None = None
    """Where the FHIR server reaches ``path``, such as "https://flute-sync.example:8104/notify/fhir".
    While it is set and ``enabled`` is false, Subscriptions with this address are deleted."""

    path: Annotated[str, Field(pattern=r"^(?:/[A-Za-z0-9._~-]*[A-Za-z0-9_~-])+$")] = "/notify/fhir"
    """Where it is taken; also what is below."""

    token_file: SecretFile | None = None
    """File that holds a bearer token of its own: it stands in the Subscriptions, for the server to
    show."""

    lifetime: PositiveDuration = timedelta(days=7)
    """For how long a Subscription is asked for; it is renewed when half of that is over."""

    @model_validator(mode="after")
    def _is_whole(self) -> "SubscriptionSettings":
        if self.enabled and (self.url is None or self.token_file is None):
            raise ValueError("subscription.url and subscription.token_file must be set")
        return self
