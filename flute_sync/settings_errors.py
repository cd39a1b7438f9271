"""What can be wrong in the settings."""

from flute_sync.errors import OperatorError


class ConfigurationError(OperatorError):
    """The settings are not valid."""

    code = "CONFIG-INVALID"
    hint = "Correct the setting named; docs/settings.md lists all of them."


class SecretUnreadable(OperatorError):
    """A secret cannot be read."""

    code = "CONFIG-SECRET"
    hint = "Name an absolute file readable by the service, or credential:NAME with LoadCredential."


class ListenerUnavailable(OperatorError):
    """An address to listen on cannot be taken."""

    code = "CONFIG-LISTENER"
    hint = "Another program uses the port, or the host is not one of this machine's."


class PseudonymKeyUnusable(OperatorError):
    """The key of the pseudonyms cannot be used."""

    code = "CONFIG-PSEUDONYM-KEY"
    hint = "Make one with `openssl rand -base64 48`, in a file of mode 0400; docs/pseudonyms.md."
