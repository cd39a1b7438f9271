from datetime import timedelta

import pytest
from pydantic import ValidationError

from flute_sync.settings import Duration, HttpUrl, SecretFile, Settings


class Probe(Settings):
    wait: Duration = timedelta(seconds=1)
    url: HttpUrl = "http://localhost"
    secret: SecretFile = "/etc/secret"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("15m", 900),
        ("1h30m", 5400),
        ("0.5s", 0.5),
        ("250ms", 0.25),
        ("P7D", 604800),
        ("PT15M", 900),
        ("0s", 0),
        ("2d", 172800),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert Probe.model_validate({"wait": text}).wait == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["30", 30, 1.5, "s", "30 parsecs", "-5s", "-PT5S", "", "1h 30", True]
)
def test_durations_that_are_not(text: object) -> None:
    with pytest.raises(ValidationError):
        Probe.model_validate({"wait": text})


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://user:pw@host/", "http://h/p?q=1", "http://h/#f", "h/p"]
)
def test_addresses_carry_no_credentials_and_no_query(url: str) -> None:
    with pytest.raises(ValidationError):
        Probe.model_validate({"url": url})


@pytest.mark.parametrize("name", ["relative/file", "credential:", "hunter2", "credential:a/b"])
def test_a_secret_is_a_file_name_never_the_secret(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Probe.model_validate({"secret": name})
    assert f"input_value={name!r}" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_unknown_keys_are_errors() -> None:
    with pytest.raises(ValidationError, match="waits"):
        Probe.model_validate({"waits": "1s"})
