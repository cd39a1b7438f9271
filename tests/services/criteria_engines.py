"""Engines of others for the criteria: fhirpath.js, and CQL by its translator and its engine.

They are installed from `criteria-engines/` and `cql-translator/` into a folder of their own, in the
versions that stand there, and are asked once for all patients: each start costs seconds.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import flute_sync

_HERE = Path(__file__).parent
_ENGINES = _HERE / "criteria-engines"
_TRANSLATOR = _HERE / "cql-translator"
_CACHE = Path(__file__).parents[2] / ".cache"
CQL = Path(flute_sync.__file__).parent / "criteria" / "FluteMriBeforeBiopsy.cql"
_NPM = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m")


def _folder(sources: Iterable[Path], name: str) -> Path:
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return _CACHE / name / digest.hexdigest()[:16]


def engines() -> Path:
    """Where the engines of npm are, or will be."""
    return _folder(_ENGINES.glob("package*.json"), "criteria-engines")


def translator() -> Path:
    """Where the translator is, or will be."""
    sources = [_TRANSLATOR / "pom.xml", *_TRANSLATOR.glob("src/**/*.java")]
    return _folder(sources, "cql-translator") / "cql-translator.jar"


def present() -> bool:
    """Tell whether both were installed from what stands here now."""
    return (engines() / ".complete").exists() and translator().exists()


def install() -> None:
    """Install both; npm and Maven keep what they download in caches of their own."""
    folder = engines()
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in _ENGINES.glob("package*.json"):
            shutil.copy(path, folder)
        subprocess.run(_NPM, cwd=folder, check=True)
        (folder / ".complete").touch()
    if not translator().exists():
        subprocess.run(
            [
                "mvn", "--quiet", "--batch-mode", "--no-transfer-progress",
                "--file", str(_TRANSLATOR / "pom.xml"),
                f"-Dbuild.to={translator().parent}", "package",
            ],
            check=True,
        )  # fmt: skip


def translated(*files: Path) -> list[dict[str, Any]]:
    """Return the ELM of files of CQL; their translator must have nothing to say against them."""
    done = subprocess.run(
        ["java", *_JVM, "-jar", str(translator()), *map(str, files)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("SLF4J")]
    assert (done.returncode, said) == (0, []), said
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def write() -> None:
    """Write the ELM that comes with flute-sync anew."""
    elm = json.dumps(*translated(CQL), separators=(",", ":"))
    CQL.with_suffix(".elm.json").write_text(elm + "\n", encoding="utf-8")


def judged(elm: object, patients: Sequence[dict[str, Any]]) -> list[dict[str, dict[str, str]]]:
    """Return what the engines say of each patient: by engine, the verdict on each biopsy.

    Parameters
    ----------
    patients
        Of each the ``bundle``, the expressions as ``fhirpath``, and ``parameters`` for the CQL.
    """
    question = json.dumps({"elm": elm, "patients": list(patients)})
    done = subprocess.run(
        ["node", str(_ENGINES / "evaluate.js"), str(engines())],
        input=question,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, dict[str, str]]] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    write()
