"""Raising the schema by the migrations, with Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def configuration(scripts: Path) -> Config:
    """Say where the migrations are."""
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def run(connection: Connection, scripts: Path) -> None:
    """Raise the schema to the newest revision, in the transaction of the connection."""
    config = configuration(scripts)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
