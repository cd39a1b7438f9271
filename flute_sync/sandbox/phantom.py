"""Pictures of an invented male pelvis: ellipsoids of tissue, shaded as a sequence shades them."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float64]


class _Ellipsoid(NamedTuple):
    """Centre and half axes, along right-left, front-back and feet-head; 1 is 90 mm."""

    tissue: str
    centre: tuple[float, float, float]
    half_axes: tuple[float, float, float]


PELVIS: Final = (  # what comes later covers what came before
    _Ellipsoid("fat", (0, 0, 0), (0.96, 0.80, 1.6)),
    _Ellipsoid("muscle", (0, 0.02, 0), (0.80, 0.66, 1.5)),
    _Ellipsoid("bone", (-0.62, -0.05, 0.15), (0.20, 0.22, 0.25)),
    _Ellipsoid("bone", (0.62, -0.05, 0.15), (0.20, 0.22, 0.25)),
    _Ellipsoid("fat", (0, 0.05, 0), (0.40, 0.52, 0.9)),
    _Ellipsoid("bladder", (0, -0.22, 0.55), (0.34, 0.26, 0.38)),
    _Ellipsoid("rectum", (0, 0.44, 0), (0.14, 0.13, 1.2)),
    _Ellipsoid("peripheral zone", (0, 0.10, 0), (0.29, 0.23, 0.30)),
    _Ellipsoid("transition zone", (0, 0.02, 0.04), (0.21, 0.14, 0.22)),
    _Ellipsoid("lesion", (-0.15, 0.19, -0.04), (0.07, 0.05, 0.09)),
)
APPARENT_DIFFUSION: Final[Mapping[str, float]] = {  # 10^-6 mm2/s
    "air": 0,
    "fat": 250,
    "muscle": 1250,
    "bone": 350,
    "bladder": 2900,
    "rectum": 900,
    "peripheral zone": 1650,
    "transition zone": 1250,
    "lesion": 650,
}
T2_SIGNAL: Final[Mapping[str, float]] = {
    "air": 0,
    "fat": 620,
    "muscle": 130,
    "bone": 300,
    "bladder": 980,
    "rectum": 60,
    "peripheral zone": 720,
    "transition zone": 380,
    "lesion": 210,
}
T1_SIGNAL: Final[Mapping[str, float]] = {
    "air": 0,
    "fat": 300,
    "muscle": 240,
    "bone": 200,
    "bladder": 120,
    "rectum": 80,
    "peripheral zone": 250,
    "transition zone": 260,
    "lesion": 250,
}
_UPTAKE: Final[Mapping[str, tuple[float, float]]] = {  # rise, and wash-out a phase
    "muscle": (0.3, 0.0),
    "peripheral zone": (0.6, 0.0),
    "transition zone": (0.9, 0.0),
    "lesion": (1.9, 0.12),
}
_ECHO: Final[Mapping[str, float]] = {
    "air": 90,
    "peripheral zone": 120,
    "transition zone": 80,
    "lesion": 45,
}


def diffusion_signal(b_value: float) -> dict[str, float]:
    """Shade tissues as diffusion weighting does.

    Parameters
    ----------
    b_value
        In s/mm2.
    """
    return {
        tissue: 900 * float(np.exp(-b_value * diffusion * 1e-6)) if diffusion else 0.0
        for tissue, diffusion in APPARENT_DIFFUSION.items()
    }


def contrast_signal(phase: int) -> dict[str, float]:
    """Shade tissues in a phase after contrast agent, 0 being before it."""
    shades = dict(T1_SIGNAL)
    for tissue, (rise, wash_out) in _UPTAKE.items():
        if phase:
            shades[tissue] *= 1 + rise - wash_out * (phase - 1)
    return shades


def section(
    plane: str, offset: float, size: int, shades: Mapping[str, float], rng: np.random.Generator
) -> Image:
    """Draw one slice.

    Parameters
    ----------
    plane
        ``axial``, ``sagittal`` or ``coronal``.
    offset
        Where it cuts the third axis; 1 is 90 mm from the middle.
    size
        Rows and columns.
    shades
        Signal of each tissue.
    rng
        Where the noise comes from.

    Returns
    -------
    ndarray
        ``size`` x ``size`` signals, none negative.
    """
    down, across = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    still = np.full_like(down, offset)
    coordinates = {
        "axial": (across, down, still),
        "sagittal": (still, across, -down),
        "coronal": (across, still, -down),
    }[plane]
    image = np.full((size, size), shades["air"], np.float64)
    for part in PELVIS:
        image[_inside(part, coordinates)] = shades[part.tissue]
    noise = rng.normal(0, 14, (size, size)) + image * rng.normal(0, 0.03, (size, size))
    return np.abs(image + noise)


def ultrasound(offset: float, size: int, rng: np.random.Generator) -> Image:
    """Draw a transrectal ultrasound picture: a sector with speckle, 0 to 255."""
    down, across = np.mgrid[0 : 1 : size * 1j, -1 : 1 : size * 1j]
    depth, angle = np.hypot(down, across), np.arctan2(across, down)
    image = np.full((size, size), _ECHO["air"])
    still = np.full_like(down, offset)
    for part in PELVIS:
        if part.tissue in _ECHO:
            image[_inside(part, (across * 0.4, 0.34 - down * 0.45, still))] = _ECHO[part.tissue]
    speckle = rng.rayleigh(0.8, (size, size))
    image = image * speckle * np.exp(-0.5 * depth)
    image[(np.abs(angle) > 0.85) | (depth > 1) | (depth < 0.08)] = 0
    clipped: Image = image.clip(0, 255)
    return clipped


def _inside(part: _Ellipsoid, coordinates: tuple[Image, Image, Image]) -> NDArray[np.bool_]:
    distance = np.zeros_like(coordinates[0])
    for along, centre, half_axis in zip(coordinates, part.centre, part.half_axes, strict=True):
        distance += ((along - centre) / half_axis) ** 2
    return distance <= 1
