"""The rules of the layout that no other tool checks."""

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "flute_sync"
MAX_MODULE_LINES = 400
MAX_MEDIAN_MODULE_LINES = 150
MAX_FUNCTION_LINES = 60
MIN_ROOT_DOCSTRING_SHARE = 0.9

# Put together here, so that this file is not its own finding.
REGISTRIES = ["py" + "pi.org", "python" + "hosted", "repo." + "maven", "registry." + "npmjs"]
OPTIONS = ["--index" + "-url", "--extra-index" + "-url", "--find" + "-links"]
WORKPLACE = ["../" + "shared", "/" + "work/"]


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).exists()]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_modules_are_short() -> None:
    sizes = {name(path): lines(path) for path in modules()}
    assert {module: size for module, size in sizes.items() if size > MAX_MODULE_LINES} == {}
    assert statistics.median(sizes.values()) <= MAX_MEDIAN_MODULE_LINES


def test_functions_are_short() -> None:
    assert [
        f"{name(path)}:{function.lineno} {function.name}"
        for path in [*modules(), *sorted((ROOT / "migrations").rglob("*.py"))]
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno + 1 > MAX_FUNCTION_LINES
    ] == []


def test_every_folder_with_modules_is_a_package() -> None:
    """mypy, import-linter and the wheel look at packages only."""
    folders = {path.parent for path in modules()}
    assert sorted(name(one) for one in folders if not (one / "__init__.py").exists()) == []


def test_every_module_says_what_it_is_for() -> None:
    assert [
        name(path)
        for path in modules()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ] == []


def test_root_modules_document_what_is_public() -> None:
    public = [
        (f"{name(path)}: {node.name}", ast.get_docstring(node) is not None)
        for path in sorted(PACKAGE.glob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    undocumented = [what for what, documented in public if not documented]
    assert len(undocumented) <= (1 - MIN_ROOT_DOCSTRING_SHARE) * len(public), undocumented


@pytest.mark.parametrize("word", [*REGISTRIES, *OPTIONS, *WORKPLACE])
def test_no_tracked_file_knows_a_registry_or_a_place(word: str) -> None:
    assert [name(path) for path in tracked_files() if word.encode() in path.read_bytes()] == []


def test_locks_pin_every_distribution_with_hashes() -> None:
    for lock in (ROOT / "requirements.lock", ROOT / "requirements-dev.lock"):
        entries = re.split(r"\n(?=[A-Za-z])", lock.read_text().partition("make lock\n")[2])
        assert entries
        for entry in entries:
            assert re.match(r"[\w.-]+==\S+", entry)
            assert "--hash=sha256:" in entry


def test_the_dev_lock_holds_the_runtime_lock() -> None:
    """What is tested is what is installed."""
    pins = [
        set(re.findall(r"^[\w.-]+==\S+", (ROOT / lock).read_text(), re.MULTILINE))
        for lock in ("requirements.lock", "requirements-dev.lock")
    ]
    assert pins[0] <= pins[1]


def test_each_pre_commit_hook_has_files_to_look_at() -> None:
    config = (ROOT / ".pre-commit-config.yaml").read_text()
    patterns = re.findall(r"^ +files: (.+)$", config, re.MULTILINE)
    assert len(patterns) == config.count("- id: ")
    tracked = [name(path) for path in tracked_files()]
    assert [one for one in patterns if not any(re.search(one, path) for path in tracked)] == []
