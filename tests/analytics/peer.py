"""Run by the peers' own environment: what atspm makes of a log, as JSON;
`sample FOLDER` writes the log of a real controller that it ships.
"""

import json
import sys
from pathlib import Path

from atspm import SignalDataProcessor, sample_data

events, detectors = Path(sys.argv[2]) / "events.csv", Path(sys.argv[2]) / "detectors.csv"
if sys.argv[1] == "sample":
    sample_data.data.df().to_csv(events, index=False)
    sample_data.config.df().to_csv(detectors, index=False)
failures = {
    "red_time": 5,
    "red_occupancy_threshold": 0.79,
    "green_occupancy_threshold": 0.79,
    "by_approach": True,
    "by_cycle": False,
}
aggregations = [
    {"name": "arrival_on_green", "params": {"latency_offset_seconds": 0}},
    {"name": "split_failures", "params": failures},
    {"name": "terminations", "params": {}},
    {"name": "splits", "params": {}},
]
with SignalDataProcessor(
    raw_data=str(events),
    detector_config=str(detectors),
    bin_size=24 * 60,
    verbose=0,
    controller_type="maxtime",
    aggregations=aggregations,
) as processor:
    processor.load()
    processor.aggregate()
    found = {
        a["name"]: processor.conn.query(f"SELECT * FROM {a['name']}")
        .df()
        .drop(columns="TimeStamp")
        .to_dict("records")
        for a in aggregations
    }
print(json.dumps(found, default=float))
