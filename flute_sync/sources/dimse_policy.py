"""Who may associate, and for what: AE titles, limits and presentation contexts.

References
----------
PS3.8 9.3.2 to 9.3.4 and PS3.4 B.5 (2026b).
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple, Protocol

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom import events
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import AllStoragePresentationContexts, PresentationContext

from flute_sync.sources.dimse_exchange import VERIFICATION
from flute_sync.sources.store_settings import StoreScpSettings
from flute_sync.sources.store_sink import Context

_APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
_STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
_NOT_OF_A_STUDY: Final = frozenset(
    {"1.2.840.10008.5.1.4.1.1.200.1", "1.2.840.10008.5.1.4.1.1.200.3"}
)

STORAGE: Final = (
    frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
    | frozenset(
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if uid.startswith(_STORAGE_ROOT) and kind == "SOP Class" and " Storage" in name
    )
    - _NOT_OF_A_STUDY
)
"""Every storage SOP class of the registry that belongs to a study, retired ones too."""


class Handler(NamedTuple):
    """An event of pynetdicom and what is called for it, which may raise nothing."""

    event: events.EventType
    function: Callable[[events.Event], Any]


class Service(Protocol):
    """A service beside storage and verification, served by pynetdicom's own data path.

    ``contexts`` are the abstract syntaxes it accepts, ``transfer_syntaxes`` the encodings that it
    reads, best first; None: any.
    """

    @property
    def contexts(self) -> frozenset[str]:
        """SOP classes."""

    @property
    def transfer_syntaxes(self) -> tuple[str, ...] | None:
        """Transfer syntaxes."""

    @property
    def handlers(self) -> Sequence[Handler]:
        """What is called when a message of the service has come."""


class Rejection(NamedTuple):
    """Result, source and reason of an A-ASSOCIATE-RJ, PS3.8 table 9-21; and in words."""

    result: int
    source: int
    diagnostic: int
    words: str


class Policy:
    """Decides about associations.

    Parameters
    ----------
    acceptable
        Tells which contexts can be taken of those that are proposed for storage.
    """

    def __init__(
        self,
        settings: StoreScpSettings,
        services: Sequence[Service] = (),
        acceptable: Callable[[Sequence[Context]], Collection[Context]] = lambda proposed: proposed,
    ) -> None:
        self._settings = settings
        self._acceptable = acceptable
        self._private = frozenset(settings.private_sop_classes)
        self._services = {syntax: one for one in services for syntax in one.contexts}

    def rejection(self, request: A_ASSOCIATE, others: int) -> Rejection | None:
        """Return why a request is rejected, or None.

        Parameters
        ----------
        others
            Associations that are open already.
        """
        settings = self._settings
        if others >= settings.max_associations:
            return Rejection(2, 3, 2, "too many associations")
        if str(request.application_context_name) != _APPLICATION_CONTEXT:
            return Rejection(1, 1, 2, "application context")
        called = str(request.called_ae_title).strip()
        if settings.require_called_ae_title and called != settings.ae_title:
            return Rejection(1, 1, 7, "called AE title")
        calling = str(request.calling_ae_title).strip()
        if settings.calling_ae_titles and calling not in settings.calling_ae_titles:
            return Rejection(1, 1, 3, "calling AE title")
        return None

    def supported(self, proposed: Sequence[PresentationContext]) -> list[PresentationContext]:
        """Return the contexts to negotiate with: for storage, what is proposed and can be taken."""
        pairs = [
            Context(str(context.abstract_syntax), str(transfer_syntax))
            for context in proposed
            for transfer_syntax in context.transfer_syntax
        ]
        for_storage = [pair for pair in pairs if self.is_storage(pair.abstract_syntax)]
        taken = set(self._acceptable(for_storage)) if for_storage else set()
        supported: dict[str, PresentationContext] = {}
        for pair in pairs:
            syntax = pair.abstract_syntax
            service = self._services.get(syntax)
            if service is None and syntax != VERIFICATION and pair not in taken:
                continue
            readable = service.transfer_syntaxes if service is not None else None
            found = supported.setdefault(syntax, PresentationContext())
            found.abstract_syntax = UID(syntax)
            for transfer_syntax in readable or (pair.transfer_syntax,):
                found.add_transfer_syntax(transfer_syntax)
        return list(supported.values())

    def is_storage(self, abstract_syntax: str) -> bool:
        """Tell whether instances are taken under an abstract syntax."""
        if abstract_syntax in STORAGE or abstract_syntax in self._private:
            return abstract_syntax not in self._services
        return self._settings.unrestricted and not (
            abstract_syntax in UID_dictionary or abstract_syntax in self._services
        )

    def is_ours(self, abstract_syntax: str) -> bool:
        """Tell whether messages under it are C-STORE and C-ECHO alone."""
        return abstract_syntax == VERIFICATION or self.is_storage(abstract_syntax)
