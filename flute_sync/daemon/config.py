"""The settings of one site: a TOML file, overridden by the environment.

Each section belongs to the module that uses it; here they are only put together and checked
against each other. ``FLUTE_SYNC_STOW_RS__PORT=8104`` overrides ``[stow_rs] port``.
"""

import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from flute_sync.completeness import StudySettings
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.daemon.archive_entries import ADDRESSED, POLLERS, ArchiveEntry
from flute_sync.daemon.audit import EraseSettings
from flute_sync.daemon.console_settings import ConsoleSettings
from flute_sync.daemon.derived_settings import DerivedSettings
from flute_sync.daemon.fetch_settings import FetchSettings
from flute_sync.daemon.removal import RemovalSettings
from flute_sync.erasure import numbering
from flute_sync.fhir.settings import FhirSettings
from flute_sync.identity import PatientSettings
from flute_sync.ledger import LedgerSettings
from flute_sync.link_settings import LinkSettings
from flute_sync.mapping import ImagingStudySettings
from flute_sync.pseudonym_settings import PseudonymSettings
from flute_sync.retry import RetrySettings
from flute_sync.selection import SelectSettings
from flute_sync.settings import SecretFile, Settings, TimeZone, Uri
from flute_sync.settings_errors import ConfigurationError
from flute_sync.sources.change_feed_settings import ChangeFeedSettings
from flute_sync.sources.find_settings import FindScuSettings
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.orthanc_settings import OrthancChangesSettings
from flute_sync.sources.poller_settings import QidoRsSettings
from flute_sync.sources.store_settings import StoreScpSettings
from flute_sync.sources.stow_settings import StowRsSettings
from flute_sync.sources.subscription_settings import SubscriptionSettings
from flute_sync.sources.webhook_settings import WebhookSettings


