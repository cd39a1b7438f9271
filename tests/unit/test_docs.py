"""The documentation is true: it names all there is, and what it shows works."""

import dataclasses
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
import orjson
import pytest
from pydantic import BaseModel

from flute_sync import errors
from flute_sync.console import cli as console
from flute_sync.console.metrics import METRICS
from flute_sync.console.verbs import explain
from flute_sync.console.verbs.study import as_dict
from flute_sync.daemon.config import Config, load
from flute_sync.events import FIELDS, Event
from flute_sync.ledger import LinkDecision, LinkRow, LinkView, StudyView
from flute_sync.ledger.ask import WAITING_FOR_PATIENT, ArchiveView, EventView
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State
from scripts import document_settings, generate_docs
from tests.studies import header, series_of, study_of

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
HEADER_REMARKS = "flute_sync/sources/header_elements.py"
SPAN = re.compile(r"`(?:flute-sync) ([^`]+)`")
VERBS = "|".join(console.VERBS)
LINE = re.compile(
    rf"(?:^(?:sudo -u flute-sync )?|\s/\S+/)flute-sync ((?:{VERBS}|--)\b[^|>\n]*)", re.MULTILINE
)
SETTING = re.compile(r"^#([a-z_]+) =(.*)$", re.MULTILINE)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def fences(page: Path, language: str) -> list[str]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [body for kind, body in found if kind == language]


def every(pattern: str) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob(pattern)))


def settings(prefix: str, annotation: object) -> Iterator[str]:
    """Every setting by its full name; those of a choice of tables under the field's own name."""
    found = list(models(annotation))
    for model in found:
        if "." in prefix and model in SECTIONS:
            continue  # told once, under its own name
        place = prefix.rpartition(".")[2] if len(found) > 1 else prefix
        for name, field in model.model_fields.items():
            yield f"{place}.{name}"
            yield from settings(f"{prefix}.{name}", field.annotation)


def models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models(part)


SECTIONS = {
    model: name
    for name, field in reversed(Config.model_fields.items())
    for model in models(field.annotation)
}
SETTINGS = sorted(
    {
        name
        for section, field in Config.model_fields.items()
        if section in SECTIONS.values()
        for name in settings(section, field.annotation)
    }
)


