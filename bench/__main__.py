"""python -m bench [NAME ...]: all of them where none is named, in the order of PARTS.

Options after the names are given to each of them: python -m bench priority --seeds 1-5.
"""

from __future__ import annotations

import sys
from itertools import takewhile

from bench import (
    ablation,
    box,
    clips,
    cluster,
    compare,
    confidence,
    drift,
    environments,
    external,
    faults,
    hostile,
    inference,
    joined,
    kpp,
    longrun,
    models,
    pictures,
    plans,
    predictions,
    priority,
    published,
    registry,
    rows,
    seeds,
    service,
    speed,
    spread,
    towns,
    traces,
    update,
    vision,
)

PARTS = {
    "speed": speed.loop,
    "qtable": speed.qtable,
    "gate": speed.gate,
    "kernels": speed.kernels,
    "kpp": kpp.speed,
    "precision": kpp.precision,
    "watching": kpp.watching,
    "faults": faults.faults,
    "realtime": kpp.realtime,
    "ingest": service.ingest,
    "processes": service.processes,
    "answers": service.answers,
    "plans": plans.plans,
    "broadcast": service.broadcast,
    "spread": spread.spread,
    "loads": service.loads,
    "simple": service.simple,
    "hostile": hostile.hostile,
    "undisturbed": service.undisturbed,
    "update": update.update,
    "start": box.start,
    "outage": box.outage,
    "restore": box.restore,
    "pipeline": pictures.pipeline,
    "clips": clips.clips,
    "streams": pictures.streams,
    "hour": pictures.hour,
    "violations": pictures.violations,
    "watched": pictures.watched,
    "rendered": vision.rendered,
    "control": vision.control,
    "table": compare.table,
    "street": compare.street,
    "joined": joined.joined,
    "towns": towns.towns,
    "seeds": seeds.seeds,
    "traces": traces.traces,
    "sensing": compare.sensing,
    "priority": priority.priority,
    "claims": priority.claims,
    "external": external.external,
    "learning": compare.learning,
    "ablation": ablation.ablation,
    "published": published.published,
    "environments": environments.environments,
    "cluster": cluster.cluster,
    "registry": registry.registry,
    "models": models.models,
    "predictions": predictions.predictions,
    "confidence": confidence.confidence,
    "inference": inference.inference,
    "drift": drift.drift,
    "traffic": drift.traffic,
    "safety": longrun.safety,
    "memory": longrun.memory,
    "rows": rows.rows,
}

if __name__ == "__main__":
    named = list(takewhile(lambda word: not word.startswith("-"), sys.argv[1:]))
    options = sys.argv[1 + len(named) :]
    names = named or list(PARTS)
    if unknown := [n for n in names if n not in PARTS]:
        sys.exit(f"no benchmark {unknown[0]!r}. There are: {', '.join(PARTS)}")
    for name in names:
        print(f"\n== {name}: {(PARTS[name].__doc__ or '').splitlines()[0]}", flush=True)
        PARTS[name](*([options] if options else []))
