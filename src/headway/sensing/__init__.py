"""From boxes to traffic: tracking, the road plane, speeds, measures, violations. Needs the extra
`vision`.
"""

from __future__ import annotations

from headway.sensing.traffic.calibration import Calibration, CalibrationError
from headway.sensing.traffic.site import Site, read_site
from headway.vision import MISSING, SensingError, need_vision

__all__ = [
    "MISSING",
    "Calibration",
    "CalibrationError",
    "SensingError",
    "Site",
    "need_vision",
    "read_site",
]