def commands(group: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    if not isinstance(group, click.Group):
        yield name, group
        return
    context = click.Context(group)
    for verb in group.list_commands(context):
        inner = group.get_command(context, verb)
        assert inner is not None
        yield from commands(inner, f"{name} {verb}".strip())


# -- what is written from the code -----------------------------------------------------------


def test_what_is_written_from_the_code_is_current() -> None:
    # In a process of its own: click keeps what the first use of a verb made of its options.
    command = [sys.executable, "-m", "scripts.generate_docs", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_is_documented(setting: str) -> None:
    rows = [row for row in text("docs/settings.md").splitlines() if f"`{setting}`" in row]
    assert rows
    assert all(row.split(" | ")[-1].strip(" |.") for row in rows if row.startswith("| "))


def test_the_generator_and_this_test_see_the_same_settings() -> None:
    assert sorted({*document_settings.every_setting()}) == SETTINGS


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_is_in_the_settings_file(setting: str) -> None:
    section, _, rest = setting.partition(".")
    whole = text("systemd/flute-sync.toml")
    if section in Config.model_fields:
        whole = re.split(rf"^#?\[{section}\]$", whole, flags=re.MULTILINE)[1]
        whole = re.split(r"^#?\[[a-z_]+\]$", whole, flags=re.MULTILINE)[0]
    assert re.search(rf"\b{rest.rpartition('.')[2]}\b", whole)


def test_the_settings_file_is_right_as_it_is_and_with_every_default(tmp_path: Path) -> None:
    shipped = text("systemd/flute-sync.toml")
    plain = load(ROOT / "systemd/flute-sync.toml")
    uncommented = re.sub(r"^#(\[|[a-z_]+ = .)", r"\1", shipped, flags=re.MULTILINE)
    assert len(SETTING.findall(uncommented)) < len(SETTING.findall(shipped)) / 3
    file = tmp_path / "all.toml"
    file.write_text(uncommented, encoding="utf-8")
    whole = load(file)
    assert (whole.every_archive, whole.stow_rs) == (plain.every_archive, plain.stow_rs)
    bare = whole.model_copy(update={"archive": None})
    assert bare.model_dump() == plain.model_dump()


@pytest.mark.parametrize(("name", "command"), list(commands(console.cli)))
def test_every_verb_and_option_is_documented(name: str, command: click.Command) -> None:
    section = text("docs/commands.md").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    options = [option for parameter in command.params for option in parameter.opts]
    missing = [one for one in options if one.startswith("-") and one not in section]
    assert section
    assert missing == []


def test_every_event_and_field_is_documented() -> None:
    page = text("docs/log-events.md")
    assert [event.value for event in Event if f"`{event.value}`" not in page] == []
    assert [name for name in FIELDS if f"`{name}`" not in page] == []


def test_every_metric_is_documented() -> None:
    page = text("docs/metrics.md")
    names = [name for metric in METRICS for name in (metric.name, *metric.labels)]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_error_is_documented() -> None:
    page = text("docs/errors.md")
    assert [error.code for error in generate_docs.errors() if f"`{error.code}`" not in page] == []


def test_every_exit_code_is_documented() -> None:
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    codes |= {value for name, value in vars(console).items() if name.startswith("EXIT_")}
    codes |= {error.exit_code for error in generate_docs.errors()} | {click.UsageError.exit_code}
    section = text("docs/commands.md").partition("## Exit codes")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == codes


def test_every_remark_is_documented() -> None:
    page = text("docs/conformance.md").partition("### Remarks")[2].partition("\n## ")[0]
    source = every("flute_sync/*.py")
    codes = set(re.findall(r'\.add\(\s*"([a-z-]+)"', source))
    codes |= set(re.findall(r'"(modality-[a-z]+)"', source))
    codes |= set(re.findall(r'= "([a-z]+(?:-[a-z]+)+)"$', text(HEADER_REMARKS), re.MULTILINE))
    assert len(codes) > 15
    assert {code for code in codes if f"`{code}`" not in page} == set()


# -- what is written by hand -----------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(f"{target}#{anchor}")
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.exists():
            reached.add(page)
            links = LINK.findall(page.read_text(encoding="utf-8"))
            waiting += [(page.parent / target).resolve() for target, _ in links if target]
    assert [page.name for page in DOCS if page not in reached] == []


def shown_commands(page: Path) -> list[str]:
    """Those in `spans`, whatever their verb, and those on lines of a shell."""
    whole = page.read_text(encoding="utf-8")
    lines = [
        line
        for kind, body in FENCE.findall(whole)
        if kind not in ("json", "toml")
        for line in body.replace("\\\n", " ").splitlines()
        if not line.startswith(("Usage:", " "))
    ]
    spans = [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", whole))]
    return [one for one in [*spans, *LINE.findall("\n".join(lines))] if one != "VERB"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_shown_can_be_given(page: Path) -> None:
    for shown in shown_commands(page):
        arguments = shlex.split(shown, comments=True)
        command: click.Command = console.cli
        context = click.Context(command, **command.context_settings)
        while isinstance(command, click.Group):
            inner = command.get_command(context, arguments[0]) if arguments else None
            assert inner is not None, shown
            command, arguments = inner, arguments[1:]
        command.make_context(shown, arguments or list(wanted(command)), context)


def wanted(command: click.Command) -> Iterator[str]:
    """What a command cannot do without."""
    for one in (each for each in command.params if each.required):
        if isinstance(one, click.Option):
            yield one.opts[0]
        yield one.type.choices[0] if isinstance(one.type, click.Choice) else "1.2.3"


def test_commands_are_shown() -> None:
    assert sum(len(shown_commands(page)) for page in PAGES) > 30


SNIPPETS = [(page.name, body) for page in PAGES for body in fences(page, "toml")]


@pytest.mark.parametrize(("name", "body"), SNIPPETS)
def test_settings_that_are_shown_are_right(name: str, body: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(body, encoding="utf-8")
    assert tomllib.loads(body)
    load(file)


def examples(verb: str) -> list[object]:
    section = text("docs/commands.md").partition(f"\n## {verb}\n")[2].partition("\n## ")[0]
    return [orjson.loads(body) for kind, body in FENCE.findall(section) if kind == "json"]


def test_json_that_is_shown_can_be_read() -> None:
    for page in PAGES:
        for body in fences(page, "json"):
            orjson.loads(body)


def test_the_example_of_status_has_the_shape() -> None:
    (shown,) = examples("status")
    assert isinstance(shown, dict)
    assert list(shown) == ["counts", "oldest_unsynced_seconds", "series", "instances"]
    assert [*shown["counts"]] == [*(state.value for state in State), WAITING_FOR_PATIENT]


def test_the_example_of_study_has_the_shape() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    values: dict[str, Any] = {field.name: None for field in dataclasses.fields(StudyView)}
    values |= {
        "study_instance_uid": StudyInstanceUID("1.2.3"),
        "fhir_reference": "ImagingStudy/1",
        "received_at": now,
        "archives": (ArchiveView("pacs", 1, 1, False, False, None),),
        "events": (EventView(now, "study.synced", "", None),),
    }
    view = StudyView(**values)
    kind: dict[str, Any] = {"modality": "MR", "image_type": ("ORIGINAL", "PRIMARY", "DIFFUSION")}
    diffusion = header(number=4, diffusion_b_value=800.0, **kind)
    shown, explained = examples("study")
    assert shape(shown) == shape(as_dict(view, study_of(series_of(4, diffusion))))
    row = LinkRow("", "", "", "", "", ("display",), "2024-05-31", "2024-05-31")
    decision = LinkDecision(StudyInstanceUID("1.2.3"), "", "add", "", now)
    links = LinkView(StudyInstanceUID("1.2.3"), (row._replace(taken=True), row), (decision,))
    told = explain.as_dict(links)
    assert isinstance(explained, dict)
    assert explained["links"][0].keys() == told["refused"][0].keys()
    assert shape(explained | {"refused": explained["links"]}) == shape(told)


def shape(value: object) -> object:
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(value[0])] if isinstance(value, list) else None


def test_the_folders_of_the_design_are_the_real_ones() -> None:
    shown = set(re.findall(r"^### `(flute_sync/[a-z_/]*)`$", text("docs/design.md"), re.MULTILINE))
    folders = {path.parent for path in (ROOT / "flute_sync").rglob("*.py")}
    assert shown == {f"{folder.relative_to(ROOT).as_posix()}/" for folder in folders}


def test_every_module_is_in_the_design() -> None:
    listing = text("docs/design.md").partition("## The folders")[2]
    modules = {path.name for path in (ROOT / "flute_sync").rglob("*.py")} - {"__init__.py"}
    assert {name for name in modules if f"| `{name}` |" not in listing} == set()


def test_every_promise_has_its_test() -> None:
    promises = text("docs/design.md").partition("## Promises")[2].partition("\n## ")[0]
    tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", promises)
    assert len(tests) >= promises.count("\n| ") - 2
    assert [
        f"{file}::{name}"
        for file, name in tests
        if not (ROOT / file).exists() or f"def {name}(" not in text(file)
    ] == []


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    extras = [one for found in project["optional-dependencies"].values() for one in found]
    names = {re.split(r"[\[><=~ ]", one)[0] for one in [*project["dependencies"], *extras]}
    rows = re.findall(r"^\| ([\w.-]+)", text("docs/dependencies.md"), re.MULTILINE)
    assert {*rows} - {"distribution", "---"} == names
