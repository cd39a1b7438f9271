"""``flute-sync console-user``: who may sign in to the console's pages, in mode ``users``."""

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import click

from flute_sync.command_errors import InputUnreadable
from flute_sync.console.opening import load_config
from flute_sync.console.output import config_option
from flute_sync.console.pages.users import LONGEST, NAME, SHORTEST, hash_of, parsed, written
from flute_sync.settings_errors import ConfigurationError, SecretUnreadable

_MODE = 0o640
_LARGEST_BYTES = 64 * 1024


@click.command("console-user")
@click.argument("name")
@click.option("--remove", is_flag=True, help="Let the user sign in no more.")
@config_option
def console_user(name: str, remove: bool, config_path: Path | None) -> None:
    """Add a user of the console's pages, set a new password, or remove the user.

    The password is asked for at the terminal, or read as the first line of standard input; never
    from the command line, which others can see. The running service takes it up at once, and ends
    the user's sessions.
    """
    file = _file(config_path)
    if not NAME.fullmatch(name) or not name.isprintable():
        raise click.UsageError("a name has 1 to 64 characters, no colon and no control character")
    users = _users(file)
    if remove:
        if users.pop(name, None) is None:
            raise click.UsageError("there is no such user")
    else:
        users[name] = hash_of(_password())
    _write(file, written(users))
    click.echo(f"{name} may {'not sign in any more' if remove else 'sign in'}.")


def _file(config_path: Path | None) -> Path:
    file = load_config(config_path).console.auth.users_file
    if file is None:
        raise ConfigurationError("console.auth.users_file is not set")
    if not file.startswith("/"):
        raise ConfigurationError("console.auth.users_file is a credential: systemd holds the file")
    return Path(file)


def _users(file: Path) -> dict[str, str]:
    try:
        return parsed(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError):
        raise SecretUnreadable("console.auth.users_file cannot be read") from None


def _password() -> str:
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        try:
            password = sys.stdin.buffer.readline().decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise click.UsageError("a password is text in UTF-8") from None
    if not SHORTEST <= len(password) <= LONGEST:
        raise click.UsageError(f"a password has {SHORTEST} to {LONGEST} characters")
    return password


def _write(file: Path, text: str) -> None:
    """Put a whole file in place of the old one, with its owner and mode; a new one is the folder's.

    Raises
    ------
    InputUnreadable
        When it cannot be written.
    """
    if len(text.encode()) > _LARGEST_BYTES:
        raise InputUnreadable(f"more than {_LARGEST_BYTES} bytes of users")
    try:
        known = file.stat() if file.exists() else None
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".users-")
        try:
            with open(handle, "w", encoding="utf-8") as stream:
                if known:
                    os.fchown(handle, known.st_uid, known.st_gid)
                else:
                    with suppress(PermissionError):  # who is not in that group keeps his own
                        os.fchown(handle, -1, file.parent.stat().st_gid)
                os.fchmod(handle, known.st_mode & 0o7777 if known else _MODE)
                stream.write(text)
                stream.flush()
                os.fsync(handle)
            os.replace(name, file)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputUnreadable(f"console.auth.users_file: {error.strerror}") from None
