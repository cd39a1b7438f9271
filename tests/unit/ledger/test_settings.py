"""``[ledger]``."""

from typing import Any

import pytest
from pydantic import ValidationError

from flute_sync.ledger import LedgerSettings


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////var/lib/x.db", "sqlite"),
        ("postgresql://user@host/db", "postgresql+psycopg"),
        ("postgresql+psycopg://user@host:5433/db?sslmode=verify-full", "postgresql+psycopg"),
    ],
)
def test_known_addresses(url: str, driver: str) -> None:
    assert LedgerSettings(url=url).database_url(None).drivername == driver


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "sqlite:///relative.db"},
        {"url": "sqlite://"},
        {"url": "sqlite:////x.db?mode=ro"},
        {"url": "mysql://host/db"},
        {"url": "postgresql+psycopg2://host/db"},
        {"url": "postgresql://user:secret@host/db"},
        {"url": "nonsense"},
        {"url": "postgresql://host/db", "password_file": "/secret"},
        {"lease": "0s"},
        {"lease": 20},
        {"connections": 1},
        {"events_per_study": 0},
        {"colour": "blue"},
    ],
)
def test_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        LedgerSettings(**settings)
    assert "secret@" not in str(raised.value)


def test_the_password_is_put_in_last() -> None:
    settings = LedgerSettings(url="postgresql://user@host/db", password_file="/secret")
    assert settings.database_url("p@ss/word").password == "p@ss/word"
