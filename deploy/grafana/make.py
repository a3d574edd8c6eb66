"""Writes dashboards/*.json of dashboards.yaml: `python deploy/grafana/make.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
FOLDER = HERE / "dashboards"
DASHBOARDS: dict[str, Any] = yaml.safe_load((HERE / "dashboards.yaml").read_text(encoding="utf-8"))
SOURCE = {"type": "prometheus", "uid": "prometheus"}
KNOWN_BY = {"street": "headway_vehicles", "stream": "headway_camera_up"}  # metrics with each


def dashboard(name: str) -> dict[str, Any]:
    """What Grafana loads."""
    chosen = [_choice(of)] if (of := DASHBOARDS[name].get("variable")) else []
    return {
        "uid": f"headway-{name}",
        "title": f"Headway: {DASHBOARDS[name]['title']}",
        "tags": ["headway"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "editable": False,
        "templating": {"list": chosen},
        "panels": [_panel(k, *words) for k, words in enumerate(DASHBOARDS[name]["panels"])],
    }


def _choice(of: str) -> dict[str, Any]:
    query = f"label_values({KNOWN_BY[of]}, {of})"
    return {
        "name": of,
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(number: int, title: str, expression: str, unit: str, legend: str) -> dict[str, Any]:
    """Three in a row."""
    target = {"refId": "A", "datasource": SOURCE, "expr": expression, "legendFormat": legend}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"h": 8, "w": 8, "x": 8 * (number % 3), "y": 8 * (number // 3)},
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "targets": [target],
    }


def text(name: str) -> str:
    return json.dumps(dashboard(name), indent=1) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in DASHBOARDS:
        (FOLDER / f"{each}.json").write_text(text(each), encoding="utf-8")
