"""Pictures and raw frames of DICOM images, by pydicom, NumPy and Pillow."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import iter_pixels, pixel_array


class NotRenderable(Exception):
    """The object has no picture that this archive can make."""


def rendered(file: Path, media_type: str, longest_side: int | None) -> bytes:
    """Draw the middle frame with the object's own window.

    Parameters
    ----------
    file
        A DICOM file.
    media_type
        ``image/jpeg`` or ``image/png``.
    longest_side
        Shrink to this many pixels; None keeps the size.

    Raises
    ------
    NotRenderable
        When it has no pixels or they cannot be decoded.

    References
    ----------
    PS3.18 10.4.1.1.3 (2026b), PS3.3 C.11.2 (2026b).
    """
    dataset = _with_pixels(file)
    middle = int(dataset.get("NumberOfFrames") or 1) // 2
    try:
        pixels = pixel_array(dataset, index=middle)
        image = Image.fromarray(_eight_bits(dataset, pixels))
    except (AttributeError, ValueError, RuntimeError, NotImplementedError, TypeError) as error:
        raise NotRenderable("the pixels cannot be decoded") from error
    if longest_side is not None:
        image.thumbnail((longest_side, longest_side))
    buffer = io.BytesIO()
    image.save(buffer, media_type.removeprefix("image/"))
    return buffer.getvalue()


def frame_bytes(file: Path, numbers: Sequence[int]) -> list[bytes]:
    """Return the uncompressed bytes of frames, counted from 1.

    Raises
    ------
    NotRenderable
        When a frame does not exist or cannot be decoded.
    """
    dataset = _with_pixels(file)
    if max(numbers) > int(dataset.get("NumberOfFrames") or 1):
        raise NotRenderable("there are fewer frames than that")
    try:
        wanted = iter_pixels(dataset, raw=True, indices=[number - 1 for number in numbers])
        return [frame.tobytes() for frame in wanted]
    except (AttributeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise NotRenderable("the pixels cannot be decoded") from error


def _with_pixels(file: Path) -> Dataset:
    dataset = dcmread(file)
    if "PixelData" not in dataset:
        raise NotRenderable("the object has no pixels")
    return dataset


def _eight_bits(dataset: Dataset, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.ndim == 3:  # colour: samples are the last axis, 8 bits each
        return pixels.astype(np.uint8)
    shades = np.asarray(apply_modality_lut(pixels, dataset), np.float64)
    if dataset.get("VOILUTSequence"):
        shades = np.asarray(apply_voi_lut(shades.astype(pixels.dtype), dataset), np.float64)
    low, high = _window(dataset) or (float(shades.min()), float(shades.max()))
    shades = (shades - low) * (255.0 / ((high - low) or 1.0))
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        shades = 255.0 - shades
    return shades.clip(0, 255).astype(np.uint8)


def _window(dataset: Dataset) -> tuple[float, float] | None:
    """Give the shades shown black and white by the first linear window, if there is one."""
    center, width = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if dataset.get("VOILUTSequence") or center in (None, "") or width in (None, ""):
        return None
    center, width = (one[0] if isinstance(one, MultiValue) else one for one in (center, width))
    return float(center) - float(width) / 2, float(center) + float(width) / 2
