"""What can go wrong at the token server."""

from flute_sync.errors import OperatorError, TransientError


class TokenUnavailable(TransientError):
    """The token server does not answer."""

    code = "AUTH-UNAVAILABLE"
    hint = "Start the token server or mend the network; work goes on by itself."


class TokenRefused(OperatorError):
    """The token server refuses us."""

    code = "AUTH-REFUSED"
    hint = "Check client_id, secret or key, kid and scope with the token server's administrator."
