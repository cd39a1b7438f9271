"""The sources that are told: which HTTP applications listen, and where."""

from collections.abc import Callable, Iterator
from datetime import timedelta

from starlette.types import ASGIApp

from flute_sync.daemon.config import Config
from flute_sync.daemon.http_server import HEADER_TIMEOUT, Listener, TlsFiles
from flute_sync.daemon.stats import Stats, counted
from flute_sync.intake import Intake
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.hook import mounted
from flute_sync.sources.http_access import AddressSettings
from flute_sync.sources.stow_rs import StowRs
from flute_sync.sources.subscription import SubscriptionHook
from flute_sync.sources.webhook import Webhook
from flute_sync.transport.secret import secret_path


def receivers(
    config: Config, intake: Intake, stats: Stats, hinted: Callable[[], None]
) -> Iterator[Listener]:
    """Make the listener that takes uploads, notices and hints of the FHIR server, or some of them.

    Parameters
    ----------
    hinted
        Called when the FHIR server tells that clinical data changed.
    """
    stow, webhook = config.stow_rs, config.webhook
    application: ASGIApp | None = None
    if stow.enabled:
        behind = config.archive_named(stow.archive)
        uploads = StowRs(stow, intake, HeaderReader(config.header), behind)
        application = counted(uploads, stats.upload)
    if webhook.enabled:
        names = [entry.name for entry in config.every_archive]
        notices = counted(Webhook(webhook, intake, names), stats.notice)
        application = mounted(webhook.path, notices, application)
    if config.subscription.enabled:
        hook = counted(SubscriptionHook(config.subscription, hinted), stats.notice)
        application = mounted(config.subscription.path, hook, application, below=True)
    if application is not None:
        yield listener("stow_rs", application, stow, stow.header_timeout)


def listener(
    name: str, app: ASGIApp, settings: AddressSettings, header_timeout: timedelta = HEADER_TIMEOUT
) -> Listener:
    """Serve an application where its settings say."""
    return Listener(
        name=name,
        app=app,
        host=settings.host,
        port=settings.port,
        tls=_tls(settings),
        header_timeout=header_timeout,
    )


def _tls(settings: AddressSettings) -> TlsFiles | None:
    if settings.tls is None:
        return None
    key = settings.tls.key_file
    return TlsFiles(
        secret_path(settings.tls.cert_file), secret_path(key) if key is not None else None
    )
