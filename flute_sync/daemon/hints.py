"""Keeps the Subscriptions by which the FHIR server hints that clinical data changed."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from flute_sync.daemon.pauses import Pause
from flute_sync.events import Event, fields
from flute_sync.fhir.subscriptions import Subscriptions, Wanted
from flute_sync.link_settings import LinkSettings
from flute_sync.sources.subscription_settings import SubscriptionSettings
from flute_sync.transport.secret import read_secret

log = logging.getLogger(__name__)

INTERVAL: Final = timedelta(minutes=5)


@dataclass
class SubscriptionKeeper:
    """Looks now and then whether they stand as they should.

    Parameters
    ----------
    links
        Asked anew, since a reload may change them: without links no hint is needed.
    pause
        While the FHIR server is down nothing is asked.
    """

    settings: SubscriptionSettings
    links: Callable[[], LinkSettings]
    subscriptions: Subscriptions
    pause: Pause
    _said: bool = False

    def step(self, now: datetime, _stop: Callable[[], bool]) -> None:
        """Look once.

        Raises
        ------
        FluteSyncError
            When the FHIR server does not do its part, or the token cannot be read.
        """
        settings = self.settings
        if settings.url is None or self.pause.remaining(now):
            return
        if not self.subscriptions.offered:
            self._say_absent(settings)
        elif settings.enabled and settings.token_file is not None and self.links().enabled:
            header = f"Authorization: Bearer {read_secret(settings.token_file)}"
            written = self.subscriptions.keep(Wanted(settings.url, header, settings.lifetime), now)
            if written:
                log.info(
                    "Subscriptions were made or renewed on the FHIR server.",
                    extra=fields(Event.FHIR_SUBSCRIBED, requests=written),
                )
        else:
            ended = self.subscriptions.end(settings.url)
            if ended:
                log.info(
                    "Subscriptions were deleted on the FHIR server.",
                    extra=fields(Event.FHIR_SUBSCRIBED, requests=ended),
                )

    def _say_absent(self, settings: SubscriptionSettings) -> None:
        if settings.enabled and not self._said:
            self._said = True
            log.warning(
                "The FHIR server offers no Subscription; it is looked at all the same.",
                extra=fields(Event.SETTINGS_WARNING, setting="subscription.enabled"),
            )
