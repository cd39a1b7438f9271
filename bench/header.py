"""Header reading against pydicom, in one run: ``python -m bench.header [FILE...]``.

Both read the same bytes and return the same attributes. Ours is measured twice: with every header
new to it, and as it is at work, where most instances of a series say what others said already.
Without files, a series is made up in each transfer syntax.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from statistics import median
from time import process_time

import pydicom
from pydicom import uid

from bench.figures import Figure
from flute_sync.sources import header_tags as tags
from flute_sync.sources.header import HeaderReader
from tests.headers import example, part10

INSTANCES = 100
ROUNDS = 5
PIXELS = bytes(512 * 512 * 2)


def main(paths: list[str]) -> None:
    """Print one line for each series: microseconds an instance, and the ratio."""
    warnings.simplefilter("ignore")
    print(f"{'series':40}{'pydicom':>9}{'new':>9}{'known':>9}{'ratio':>8}")
    for name, files in series(paths):
        reader = HeaderReader()
        for data in files:
            reader.read(data)
        theirs = microseconds(by_pydicom, files)
        new = microseconds(lambda data: HeaderReader().read(data), files)
        known = microseconds(reader.read, files)
        print(f"{name:40}{theirs:9.0f}{new:9.0f}{known:9.0f}{theirs / known:8.1f}")


def figures() -> Iterator[Figure]:
    """Measure a made-up series in each transfer syntax."""
    for name, files in series([]):
        reader = HeaderReader()
        for data in files:
            reader.read(data)
        theirs, known = microseconds(by_pydicom, files), microseconds(reader.read, files)
        detail = f"{known:.0f} us an instance, pydicom {theirs:.0f} us"
        yield Figure(f"header reading, {name}", theirs / known, "times faster", detail=detail)


def series(paths: list[str]) -> list[tuple[str, list[bytes]]]:
    """Return the files named, each as a series of one, or a made-up series per transfer syntax."""
    if paths:
        return [(Path(path).name[:38], [Path(path).read_bytes()]) for path in paths]
    made = []
    for syntax in (
        uid.ExplicitVRLittleEndian,
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    ):
        files = []
        for number in range(1, INSTANCES + 1):
            dataset = example(SOPInstanceUID=f"1.2.3.1.1.{number}", InstanceNumber=number)
            dataset.add_new(0x7FE0_0010, "OW", PIXELS)
            files.append(part10(dataset, syntax))
        made.append((syntax.name[:38], files))
    return made


def by_pydicom(data: bytes) -> list[object]:
    """Read the same attributes with pydicom alone."""
    dataset = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, force=True)
    return [dataset[tag].value for tag in tags.WANTED if tag in dataset]


def microseconds(read: Callable[[bytes], object], files: list[bytes]) -> float:
    """Return the median time of an instance."""
    again = max(1, INSTANCES // len(files))
    taken = []
    for _ in range(ROUNDS):
        started = process_time()
        for data in files * again:
            read(data)
        taken.append((process_time() - started) / (len(files) * again) * 1e6)
    return median(taken)


if __name__ == "__main__":
    main(sys.argv[1:])
