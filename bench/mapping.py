"""The mapping in one run: ``python -m bench.mapping [--dicom2fhir]``.

First the mapping step with all its checks and its JSON, against validating the finished resource
with the whole model of fhir.resources and dumping it. Then, on request, everything from the bytes
of 1,000 files in 10 series to FHIR JSON, against dicom2fhir on the same files. Processor time, the
best of several rounds, which take turns. Each study is new to the program.
"""

import argparse
import gc
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

from fhir.resources.R4B.imagingstudy import ImagingStudy
from pydicom.uid import ExplicitVRLittleEndian

from bench import dicom2fhir_baseline
from bench.figures import Figure, table
from flute_sync.imaging_study import ImagingStudySettings, map_study, to_json
from flute_sync.intake import Received
from flute_sync.sources.header import HeaderReader
from flute_sync.study import Instance, Series, SeriesInstanceUID, Study
from tests import headers
from tests.studies import context, header, moment, series_of, study_of

ROUNDS = 7
MODEL_GOAL = 40
DICOM2FHIR_GOAL = 20
SIZES = ((1, 20), (10, 20), (10, 100), (10, 200), (10, 500))
SERIES, INSTANCES = 10, 100
PIXELS = bytes(64 * 64 * 2)
SETTINGS = ImagingStudySettings()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dicom2fhir", action="store_true", help="measure dicom2fhir too")
    print(table(figures(dicom2fhir=parser.parse_args().dicom2fhir)))


def figures(*, dicom2fhir: bool = True) -> Iterator[Figure]:
    """Measure the mapping for each size, and everything from files to JSON."""
    for series, instances in SIZES:
        yield mapping_against_model(series, instances)
    if dicom2fhir:
        yield files_against_dicom2fhir()


def mapping_against_model(series: int, instances: int) -> Figure:
    """Time both on the same study."""
    resource = map_study(example(series, instances), context(), SETTINGS).resource
    fresh = [example(series, instances) for _ in range(ROUNDS)]

    def ours() -> None:
        to_json(map_study(fresh.pop(), context(), SETTINGS).resource)

    def theirs() -> None:
        ImagingStudy(**resource).model_dump_json()

    mapping, model = best(ours, theirs)
    return Figure(
        f"mapping with all checks, {series} series of {instances}",
        model / mapping,
        "times faster",
        at_least=MODEL_GOAL if (series, instances) == (SERIES, INSTANCES) else None,
        detail=f"{mapping * 1e3:.2f} ms, the model {model * 1e3:.1f} ms, "
        f"{len(to_json(resource))} bytes",
    )


def example(series: int, instances: int) -> Study:
    """An MR study as a scanner makes it: all instances of a series have one header."""
    image_type = ("ORIGINAL", "PRIMARY", "M", "ND")
    made = (
        series_of(
            number,
            header(
                number=number,
                modality="MR",
                description=f"series {number}",
                started=moment(9, number % 60),
                body_part="PROSTATE",
                image_type=image_type,
            ),
            instances,
        )
        for number in range(1, series + 1)
    )
    return study_of(*made)


def best(*steps: Callable[[], None]) -> list[float]:
    """Return the least processor seconds of each step."""
    least = [float("inf")] * len(steps)
    for _ in range(ROUNDS):
        for index, step in enumerate(steps):
            gc.collect()
            started = process_time()
            step()
            least[index] = min(least[index], process_time() - started)
    return least


def files_against_dicom2fhir() -> Figure:
    """Time both from a folder of files to JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)

        def ours() -> None:
            reader = HeaderReader()
            paths = sorted(folder.iterdir())
            study = gathered([reader.read(path.read_bytes()) for path in paths])
            to_json(map_study(study, context(), SETTINGS).resource)

        (converted,) = best(ours)
        theirs = dicom2fhir_baseline.seconds(folder)
    count = SERIES * INSTANCES
    return Figure(
        f"files to JSON, {SERIES} series of {INSTANCES}",
        theirs / converted,
        "times faster",
        at_least=DICOM2FHIR_GOAL,
        detail=f"{converted / count * 1e6:.0f} us an instance, "
        f"dicom2fhir {theirs / count * 1e6:.0f} us",
    )


def write_files(folder: Path) -> None:
    """Write 1,000 small MR images in 10 series."""
    for series in range(1, SERIES + 1):
        for number in range(1, INSTANCES + 1):
            dataset = headers.example(
                SeriesInstanceUID=f"1.2.3.1.{series}",
                SeriesNumber=series,
                SOPInstanceUID=f"1.2.3.1.{series}.{number}",
                InstanceNumber=number,
            )
            dataset.add_new(0x7FE0_0010, "OW", PIXELS)
            data = headers.part10(dataset, ExplicitVRLittleEndian)
            (folder / f"{series:02}-{number:04}.dcm").write_bytes(data)


def gathered(received: list[Received]) -> Study:
    """Put the instances of one study together."""
    by_series: dict[SeriesInstanceUID, list[Instance]] = {}
    for one in received:
        by_series.setdefault(one.series_instance_uid, []).append(one.instance)
    series = tuple(Series(uid, tuple(instances)) for uid, instances in by_series.items())
    return Study(received[0].study_instance_uid, series)


if __name__ == "__main__":
    main()
