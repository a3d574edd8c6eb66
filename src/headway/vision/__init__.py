"""From cameras to boxes: frames of any source, and the road users detected in each. Needs the extra
`vision`.
"""

from __future__ import annotations

import importlib.util

MISSING = [
    name
    for name in ("av", "cv2", "onnxruntime", "supervision", "trackers")
    if importlib.util.find_spec(name) is None
]


class SensingError(RuntimeError):
    """A camera, an image or a model is not what it should be; the message names it and the
    remedy.
    """


def need_vision() -> None:
    """Raises SensingError where the packages of the extra `vision` are missing."""
    if MISSING:
        raise SensingError(
            f"cameras need {', '.join(MISSING)}. Install them: `make vision` in the source's "
            "folder."
        )
