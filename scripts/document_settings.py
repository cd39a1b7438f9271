"""The settings as the documentation tells them: tables for docs/, and a file to begin with."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from flute_sync.daemon.config import Config
from flute_sync.settings import HttpUrl, SecretFile, Settings, Uri
from scripts.markdown import prose, table

SIGNS: Final = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}

# -- settings: what is there -----------------------------------------------------------------


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield each section of the settings with its class, in the order of `Config`.

    A section that repeats the settings of another one is left to that one's description.
    """
    told = set()
    for name, field in Config.model_fields.items():
        model = models(field.annotation)[0]
        if model not in told:
            told.add(model)
            yield name, model


def models(annotation: Any) -> list[type[BaseModel]]:
    """Find the settings classes that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models(part)]


def is_credentials(field: FieldInfo) -> bool:
    """Tell whether a field is a table whose ``method`` decides what it holds."""
    return len(models(field.annotation)) > 1


def is_section(model: type[BaseModel]) -> bool:
    """Tell whether a table has a section of its own, where its settings are described."""
    return any(model is one for _, one in sections())


def credentials() -> dict[str, type[BaseModel]]:
    """Return the settings classes of all credentials by their method."""
    found: dict[str, type[BaseModel]] = {}
    for _, model in sections():
        for field in filter(is_credentials, model.model_fields.values()):
            found |= {method(one): one for one in models(field.annotation)}
    return found


def method(model: type[BaseModel]) -> str:
    """Return the method of a class of credentials."""
    return str(get_args(model.model_fields["method"].annotation)[0])


def own_first(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the settings of a class, its own before those that it shares with others."""
    names = [name for one in model.__mro__ for name in getattr(one, "__annotations__", {})]
    return {name: model.model_fields[name] for name in names if name in model.model_fields}


def fields_of(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo, str]]:
    """Yield every setting of a section: full name, field, meaning; those of inner tables too."""
    for name, field in own_first(model).items():
        yield f"{prefix}.{name}", field, meaning(model, name)
        inner = models(field.annotation)
        if len(inner) == 1 and not is_section(inner[0]):
            yield from fields_of(f"{prefix}.{name}", inner[0])


def every_setting() -> Iterator[str]:
    """Yield the full name of every setting; those of credentials as ``auth.user``."""
    for section, model in sections():
        yield from (name for name, _, _ in fields_of(section, model))
    for model in credentials().values():
        yield from (f"auth.{name}" for name in model.model_fields)


# -- settings: what they mean ----------------------------------------------------------------


def meaning(model: type[BaseModel], name: str) -> str:
    """Say what a setting is for: its description, or the docstring below it.

    The program does not know the docstrings: it would have to read its source whenever it starts.
    """
    stated = model.model_fields[name].description
    return prose(
        stated or next(said[name] for said in map(docstrings, model.__mro__) if name in said)
    )


@cache
def docstrings(model: type) -> dict[str, str]:
    """Return the docstrings below the settings that a class states itself."""
    if not issubclass(model, Settings):
        return {}
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        stated.target.id: below.value.value
        for stated, below in pairwise(body.body)
        if isinstance(stated, ast.AnnAssign) and isinstance(stated.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    }


# -- settings: how they are written ----------------------------------------------------------


def default(field: FieldInfo) -> str | None:
    """Write a field's default as TOML, or None where it has none."""
    return literal(field.get_default(call_default_factory=True, validated_data={}))


def literal(value: Any) -> str | None:
    """Write a value as TOML; None where TOML has no word for it."""
    if value is None or value is PydanticUndefined:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return f'"{duration(value)}"'
    if isinstance(value, BaseModel):
        return literal(value.model_dump(mode="python", exclude_none=True))
    if isinstance(value, Mapping):
        pairs = [f"{name} = {literal(one)}" for name, one in value.items()]
        return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(str(literal(item)) for item in value) + "]"
    return str(value) if isinstance(value, int | float | date) else f'"{value}"'


def duration(value: timedelta) -> str:
    """Write a duration as people do, in its largest whole unit."""
    milliseconds = value // timedelta(milliseconds=1)
    units = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
    unit = next(unit for unit, size in units.items() if milliseconds % size == 0 and milliseconds)
    return f"{milliseconds // units[unit]}{unit}"


def shown_default(field: FieldInfo) -> str:
    """Write a default for a reader."""
    if field.is_required():
        return "required"
    text = default(field)
    if text is None:
        return "none"
    return f"`{text}`{size(int(text))}" if text.isdigit() else f"`{text}`"


def size(number: int) -> str:
    """Say a large power of two in its unit, nothing of other numbers."""
    for unit, one in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if number >= one and number % one == 0:
            return f" ({number // one} {unit})"
    return ""


