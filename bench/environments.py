"""The environments for agents that learn, beside sumo-rl's own."""

from __future__ import annotations

import subprocess
import sys

SECONDS = 3600
REPEATS = 3

# equal demand, random actions, a step of 5 s, the same measures; steps a second of wall time
OURS = f"""
import sys, time
from headway.learning.env import StreetEnv
env = StreetEnv(
    scenario="cologne8", observation=sys.argv[1], reward=sys.argv[2], duration_s={SECONDS}
)
env.reset(seed=1)
begun, steps = time.perf_counter(), 0
while env.agents:
    env.step({{name: env.action_space(name).sample() for name in env.agents}})
    steps += 1
print("STEPS", steps / (time.perf_counter() - begun))
"""
THEIRS = f"""
import os, sys, time, types
import sumo
os.environ["SUMO_HOME"] = sumo.SUMO_HOME
if sys.argv[1] == "libsumo":
    os.environ["LIBSUMO_AS_TRACI"] = "1"
sys.modules.setdefault("pandas", types.ModuleType("pandas"))  # of its reports alone
import sumo_rl
from headway.plants.sumo import scenario
of = scenario("cologne8")
env = sumo_rl.SumoEnvironment(
    net_file=of.net, route_file=of.routes[0], begin_time=int(of.begin_s), num_seconds={SECONDS},
    use_gui=False, sumo_seed=1, sumo_warnings=False, yellow_time=3,
    additional_sumo_cmd="--no-step-log",
)
env.reset(seed=1)
begun, steps, over = time.perf_counter(), 0, False
while not over:
    actions = {{name: env.action_spaces(name).sample() for name in env.ts_ids}}
    _, _, dones, _ = env.step(actions)
    over, steps = dones["__all__"], steps + 1
print("STEPS", steps / (time.perf_counter() - begun))
"""


def environments() -> None:
    """Steps a second on cologne8 / those of sumo-rl's environment; to reach: 3."""
    kinds = {
        "ours, queues": (OURS, "queues", "waiting"),
        "ours, sumo-rl's measures": (OURS, "sumo-rl", "diff-waiting-time"),
        "sumo-rl over TraCI, its default": (THEIRS, "traci"),
        "sumo-rl over libsumo": (THEIRS, "libsumo"),
    }
    found = {name: list[float]() for name in kinds}
    for _ in range(REPEATS):
        for name, (code, *words) in kinds.items():
            found[name].append(_steps_per_s(code, words))
    median = {name: sorted(values)[REPEATS // 2] for name, values in found.items()}
    for name, steps in median.items():
        print(f"{name:32s} {steps:6.0f} steps/s (median of {REPEATS})")
    ours, own, traci, libsumo = median.values()
    print(
        f"ratios: {ours / traci:.1f} over TraCI, {ours / libsumo:.2f} over libsumo; with its "
        f"measures {own / traci:.1f} and {own / libsumo:.2f}"
    )


def _steps_per_s(code: str, words: list[str]) -> float:
    ran = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    return float(ran.stdout.rpartition("STEPS")[2])
