"""Build the FHIR server of the tests from `fhir-server/`, once for each state of its sources."""

import hashlib
import subprocess
from pathlib import Path

SOURCES = Path(__file__).with_name("fhir-server")
PROFILES = SOURCES / "profiles"
CACHE = Path(__file__).parents[2] / ".cache" / "fhir-server"
JVM_OPTIONS = (
    "-Xmx2g",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # starts in half the processor time; slower after minutes of load
)


def jar() -> Path:
    """Where the server built from the present sources is, or will be."""
    digest = hashlib.sha256()
    for path in sorted([SOURCES / "pom.xml", *SOURCES.glob("src/**/*.*")]):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0" + path.read_bytes())
    return CACHE / digest.hexdigest()[:16] / "testserver.jar"


def class_archive() -> Path:
    """Where the archive of loaded classes is that shortens a start, if it was made."""
    return jar().with_name("testserver.jsa")


def build() -> None:
    """Build the server; Maven keeps what it downloads in its own cache."""
    subprocess.run(
        [
            "mvn", "--quiet", "--batch-mode", "--no-transfer-progress",
            "--file", str(SOURCES / "pom.xml"), f"-Dbuild.to={jar().parent}", "package",
        ],
        check=True,
    )  # fmt: skip


def archive_classes() -> None:
    """Make the class archive: it takes longer than it saves unless the server starts often."""
    classes = jar().with_name("classes.list")
    training = subprocess.Popen(
        ["java", *JVM_OPTIONS, f"-XX:DumpLoadedClassList={classes}", "-jar", str(jar())],
        stdout=subprocess.PIPE,
    )
    assert training.stdout is not None
    training.stdout.readline()
    training.kill()
    training.wait()
    subprocess.run(
        [
            "java", "-Xshare:dump", *JVM_OPTIONS, "-Xlog:disable",
            f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={class_archive()}",
            "-cp", str(jar()),
        ],
        check=True,
    )  # fmt: skip
