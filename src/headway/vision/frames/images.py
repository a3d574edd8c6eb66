"""Images in files: what a folder has, and each as pixels, once its header says that it is not too
large.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from headway.vision import SensingError

Image = NDArray[np.uint8]  # (height, width, 3), BGR
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")  # of these, as Pillow names them
MOST_PIXELS = 8192 * 4320  # of a frame: more is an attack or a mistake


def image_files(folder: Path) -> list[Path]:
    """Those that by their names are images, in the order of their names. Raises OSError."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def read_image(path: Path) -> Image | None:
    """None for what is no image, or one that OpenCV refuses. Raises SensingError for one that is
    too large, before it is decoded.
    """
    size = _stated_size(path)
    if size is None:
        return None
    _require_bounded(path, *size)
    with suppress(cv2.error):
        image = cv2.imread(str(path))
        if image is not None:  # whatever its header says
            _require_bounded(path, image.shape[1], image.shape[0])
            return np.asarray(image, np.uint8)
    return None


def require_bounded(width: int, height: int) -> None:
    """Raises SensingError for frames that are too large."""
    if width * height > MOST_PIXELS:
        raise SensingError(
            f"its frames are {width} x {height}; at most {MOST_PIXELS // 1_000_000} million "
            "pixels are taken: have smaller ones sent."
        )


def _stated_size(path: Path) -> tuple[int, int] | None:
    """Width and height by its header; None for what is no image."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        try:
            with PIL.Image.open(path, formats=FORMATS) as image:
                return image.size
        except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
            raise _too_large(path, "far larger") from error
        except (OSError, ValueError):
            return None


def _require_bounded(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise _too_large(path, f"{width} x {height}")


def _too_large(path: Path, how_large: str) -> SensingError:
    return SensingError(
        f"the image {path.name} is {how_large}; at most {MOST_PIXELS // 1_000_000} million pixels "
        "are taken. Make it smaller, or take it out of the folder."
    )