class SiteSettings(Settings):
    """``[site]``: where this service stands."""

    timezone: TimeZone | None = None
    """Zone of DICOM times without (0008,0201), such as "Europe/Rome"; none: they become dates."""

    system: Uri | None = None
    """The site's own identifier system, such as "urn:oid:...", under which its Endpoints are known;
    none: one that follows from ``fhir.base_url``."""

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone as a value."""
        return ZoneInfo(self.timezone) if self.timezone else None


class LogSettings(Settings):
    """``[log]``: how the log is written."""

    format: Literal["auto", "json", "logfmt", "journald"] = "auto"
    """One event a line on standard error, or to journald; auto: journald's native form under
    systemd, logfmt elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is less important is not written."""

    study_uid: Literal["clear", "hashed"] = "clear"
    """How a Study Instance UID is written; hashed: 12 hexadecimal digits of HMAC-SHA256."""

    key_file: SecretFile | None = None
    """The key of that HMAC; needed where ``study_uid`` is hashed."""

    @model_validator(mode="after")
    def _has_key(self) -> "LogSettings":
        if self.study_uid == "hashed" and self.key_file is None:
            raise ValueError('log.study_uid = "hashed" needs log.key_file')
        return self


class SyncSettings(Settings):
    """``[sync]``: how many studies are worked on at once."""

    workers: Annotated[int, Field(ge=1, le=64)] = 4
    """Studies that are worked on at once; about as many connections to the FHIR server."""


class Config(BaseSettings):
    """All settings of one site."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_prefix="FLUTE_SYNC_",
        env_nested_delimiter="__",
    )

    fhir: FhirSettings
    site: SiteSettings = SiteSettings()
    ledger: LedgerSettings = LedgerSettings()
    archive: ArchiveEntry | None = None
    archives: tuple[ArchiveEntry, ...] = ()
    stow_rs: StowRsSettings = StowRsSettings()
    store_scp: StoreScpSettings = StoreScpSettings()
    webhook: WebhookSettings = WebhookSettings()
    subscription: SubscriptionSettings = SubscriptionSettings()
    qido_rs: QidoRsSettings = QidoRsSettings()
    find_scu: FindScuSettings = FindScuSettings()
    orthanc_changes: OrthancChangesSettings = OrthancChangesSettings()
    change_feed: ChangeFeedSettings = ChangeFeedSettings()
    header: HeaderSettings = HeaderSettings()
    study: StudySettings = StudySettings()
    select: SelectSettings = SelectSettings()
    patient: PatientSettings = PatientSettings()
    pseudonyms: PseudonymSettings = PseudonymSettings()
    imaging_study: ImagingStudySettings = ImagingStudySettings()
    links: LinkSettings = LinkSettings()
    derived: DerivedSettings = DerivedSettings()
    criteria: CriteriaSettings = CriteriaSettings()
    removal: RemovalSettings = RemovalSettings()
    erase: EraseSettings = EraseSettings()
    retry: RetrySettings = RetrySettings()
    sync: SyncSettings = SyncSettings()
    fetch: FetchSettings = FetchSettings()
    console: ConsoleSettings = ConsoleSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        told = self.stow_rs.enabled or self.webhook.enabled
        heard = told or self.store_scp.enabled
        if not (heard or any(entry.is_watched for entry in self.every_archive)):
            raise ValueError("no source is enabled: set enabled = true in [stow_rs] or another")
        own, console = self.stow_rs, self.console
        listens = told or self.subscription.enabled
        both = listens and console.enabled and own.port != 0
        if both and (own.host, own.port) == (console.host, console.port):
            raise ValueError("stow_rs.port and console.port are the same")
        if own.enabled and any(map(self._leads_back, self._behind_uploads())):
            raise ValueError("archive.dicomweb_url is the address of [stow_rs] itself")
        return self

    @model_validator(mode="after")
    def _paths_differ(self) -> "Config":
        own, webhook, subscription = self.stow_rs, self.webhook, self.subscription
        for name, section in (("webhook", webhook), ("subscription", subscription)):
            if own.enabled and section.path.startswith(f"{own.path}/studies"):
                raise ValueError(f"{name}.path is an address of [stow_rs]")
        both = webhook.enabled and subscription.enabled
        if both and f"{webhook.path}/".startswith(f"{subscription.path}/"):
            raise ValueError("webhook.path is an address of [subscription]")
        return self

    @model_validator(mode="after")
    def _archives_fit_together(self) -> "Config":
        names = [entry.name for entry in self.archives]
        if self.archive is not None and self.archives:
            raise ValueError("[archive] and [[archives]] exclude each other")
        if len(set(names)) < len(names):
            raise ValueError("archives: each needs a name of its own")
        own_find = all(entry.find_scu or not entry.is_read_by_find for entry in self.archives)
        if len(names) > 1 and not own_find:
            raise ValueError('archives: metadata = "c-find" needs a find_scu of its own')
        for name in ADDRESSED:
            if len(names) > 1 and getattr(self, name).enabled:
                raise ValueError(f"[{name}] serves one archive: write it as [archives.{name}]")
        for section, named in (("stow_rs", self.stow_rs), ("store_scp", self.store_scp)):
            if named.archive is not None and self.archive_named(named.archive) is None:
                raise ValueError(f"{section}.archive names no archive")
        return self

    @model_validator(mode="after")
    def _pseudonyms_hide(self) -> "Config":
        if self.pseudonyms.mode == "off":
            return self
        for name in ("referrer", "interpreter", "location", "performer"):
            if getattr(self.imaging_study, name):
                raise ValueError(
                    f"imaging_study.{name} names people or places: not with pseudonyms"
                )
        if self.pseudonyms.system in self.hospital_systems:
            raise ValueError("pseudonyms.system is a system of the hospital's own identifiers")
        return self

    @property
    def hospital_systems(self) -> frozenset[str]:
        """The identifier systems of Patient IDs, as far as settings name them."""
        every = self.every_patient
        stated = {system for one in every for system in (one.default_system, *one.systems.values())}
        return frozenset(system for system in stated if system is not None)

    @property
    def every_patient(self) -> tuple[PatientSettings, ...]:
        """How patients are identified: the site's own settings, and those of its archives."""
        own = (entry.patient_settings(self.patient) for entry in self.every_archive)
        return (self.patient, *own)

    @property
    def numbering(self) -> str:
        """A digest of what Patient IDs mean."""
        return numbering(self.every_patient)

    @property
    def mapping(self) -> ImagingStudySettings:
        """``imaging_study`` in force: where FHIR holds pseudonyms, it says so and keeps no text."""
        given, update = self.imaging_study, dict[str, object]()
        if self.pseudonyms.is_pseudonymous:
            if given.deidentification == "none":
                update["deidentification"] = "pseudonymised"
            if "free_text" not in given.model_fields_set:
                update["free_text"] = False
        if self.pseudonyms.mode == "hmac" and given.study_id_system is not None:
            update["study_id_system"] = self.pseudonyms.system
        return given.model_copy(update=update)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file; nothing else is looked at."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    def _behind_uploads(self) -> Iterator[str | None]:
        """Yield the names of the archives to which instances go on by STOW-RS."""
        stow, store = self.stow_rs, self.store_scp
        if stow.enabled and stow.mode == "forward":
            yield stow.archive
        if store.enabled and store.mode == "forward" and store.way == "stow-rs":
            yield store.archive

    def _leads_back(self, name: str | None) -> bool:
        behind = self.archive_named(name)
        if behind is None:
            return False
        archive = urlsplit(behind.dicomweb_url)
        here = {self.stow_rs.host, "127.0.0.1", "localhost", "::1"}
        return archive.hostname in here and archive.port == self.stow_rs.port

    @property
    def every_archive(self) -> tuple[ArchiveEntry, ...]:
        """The archives to read from, with the pollers of each; none where nothing is behind us."""
        stated = (self.archive,) if self.archive is not None else self.archives
        shared: dict[str, Settings] = {name: getattr(self, name) for name in POLLERS}
        found = tuple(entry.watched_by(shared) for entry in stated)
        alone = ArchiveEntry().watched_by(shared)
        stow, store = self.stow_rs, self.store_scp
        forwards = stow.enabled and stow.mode == "forward"
        needs_one = store.enabled and store.mode == "forward"
        read = forwards or needs_one or self.webhook.enabled or alone.is_watched
        return found or ((alone,) if read else ())

    def archive_named(self, name: str | None) -> ArchiveEntry | None:
        """Return an archive by its name, the first where none is named; None: there is none."""
        named = [entry for entry in self.every_archive if name in (None, entry.name)]
        return named[0] if named else None

    @property
    def identifier_system(self) -> str:
        """``site.system``, or one that follows from the FHIR server's address."""
        if self.site.system is not None:
            return self.site.system
        return uuid.uuid5(uuid.NAMESPACE_URL, self.fhir.base_url).urn


def load(path: Path | None) -> Config:
    """Read the settings.

    Parameters
    ----------
    path
        The TOML file; None reads the environment alone.

    Raises
    ------
    ConfigurationError
        Names each setting that is wrong and why, never its value; or the file cannot be read.
    """
    _check_readable(path)

    class FromFile(Config):
        model_config = SettingsConfigDict(toml_file=path)

    try:
        return FromFile()
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    except SettingsError as error:
        raise ConfigurationError(f"the environment: {error}") from None


def _check_readable(path: Path | None) -> None:
    if path is None:
        return
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None


def _explain(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{where}: {message}" if where else message)
    return "; ".join(problems)
