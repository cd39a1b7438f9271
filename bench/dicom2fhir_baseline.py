"""dicom2fhir 0.1.25 over a folder: what the conversion is measured against.

It needs fhir.resources below 8.3, so it runs in an environment of its own below ``.cache``, which
is made at the first run. Inside it this file is the program: ``python dicom2fhir_baseline.py
FOLDER`` prints the processor seconds from the first file to the JSON of all resources.
"""

import asyncio
import subprocess
import sys
import venv
from importlib import import_module
from pathlib import Path
from time import process_time

ENVIRONMENT = Path(__file__).parents[1] / ".cache" / "bench" / "dicom2fhir"
REQUIREMENTS = ("dicom2fhir==0.1.25", "fhir.resources<8.3")


def seconds(folder: Path) -> float:
    """Convert a folder once in the environment, and return the processor seconds it took."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "ready").exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        (ENVIRONMENT / "ready").touch()
    run = subprocess.run(
        [python, __file__, str(folder)], check=True, capture_output=True, text=True
    )
    return float(run.stdout.split()[-1])


def main(folder: str) -> None:
    """Convert, with the instances listed as ours are."""
    from_directory = import_module("dicom2fhir.dicom2fhir").from_directory
    config = {
        "dicom_timezone": "Europe/Rome",
        "generator": {"imaging_study": {"add_instances": True}},
    }
    started = process_time()
    bundle = asyncio.run(from_directory(folder, config))
    text = bundle.model_dump_json()
    taken = process_time() - started
    listed = text.count("urn:ietf:rfc:3986")
    print(f"{len(text)} characters, {listed} SOP classes, seconds:", taken)


if __name__ == "__main__":
    main(sys.argv[1])
