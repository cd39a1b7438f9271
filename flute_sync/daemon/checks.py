"""What ``flute-sync check`` tries: the settings against each other, then each connection.

Nothing here writes, and nothing needs the ledger or a stopped daemon.
"""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Literal

from flute_sync.daemon.archive_access import access
from flute_sync.daemon.archive_entries import ArchiveEntry
from flute_sync.daemon.capabilities import required
from flute_sync.daemon.config import Config
from flute_sync.daemon.pseudonymity import ONE_KIND, Pseudonymity, read_pseudonyms
from flute_sync.errors import FluteSyncError
from flute_sync.fhir.candidates import LINKED_TYPES
from flute_sync.fhir.capability import Capabilities
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.patients import PATIENT
from flute_sync.fhir.queries import escaped
from flute_sync.ledger import Ledger
from flute_sync.ledger_errors import LedgerAbsent
from flute_sync.settings_errors import ListenerUnavailable, PseudonymKeyUnusable, SecretUnreadable
from flute_sync.sources.change_feed import probe as probe_feed
from flute_sync.sources.commitment_lookup import probe as probe_instances
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.http_access import AddressSettings, is_loopback
from flute_sync.sources.orthanc_changes import probe as probe_orthanc
from flute_sync.sources.store_settings import PacsSettings, StoreScpSettings
from flute_sync.transport.openid_settings import OpenIdSettings
from flute_sync.transport.secret import read_secret


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check found: in one sentence, with a hint where something is to be done."""

    check: str
    level: Literal["ok", "warning", "error"]
    sentence: str
    hint: str | None = None
    code: str | None = None
    exit_code: int = 0

    def as_dict(self) -> dict[str, str | None]:
        """Return the documented shape."""
        return {
            "check": self.check,
            "verdict": self.level,
            "sentence": self.sentence,
            "code": self.code,
            "hint": self.hint,
        }


def every_check(config: Config) -> Iterator[Verdict]:
    """Yield the verdicts in order, each as soon as it is known."""
    yield Verdict("settings", "ok", "The settings are valid.")
    yield from _advice(config)
    yield from _secrets(config)
    if config.pseudonyms.mode == "hmac":
        yield _tried("pseudonyms", lambda: _pseudonyms(config))
    yield _tried("ledger", lambda: _ledger(config))
    yield _tried("fhir", lambda: _fhir(config))
    if config.pseudonyms.mode == "hmac":
        yield _tried("pseudonyms.fhir", lambda: _identified(config))
    for entry in config.every_archive:
        yield from _archive_checks(entry, config, several=len(config.every_archive) > 1)
    if config.stow_rs.enabled or config.webhook.enabled:
        yield _listener("stow_rs" if config.stow_rs.enabled else "webhook", config.stow_rs)
    if config.store_scp.enabled:
        yield from _behind_associations(config)
        yield _tried("store_scp", lambda: _associations(config.store_scp))
    if config.console.enabled:
        yield _listener("console", config.console)
        oidc = config.console.auth.oidc
        if config.console.auth.mode == "oidc" and oidc is not None:
            yield _tried("console.auth.oidc", lambda: _openid(oidc))


def _openid(settings: OpenIdSettings) -> Verdict:
    # Few sites need the libraries that check signatures, and they take 10 MB.
    from flute_sync.transport.openid import OpenIdProvider  # noqa: PLC0415

    with closing(OpenIdProvider(settings, "")) as provider:
        provider.probe()
    return Verdict("console.auth.oidc", "ok", "It answers, and its keys can be read.")


def _archive_checks(entry: ArchiveEntry, config: Config, *, several: bool) -> Iterator[Verdict]:
    changes, find, feed = entry.orthanc_changes, entry.find_scu, entry.change_feed
    tries: list[tuple[str, Callable[[], Verdict]]] = [("archive", lambda: _archive(entry, config))]
    if find is not None and find.enabled and not entry.is_read_by_find:
        read = entry.model_copy(update={"metadata": "c-find"})
        tries.append(("find_scu", lambda: _archive(read, config)))
    if changes is not None and changes.enabled:
        tries.append(("orthanc_changes", lambda: _answers(lambda: probe_orthanc(changes))))
    if feed is not None and feed.enabled:
        url = entry.dicomweb_url
        tries.append(("change_feed", lambda: _answers(lambda: probe_feed(url, entry))))
    for check, attempt in tries:
        found = replace(_tried(check, attempt), check=check)
        yield replace(found, check=f"{check} {entry.name}") if several else found


def _behind_associations(config: Config) -> Iterator[Verdict]:
    store = config.store_scp
    pacs, archive = store.pacs, config.archive_named(store.archive)
    if pacs is not None and store.mode == "forward":
        yield _tried("store_scp.pacs", lambda: _pacs(pacs))
    if store.storage_commitment and archive is not None and not archive.is_read_by_find:
        yield _finds_instances(archive)


def _associations(settings: StoreScpSettings) -> Verdict:
    tls = settings.tls
    if tls is not None and not any(_in_service(file) for _, file in _named_secrets(dict(tls), "")):
        tls.context()
    return _listener("store_scp", settings)


def _pacs(settings: PacsSettings) -> Verdict:
    # Few sites need DIMSE, and what it is made of takes a while to load.
    from flute_sync.sources.store_pacs import probe as probe_pacs  # noqa: PLC0415

    probe_pacs(settings)
    return Verdict("store_scp.pacs", "ok", "It accepts an association.")


def _finds_instances(entry: ArchiveEntry) -> Verdict:
    check = "store_scp.storage_commitment"
    try:
        with closing(Archive(entry)) as archive:
            probe_instances(archive.search)
    except FluteSyncError as error:
        hint = "Until that is mended nothing is committed; storage_commitment = false is plainer."
        return Verdict(check, "warning", error.sentence, hint, error.code)
    return Verdict(check, "ok", "Instances can be looked up.")


def _tried(check: str, attempt: Callable[[], Verdict]) -> Verdict:
    try:
        return attempt()
    except FluteSyncError as error:
        return Verdict(check, "error", error.sentence, error.hint, error.code, error.exit_code)


def _advice(config: Config) -> Iterator[Verdict]:
    if config.site.system is None:
        yield Verdict(
            "site.system",
            "warning",
            "It is not set: Endpoints get an identifier system made from fhir.base_url.",
            "Set it to a URI or urn:oid of this site, so that a changed address changes nothing.",
        )
    if config.site.timezone is None:
        yield Verdict(
            "site.timezone",
            "warning",
            "It is not set: DICOM times without (0008,0201) become dates.",
            'Set it to the zone of the modalities, such as "Europe/Rome".',
        )
    if config.patient.default_system is None and not config.patient.systems:
        yield Verdict(
            "patient",
            "warning",
            "No identifier system is set: only Patient IDs with a universal issuer can match.",
            "Set patient.default_system, and patient.systems for other issuers.",
        )
    if config.pseudonyms.sources == ONE_KIND:
        yield Verdict(
            "pseudonyms.sources",
            "warning",
            "It is not set: the first study that is written decides, for good, whether this node"
            " takes identified or pseudonymised studies.",
            'Set it to "identified" or "pseudonymised", whichever the archives hold.',
        )
    listens = config.stow_rs.enabled or config.webhook.enabled
    if listens and config.stow_rs.insecure and not config.stow_rs.loopback:
        yield Verdict(
            "stow_rs.insecure",
            "warning",
            "Its address is open to other hosts without TLS or authentication.",
            "Set stow_rs.tls and stow_rs.auth, or put a proxy that has both in front.",
        )
    store = config.store_scp
    if store.enabled and store.insecure and not is_loopback(store.host):
        yield Verdict(
            "store_scp.insecure",
            "warning",
            "C-STORE is open to other hosts without TLS or client certificates.",
            "Set store_scp.tls with ca_file, or let a firewall choose who may connect.",
        )
    console = config.console
    if console.enabled and console.insecure and not (console.loopback or console.is_secure):
        yield Verdict(
            "console.insecure",
            "warning",
            "Patients, passwords and sessions cross the network in the clear.",
            "Set console.tls, or console.public_url to the https address of a proxy in front.",
        )


def _secrets(config: Config) -> Iterator[Verdict]:
    for name, file in _named_secrets(config.model_dump(mode="python"), ""):
        try:
            read_secret(file)
        except FluteSyncError as error:
            in_service = _in_service(file)
            yield Verdict(
                name,
                "warning" if in_service else "error",
                error.sentence,
                "A credential can be read in the service alone." if in_service else error.hint,
                error.code,
                0 if in_service else error.exit_code,
            )


def _in_service(file: str) -> bool:
    """Tell whether a file is a credential that systemd gives to the service alone."""
    return file.startswith("credential:")


def _named_secrets(settings: object, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(settings, dict):
        for name, value in settings.items():
            path = f"{prefix}.{name}" if prefix else str(name)
            if isinstance(value, str) and name.endswith("_file"):
                yield path, value
            else:
                yield from _named_secrets(value, path)
    elif isinstance(settings, tuple | list):
        for number, value in enumerate(settings, start=1):
            yield from _named_secrets(value, f"{prefix}.{number}")


def _pseudonyms(config: Config) -> Verdict:
    file = config.pseudonyms.key_file
    if file is not None and _in_service(file):
        said = "Its key is a credential, which can be read in the service alone."
        return Verdict("pseudonyms", "warning", said)
    found = read_pseudonyms(config.pseudonyms)
    key = f"Its key can be used; key id {found.key.id}." if found is not None else ""
    if config.mapping.free_text:
        hint = "Leave imaging_study.free_text out, unless nobody ever types a name there."
        return Verdict("pseudonyms", "warning", f"{key} Free text goes to FHIR as it is.", hint)
    return Verdict("pseudonyms", "ok", key)


def _ledger(config: Config) -> Verdict:
    try:
        with closing(Ledger.open(config.ledger, config.study, create=False)) as ledger:
            Pseudonymity.bind(config, ledger, only_look=True)
    except LedgerAbsent as error:
        return Verdict("ledger", "ok", f"{error.message()}; `flute-sync run` makes it.")
    except (PseudonymKeyUnusable, SecretUnreadable):
        pass  # that is told of the key itself
    return Verdict("ledger", "ok", "It is there, with the schema of this version.")


def _fhir(config: Config) -> Verdict:
    with FhirClient(config.fhir) as client:
        found = required(client, config)
    software = found.software or "a server that does not say its name"
    said = f"FHIR {found.fhir_version}, {software}."
    lacks = [*_lacking_for_links(found)] if config.links.enabled else []
    return Verdict("fhir", "warning" if lacks else "ok", " ".join([said, *lacks]))


def _identified(config: Config) -> Verdict:
    """Look for Patients with numbers of the hospital on a server that must hold none."""
    check, systems = "pseudonyms.fhir", sorted(config.hospital_systems)
    criteria = [("identifier", ",".join(f"{escaped(system)}|" for system in systems))]
    with FhirClient(config.fhir) as client:
        found = client.total(PATIENT, criteria) if systems else 0
    if found is None:
        return Verdict(check, "warning", "The FHIR server does not count what it finds.")
    if found:
        said = f"{found} Patients on the FHIR server have identifiers of the hospital."
        return Verdict(check, "warning", said, "Give them pseudonyms: `flute-sync pseudonym`.")
    return Verdict(check, "ok", "No Patient on the FHIR server has an identifier of the hospital.")


def _lacking_for_links(found: Capabilities) -> Iterator[str]:
    missing = sorted(LINKED_TYPES - found.searchable)
    if missing:
        yield f"It offers no search of {', '.join(missing)}: no such links are made."
    if "create" not in found.interactions.get("Provenance", frozenset()):
        yield "It takes no Provenance: why links are as they are is kept in the ledger alone."


def _archive(entry: ArchiveEntry, config: Config) -> Verdict:
    with ExitStack() as opened:
        found = access([entry], config.header, opened)[entry.name].reader.probe()
    if found.metadata is None:
        return Verdict("archive", "ok", "It answers; it holds no study to try the metadata on.")
    if entry.is_read_by_find:
        how = "C-FIND for instances" if found.metadata else "C-FIND, for series alone"
    else:
        how = "metadata by WADO-RS" if found.metadata else "no metadata: QIDO-RS is used instead"
    return Verdict("archive", "ok", f"It answers: {how}.")


def _answers(probe: Callable[[], None]) -> Verdict:
    probe()
    return Verdict("", "ok", "Its change feed answers.")


def _listener(name: str, settings: AddressSettings | StoreScpSettings) -> Verdict:
    """Try the address; a port in use is no error, since the running service uses it."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sentence = f"Port {settings.port} is in use: by the running service, it is to be hoped."
            return Verdict(name, "warning", sentence, "If it is not running, find out who is.")
        refused = ListenerUnavailable(f"{settings.host}, port {settings.port}: {error.strerror}")
        return Verdict(
            name, "error", refused.sentence, refused.hint, refused.code, refused.exit_code
        )
    return Verdict(name, "ok", f"{settings.host}, port {settings.port} can be listened on.")
