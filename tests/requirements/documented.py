"""A record as the documents show it."""

from __future__ import annotations

import json

# as it stands in the requirement
RECORD = json.loads("""
{"simulation_id": "SIM_20250910_001", "timestamp": "2025-09-10T23:20:00Z",
 "intersection_id": "INT_001",
 "signals": [{"direction": "north",
   "vehicle_counts": {"car": 78, "bus": 0, "truck": 0, "bike": 0, "rickshaw": 0},
   "emergency_vehicle_present": false, "signal_status": "GREEN", "signal_timer": 18,
   "vehicles_crossed": 35, "avg_wait_time": 12.5, "green_time_allocated": 20}],
 "metrics": {"total_vehicles_passed": 104, "avg_wait_time_all_sides": 20.6, "throughput": 0.87,
   "avg_speed": 28.3, "fuel_saved": 1.2, "co2_saved": 3.8, "emergency_overrides": 0}}
""")
