"""Write the parts of the documentation that the code already knows.

``python scripts/generate_docs.py`` writes docs/settings.md, docs/errors.md, docs/log-events.md,
docs/metrics.md and systemd/flute-sync.toml; with ``--check`` it only says whether they are current.
What a setting means is the docstring under its attribute, what an error means is its class's.
"""

import sys
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from flute_sync.console.metrics import METRICS
from flute_sync.daemon.config import Config
from flute_sync.errors import FluteSyncError, OperatorError, TransientError, every_error
from flute_sync.events import FIELDS, Event

ROOT = Path(__file__).resolve().parent.parent
NOTICE = "<!-- Written by scripts/generate_docs.py from the code; edit the docstrings there. -->\n"


def models(annotation: Any) -> list[type[BaseModel]]:
    """Find the settings classes an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models(part)]


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield each section of the settings with its class, in the order of `Config`."""
    for name, field in Config.model_fields.items():
        for model in models(field.annotation):
            yield name, model


def duration(value: timedelta) -> str:
    """Write a duration as people do."""
    seconds = value.total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f'"{int(seconds // size)}{unit}"'
    return f'"{int(seconds * 1000)}ms"' if seconds < 1 and seconds else f'"{int(seconds)}s"'


def default(field: FieldInfo) -> str | None:
    """Write a field's default as TOML, or None where it has none."""
    return literal(field.get_default(call_default_factory=True))


def literal(value: Any) -> str | None:
    """Write a value as TOML."""
    if value is None or value is PydanticUndefined:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, BaseModel):
        pairs = ((name, literal(getattr(value, name))) for name in type(value).model_fields)
        return "{ " + ", ".join(f"{name} = {text}" for name, text in pairs if text) + " }"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f'"{k}" = {literal(v)}' for k, v in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, tuple | list | set | frozenset):
        return "[" + ", ".join(text for item in value if (text := literal(item))) + "]"
    return f'"{value}"'


def summary(model: type[BaseModel]) -> str:
    """Return a settings class's docstring as one block of text."""
    return textwrap.dedent(model.__doc__ or "").strip()


def settings_page() -> str:
    """docs/settings.md."""
    out = [
        "# Settings\n",
        NOTICE,
        "One TOML file; `flute-sync check --config FILE` tells whether it is right. Every setting "
        "can be overridden by the environment: `FLUTE_SYNC_STOW_RS__PORT=8104` for `[stow_rs] "
        "port`; lists and tables are given there as JSON. Unknown settings are errors. Durations "
        'are `"30s"`, `"15m"`, `"1h30m"` or ISO 8601 (`"PT15M"`); sizes are bytes. A secret is '
        "never a value: it is an absolute file name, or `credential:NAME` for a systemd "
        "credential.\n",
    ]
    for name, model in sections():
        out.append(f"\n## `[{name}]`\n\n{summary(model)}\n")
        out.append("\n| setting | default | meaning |\n| --- | --- | --- |\n")
        out.extend(rows(name, model))
    return "\n".join(text.rstrip("\n") if text.startswith("|") else text for text in out)


def rows(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    """Yield a table row per field, and those of nested tables under their full name."""
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        shown = default(field)
        text = f"`{shown}`" if shown else ("required" if field.is_required() else "none")
        yield f"| `{prefix}.{name}` | {text} | {meaning} |"
        for nested in models(field.annotation):
            label = nested.model_fields.get("mode") or nested.model_fields.get("kind")
            if label is not None:
                yield f"| `{prefix}.{name}`: `{literal(label.default)}` | | {summary(nested).splitlines()[0]} |"
            yield from (row for row in rows(f"{prefix}.{name}", nested))


def settings_file() -> str:
    """systemd/flute-sync.toml: every setting, commented out, with its default."""
    out = [
        "# Settings of flute-sync. Written by scripts/generate_docs.py; every setting with its default,",
        "# commented out. Only [fhir] and one source are needed. docs/settings.md says more.",
        "# Try it with: flute-sync check --config /etc/flute-sync/flute-sync.toml",
    ]
    for name, model in sections():
        out.append("")
        out.extend(f"# {line}".rstrip() for line in summary(model).splitlines()[:1])
        out.append(f"[{name}]" if name == "fhir" else f"#[{name}]")
        for key, field in model.model_fields.items():
            meaning = " ".join((field.description or "").split())
            out.extend(textwrap.wrap(meaning, 96, initial_indent="# ", subsequent_indent="# "))
            shown = default(field)
            if name == "fhir" and key == "base_url":
                out.append('base_url = "http://127.0.0.1:8080/fhir"')
            else:
                out.append(f"#{key} = {shown}" if shown else f"#{key} =")
    return "\n".join(out) + "\n"


def errors_page() -> str:
    """docs/errors.md."""
    out = [
        "# Operations by error code\n",
        NOTICE,
        "An error has a stable code. `flute-sync study UID` and the log show it. *Kind* says what "
        "happens by itself: **temporary** is tried again; **held** waits until the cause is mended "
        "and `flute-sync retry UID` is given (or what it waits for arrives); **operator** waits for "
        "a person and then goes on. The last three columns are what a STOW-RS client, a C-STORE "
        "sender and a shell see.\n",
        "| code | kind | what it means | what to do | HTTP | DIMSE | exit |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    out.extend(
        f"| `{error.code}` | {kind(error)} | {error.message()} | {error.hint} | "
        f"{error.http_status} | {error.dimse_status:04X} | {error.exit_code} |"
        for error in sorted(every_error(), key=lambda error: error.code)
    )
    return "\n".join(out) + "\n"


def kind(error: type[FluteSyncError]) -> str:
    """Say in one word what happens by itself."""
    if issubclass(error, TransientError):
        return "temporary"
    return "operator" if issubclass(error, OperatorError) else "held"


def events_page() -> str:
    """docs/log-events.md."""
    out = [
        "# Log events\n",
        NOTICE,
        "A log line is an event name, fields from the list below and one sentence. It never holds a "
        "name, an identifier, a birth date, an accession number, free text, a body or a token.\n",
        "| event | meaning |",
        "| --- | --- |",
    ]
    out.extend(f"| `{event.value}` | {event.meaning} |" for event in Event)
    out.append("\n## Fields\n")
    out.append(", ".join(f"`{name}`" for name in sorted(FIELDS)) + ".")
    return "\n".join(out) + "\n"


def metrics_page() -> str:
    """docs/metrics.md."""
    out = [
        "# Metrics\n",
        NOTICE,
        "`GET /metrics` on the console's address, in the Prometheus text format. No label holds "
        "patient data.\n",
        "| metric | type | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    out.extend(
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels) or '-'} | {metric.meaning} |"
        for metric in METRICS
    )
    return "\n".join(out) + "\n"


PAGES = {
    "docs/settings.md": settings_page,
    "docs/errors.md": errors_page,
    "docs/log-events.md": events_page,
    "docs/metrics.md": metrics_page,
    "systemd/flute-sync.toml": settings_file,
}


def main(arguments: list[str]) -> int:
    """Write or check every page; return an exit code."""
    stale = []
    for name, page in PAGES.items():
        path, text = ROOT / name, page()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    if "--check" in arguments and stale:
        print(f"not current: {', '.join(stale)}; run python scripts/generate_docs.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
