"""``flute-sync run``: the daemon, until SIGTERM."""

import logging
from pathlib import Path

import click

from flute_sync.console import log
from flute_sync.console.opening import load_config
from flute_sync.console.output import config_option
from flute_sync.console.web import console_app
from flute_sync.daemon.app import Daemon
from flute_sync.daemon.config import Config, load
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields

logger = logging.getLogger(__name__)


@click.command()
@config_option
def run(config_path: Path | None) -> int:
    """Run the service: learn of studies, keep FHIR true.

    SIGTERM ends it after the steps in hand; SIGHUP reads the settings again.
    """
    config = load_config(config_path)
    log.configure(config.log)

    def reload() -> Config:
        fresh = load(config_path)
        log.configure(fresh.log)
        return fresh

    try:
        return Daemon(config, console_app, reload).run()
    except FluteSyncError as error:
        # The journal is where people look when a service does not start.
        logger.critical(
            error.sentence,
            extra=fields(Event.DAEMON_FAILED, code=error.code, hint=error.hint),
        )
        return error.exit_code
