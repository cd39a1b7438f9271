"""What can go wrong with a person at the console's pages."""

from flute_sync.errors import OperatorError, PermanentError, TransientError


class SignInRefused(PermanentError):
    """The name or the password is not right."""

    code = "CONSOLE-SIGN-IN"
    hint = "Try again; `flute-sync console-user NAME` sets a password."
    http_status = 401


class SignInLimited(PermanentError):
    """Too many attempts to sign in."""

    code = "CONSOLE-LIMITED"
    hint = "Wait; console.auth.attempts_window says how long."
    http_status = 429


class RoleLacking(PermanentError):
    """This account is not admitted to the pages."""

    code = "CONSOLE-ROLE"
    hint = "Give the account the role that console.auth asks for, where accounts are kept."
    http_status = 403


class FormRefused(PermanentError):
    """The form did not come from a page of ours, or is too old."""

    code = "CONSOLE-FORM"
    hint = "Go back, load the page again, and send the form once more; cookies must be allowed."
    http_status = 403


class PeerRefused(PermanentError):
    """The request did not come the way it must."""

    code = "CONSOLE-PEER"
    hint = (
        "Come as console.auth.mode wants it: none, directly at this machine; proxy, by the proxy"
        " that console.auth.proxy.peers names."
    )
    http_status = 403


class PageAbsent(PermanentError):
    """There is no such page."""

    code = "CONSOLE-ABSENT"
    hint = "Begin at /studies."
    http_status = 404


class SearchRefused(PermanentError):
    """This cannot be searched for."""

    code = "CONSOLE-SEARCH"
    hint = "Correct the search."
    http_status = 400


class UsersUnusable(OperatorError):
    """The file of the console's users cannot be used."""

    code = "CONSOLE-USERS"
    hint = "Mend the line; `flute-sync console-user NAME` writes whole ones."


class OpenIdRefused(PermanentError):
    """The OpenID provider's answer is not believed."""

    code = "OPENID-REFUSED"
    hint = "Sign in again; if it stays, check issuer, client_id, secret and redirect address."
    http_status = 403


class OpenIdUnavailable(TransientError):
    """The OpenID provider does not answer."""

    code = "OPENID-UNAVAILABLE"
    hint = "Start the provider or mend the network, then sign in again."