def type_of(name: str, annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """Say what values a setting takes, with their range."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_of(name, arguments[0], (*metadata, *arguments[1:]))
    if origin in (Union, UnionType):
        stated = [one for one in arguments if one is not NoneType]
        return "table" if len(stated) > 1 else type_of(name, stated[0], metadata)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin is tuple:
        return f"list of {type_of(name, arguments[0])}"
    if origin is not None:
        return f"table of {type_of(name, arguments[1])}"
    return plain_type(name, annotation, metadata)


def plain_type(name: str, annotation: type, metadata: tuple[Any, ...]) -> str:
    """Say what a single value is."""
    if annotation is str:
        return text_type(metadata)
    if annotation is int:
        return ("bytes" if name.endswith("_bytes") else "integer") + bounds(metadata)
    known = {bool: "boolean", float: "number", timedelta: "duration", date: "day"}
    return known.get(annotation, "table") + bounds(metadata)


def text_type(metadata: tuple[Any, ...]) -> str:
    """Say which kind of text a pattern means."""
    patterns = set(patterns_in(metadata))
    kinds = {"file": SecretFile, "address": HttpUrl, "URI": Uri}
    for kind, alias in kinds.items():
        if patterns & set(patterns_in(get_args(alias)[1:])):
            return kind
    return "text"


def patterns_in(metadata: tuple[Any, ...]) -> Iterator[str]:
    """Yield the regular expressions among the constraints of a type."""
    for one in metadata:
        if isinstance(one, FieldInfo):
            yield from patterns_in(tuple(one.metadata))
        elif getattr(one, "pattern", None):
            yield one.pattern


def bounds(metadata: tuple[Any, ...]) -> str:
    """Say between which values a setting lies."""
    texts = []
    for one in metadata:
        if isinstance(one, FieldInfo):
            texts.append(bounds(tuple(one.metadata)))
        for name, sign in SIGNS.items():
            limit = getattr(one, name, None)
            if limit is not None and (sign, limit) != ("≥", timedelta(0)):
                texts.append(f" {sign} {value_in(limit)}")
    return "".join(dict.fromkeys(texts))


def value_in(value: object) -> str:
    """Write a bound."""
    if isinstance(value, timedelta):
        return duration(value) if value else "0"
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)


def summary(model: type[BaseModel]) -> str:
    """Return what a section is for: the docstring of its class, without the section's name."""
    text = re.sub(r"^``\[\w+\]``: ", "", textwrap.dedent(model.__doc__ or "").strip())
    return "\n\n".join(prose(paragraph) for paragraph in text.split("\n\n"))


# -- blocks of docs/settings.md ---------------------------------------------------------------


def settings_block() -> str:
    """Every section with its settings."""
    return "\n".join(
        f"## `[{name}]`\n\n{summary(model)}\n\n"
        + table("setting, type, default, meaning", setting_rows(name, model))
        for name, model in sections()
    )


def setting_rows(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each setting."""
    for name, field, said in fields_of(prefix, model):
        if is_credentials(field):
            methods = ", ".join(f"`{method(one)}`" for one in models(field.annotation))
            kind = f"table, [`method`](#credentials) one of {methods}"
        else:
            kind = type_of(name, field.annotation, tuple(field.metadata))
        yield f"`{name}`", kind, shown_default(field), said


def credentials_block() -> str:
    """The tables that ``auth`` may be."""
    return "\n".join(
        f'**`method = "{name}"`.** {summary(model)}\n\n'
        + table(
            "setting, type, default, meaning",
            (
                (
                    f"`auth.{key}`",
                    type_of(key, field.annotation, tuple(field.metadata)),
                    shown_default(field),
                    meaning(model, key),
                )
                for key, field in model.model_fields.items()
                if key != "method"
            ),
        )
        for name, model in credentials().items()
        if name != "none"
    )


# -- systemd/flute-sync.toml -----------------------------------------------------------------


def settings_file() -> str:
    """Every setting with its default, commented out."""
    out = [
        "# Settings of flute-sync, every one with its default, commented out: `#key = value`.",
        "# A line without a value (`#key =`) has none unless you give one. Take the # from the",
        "# section's name too when you use a setting of it. Only [fhir] and one source are needed.",
        "# docs/settings.md says more; `flute-sync check` tells whether this file is right.",
        "# Written by scripts/generate_docs.py.",
    ]
    for name, model in sections():
        title = summary(model).replace("`", "").split("\n\n")[0]
        out += ["", *comment(title), f"[{name}]" if name == "fhir" else f"#[{name}]"]
        for key, field in own_first(model).items():
            out += [
                "",
                *comment(meaning(model, key).replace("`", "")),
                *comment(inside(field)),
            ]
            out.append(line(key, field))
    return "\n".join(out) + "\n"


def comment(text: str) -> list[str]:
    """Wrap a text as TOML comments."""
    return textwrap.wrap(text, 98, initial_indent="# ", subsequent_indent="# ")


def inside(field: FieldInfo) -> str:
    """Say what a table holds."""
    found = models(field.annotation)
    if not is_credentials(field):
        return f"A table of {keys(found[0])}." if found else ""
    ways = (f'"{method(one)}" with {keys(one)}' for one in found if len(one.model_fields) > 1)
    return f'A table whose method is "none", or {"; ".join(ways)}.'


def keys(model: type[BaseModel]) -> str:
    """Name the settings of a table; those in brackets may be left out."""
    return ", ".join(
        key(name, field) for name, field in model.model_fields.items() if name != "method"
    )


def key(name: str, field: FieldInfo) -> str:
    """Name a setting of a table, and what it holds where it is a table too."""
    found = models(field.annotation)
    named = f"{name} with {keys(found[0])}" if len(found) == 1 else name
    return named if field.is_required() else f"[{named}]"


def line(key: str, field: FieldInfo) -> str:
    """Write a setting; the one that every site must give is not commented out."""
    if field.is_required() and key == "base_url":
        return 'base_url = "http://127.0.0.1:8080/fhir"'
    return f"#{key} = {default(field) or ''}".rstrip()
