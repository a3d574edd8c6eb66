"""Environments: the APIs' own checks, seeds, refusals, what rewards are for, and measures beside
sumo-rl's own.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import types
import warnings
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv
from pettingzoo.test import parallel_api_test
from tests.onnx_files import linear

from headway.control.onnx_policy import OnnxPolicy
from headway.control.stages import demand
from headway.learning.env import JunctionEnv, StreetEnv
from headway.learning.measures import OBSERVATIONS, REWARDS
from headway.plants.sumo import scenario
from headway.roads import RoadsError


@pytest.fixture
def opened():
    """Environments that are closed at the end."""
    made = []

    def open_one(kind, **settings):
        made.append(kind(**settings))
        return made[-1]

    yield open_one
    for env in made:
        env.close()


def shown(infos):
    return {name: info["refused"] for name, info in infos.items()}


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_gymnasium_finds_nothing_wrong_with_the_junction(opened, observation):
    env = opened(JunctionEnv, duration_s=120, observation=observation)
    with warnings.catch_warnings():
        # spaces without bounds are RESCO's; there is nothing to draw
        warnings.filterwarnings("ignore", "(?s).*(infinity|render modes)", UserWarning)
        check_env(env)


def test_pettingzoo_finds_nothing_wrong_with_the_street(opened, capsys):
    parallel_api_test(opened(StreetEnv, scenario="cologne3", duration_s=120), num_cycles=60)
    assert "Passed" in capsys.readouterr().out


def run_of(env, seed, steps=30, choice=1):
    """What a run gives in which each agent's choices are drawn with `choice`."""
    random = np.random.default_rng(choice)
    observed, _ = env.reset(seed=seed)
    found = [observed]
    for _ in range(steps):
        actions = {name: random.integers(env.action_space(name).n) for name in env.agents}
        observed, rewards, *_ = env.step(actions)
        found.append((observed, rewards))
    return repr(found)


def test_equal_seeds_give_equal_runs_and_others_do_not(opened):
    env = opened(StreetEnv, scenario="cologne3", reward="diff-waiting-time")
    first = run_of(env, 7)
    assert run_of(env, 7) == first
    assert run_of(env, 8) != first
    assert run_of(env, 7, choice=2) != first


def test_a_network_on_a_street_chooses_what_it_chose_in_the_environment(opened):
    """The same weights, by NumPy on what the environment shows, and as a file on the street's
    observations.
    """
    env = opened(StreetEnv, scenario="cologne3", duration_s=400, padded=True)
    observed, infos = env.reset(seed=3)
    random = np.random.default_rng(5)
    size = env.observation_space(env.agents[0]).shape[0]
    stages = env.action_space(env.agents[0]).n
    weights, bias = random.normal(size=(size, stages)), random.normal(size=stages)
    core = env._core
    said = {"headway_observation": "queues", "headway_interval_s": "5"}
    said["headway_network"] = str(env.network_stamp)
    policy = OnnxPolicy(core.network, core.timing, linear(weights, bias, said), "a", "a@1")
    episode = core._running()
    state = policy.start(episode.observation)
    state = replace(state, since_s=episode.since_s.copy())
    chosen = set()
    while env.agents:
        actions = {}
        for name, seen in observed.items():
            own = len(infos[name]["action_mask"].nonzero()[0])
            count = int(episode.table.count[core.names.index(name)])
            best = int((seen @ weights + bias)[:count].argmax())
            stays = int(episode.target[core.names.index(name)])
            actions[name] = best if own > 1 else stays
        _, state = policy.step(episode.observation, state)
        assert state.target.tolist() == [actions[name] for name in core.names]
        chosen.add(tuple(state.target.tolist()))
        observed, _, _, _, infos = env.step(actions)
    assert len(chosen) > 5


def test_resets_without_a_seed_go_on_from_the_last_one(opened):
    env = opened(JunctionEnv, scenario="cologne1", duration_s=60)

    def later(seed):
        env.reset(seed=seed)
        return [int(env.np_random.integers(1 << 30)) for _ in range(3) if env.reset()]

    assert later(5) == later(5) != later(6)
    assert len(set(later(5))) == 3


def test_an_action_that_cannot_be_taken_is_refused_and_changes_nothing(opened):
    env = opened(JunctionEnv, scenario="cologne1", duration_s=200, interval_s=1)
    _, info = env.reset(seed=1)
    while not info["action_mask"].all():
        *_, info = env.step(0)
    *_, info = env.step(2)
    assert (info["refused"], info["decided"]) == ("", True)
    # yellow 3 s, then a minimum green of 5 s: until then stage 2 is aimed at, whatever is asked
    for _ in range(7):
        assert info["action_mask"].tolist() == [0, 0, 1, 0]
        *_, info = env.step(0)
        assert "minimum green" in info["refused"]
        assert not info["decided"]
    assert info["action_mask"].all()
    *_, info = env.step(0)
    assert (info["refused"], info["decided"]) == ("", True)


def test_a_reward_is_paid_to_the_decision_that_it_is_of(opened):
    """By the second, beside the same run with steps of a second in which nothing is owed."""
    env = opened(JunctionEnv, scenario="cologne1", reward="queue", interval_s=1)
    _, info = env.reset(seed=1)
    paid, owed = [], 0.0
    lane = env._core._episode.plant.interface.lane
    lanes = env._core._reward._lanes.inbound[0]
    for second in range(300):
        _, reward, _, _, info = env.step(second // 20 % env.action_space.n)
        owed -= sum(map(lane.getLastStepHaltingNumber, lanes))
        if info["action_mask"].all():
            assert reward == owed
            paid.append(reward)
            owed = 0.0
        else:
            assert reward == 0.0
    assert 50 < len(paid) < 250
    assert min(paid) < -10.0


def test_the_last_step_pays_what_is_owed(opened):
    env = opened(
        JunctionEnv, scenario="cologne1", reward="average-speed", duration_s=2, interval_s=1
    )
    env.reset(seed=1)
    rewards = [env.step(0) for _ in range(1)]
    assert rewards[-1][3], "truncated"
    assert rewards[-1][1] == 1.0, "nobody is there in the first seconds"
    assert not rewards[-1][2], "never terminated"


def test_vehicles_are_there_though_the_demand_begins_at_25200(opened):
    assert scenario("cologne1").begin_s == 25200.0
    env = opened(JunctionEnv, scenario="cologne1", duration_s=120)
    _, info = env.reset(seed=1)
    assert info["time_s"] == 25201.0
    seen = [env.step(0)[0] for _ in range(20)]
    assert np.max(seen, axis=0)[env.action_space.n + 2 :: 4].max() > 0.0


def test_vehicles_that_cannot_enter_yet_are_counted_and_none_is_dropped(opened):
    env = opened(JunctionEnv, scenario="cologne1", scale=3.0, duration_s=1200, timing="benchmark")
    _, info = env.reset(seed=1)
    for _ in range(200):
        *_, info = env.step(0)  # for ever the same stage: the street fills
    sumo = env._core._episode.plant.interface.simulation
    assert info["pending"] == len(sumo.getPendingVehicles()) > 50


def test_all_junctions_have_one_shape_where_that_is_asked(opened):
    own = opened(StreetEnv, scenario="cologne3")
    padded = opened(StreetEnv, scenario="cologne3", padded=True)
    names = own.possible_agents
    assert len({own.observation_space(a).shape for a in names}) > 1
    assert len({padded.observation_space(a).shape for a in names}) == 1
    most = max(int(own.action_space(a).n) for a in names)
    assert {int(padded.action_space(a).n) for a in names} == {most}
    observed, infos = own.reset(seed=3)
    own.close()
    with_noughts, masks = padded.reset(seed=3)
    for name in names:
        assert padded.observation_space(name).contains(with_noughts[name])
        assert np.array_equal(with_noughts[name][: len(observed[name])], observed[name])
        assert not with_noughts[name][len(observed[name]) :].any()
        assert masks[name]["action_mask"].sum() == infos[name]["action_mask"].sum()
    small = min(names, key=lambda a: own.action_space(a).n)
    actions = dict.fromkeys(names, 0) | {small: most - 1}
    infos = padded.step(actions)[-1]
    assert infos[small]["refused"] == f"there is no stage {most - 1}, only 0 to {most - 2}"


def test_a_second_environment_in_one_process_is_refused_and_the_first_goes_on(opened):
    first, second = opened(JunctionEnv), opened(JunctionEnv)
    first.reset(seed=1)
    with pytest.raises(RuntimeError, match="give each a new process"):
        second.reset(seed=1)
    assert first.step(0)[-1]["time_s"] == 25206.0
    first.close()
    second.reset(seed=1)


def test_an_environment_that_is_dropped_without_close_bars_no_other(opened):
    dropped = JunctionEnv()
    dropped.reset(seed=1)
    dropped.step(0)
    del dropped
    gc.collect()
    _, info = opened(JunctionEnv).reset(seed=1)
    assert info["time_s"] == 25201.0


@pytest.mark.slow
def test_environments_run_side_by_side_in_processes_of_their_own():
    both = AsyncVectorEnv([lambda: JunctionEnv(duration_s=100)] * 2, context="spawn")
    try:
        both.reset(seed=[1, 1])
        for _ in range(5):
            observed, rewards, *_ = both.step(np.zeros(2, int))
        assert np.array_equal(observed[0], observed[1])
        assert rewards[0] == rewards[1]
    finally:
        both.close()


@pytest.mark.parametrize(
    ("settings", "fault", "said"),
    [
        ({"scenario": "nowhere"}, RoadsError, "no scenario 'nowhere'"),
        ({"observation": "all"}, ValueError, "observation 'all' is not known. There are: queues,"),
        ({"reward": "money"}, ValueError, "reward 'money' is not known. There are: waiting,"),
        ({"timing": "quick"}, ValueError, "timing 'quick' is not known. There are: benchmark, str"),
        ({"interval_s": 0}, ValueError, "interval_s must be whole seconds, 1 to 3600, not 0"),
        ({"interval_s": 2.5}, ValueError, "not 2.5"),
        ({"duration_s": float("nan")}, ValueError, "duration_s must be above 0, not nan"),
        ({"sensing": "rendered"}, ValueError, "sensing 'rendered' is none for agents"),
        ({"scale": 0.0}, ValueError, "scale must be a number above 0, not 0.0"),
        ({"scale": float("nan")}, ValueError, "not nan"),
        ({"junction": "x"}, RoadsError, "no junction 'x'"),
        ({"others": "x"}, ValueError, "x"),
        ({"fast": True}, TypeError, "fast"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings, fault, said):
    with pytest.raises(fault, match=said.replace(".", r"\.").replace("?", r"\?")):
        JunctionEnv(**{"scenario": "cologne8"} | settings)


def test_actions_that_are_none_are_refused(opened):
    env = opened(JunctionEnv)
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step(0)
    env.reset(seed=1)
    for action in (0.5, "0", [0, 1], None, np.nan):
        with pytest.raises(ValueError, match="number of a stage"):
            env.step(action)
    env.step(np.int64(0))
    street = opened(StreetEnv, scenario="cologne3")
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        street.step({})
    env.close()
    street.reset(seed=1)
    with pytest.raises(ValueError, match=r"missing or not known: \['360082'\]"):
        street.step(dict.fromkeys(street.possible_agents[1:], 0))


def sumo_rl_signal(monkeypatch, episode, junction, shown_for_s):
    """sumo-rl's own object for a junction, over the same SUMO."""
    folder = pytest.importorskip("sumo").SUMO_HOME
    monkeypatch.setenv("SUMO_HOME", folder)
    if "pandas" not in sys.modules:  # of sumo-rl's reports alone
        monkeypatch.setitem(sys.modules, "pandas", types.ModuleType("pandas"))
    from sumo_rl.environment.observations import DefaultObservationFunction
    from sumo_rl.environment.traffic_signal import TrafficSignal

    around = types.SimpleNamespace(
        observation_class=DefaultObservationFunction, fixed_ts=False, vehicles={}, sim_step=0
    )
    (tl,) = episode.network.junctions[junction].tl_ids
    signal = TrafficSignal(around, tl, 5, 3, 5, 50, 0, "diff-waiting-time", episode.plant.interface)
    signal.green_phase = int(episode.target[junction])
    signal.time_since_last_phase_change = shown_for_s
    return signal


@pytest.mark.slow
@pytest.mark.parametrize("reward", ["queue", "pressure", "average-speed", "diff-waiting-time"])
def test_the_sets_of_sumo_rl_are_what_sumo_rl_computes(opened, monkeypatch, reward):
    env = opened(StreetEnv, scenario="cologne8", observation="sumo-rl", reward=reward)
    _, infos = env.reset(seed=2)
    random = np.random.default_rng(1)
    total = dict.fromkeys(env.agents, 0.0)
    for _ in range(60):
        actions = {a: random.choice(np.flatnonzero(i["action_mask"])) for a, i in infos.items()}
        observed, rewards, _, _, infos = env.step(actions)
        total = {a: total[a] + r for a, r in rewards.items()}
    episode = env._core._episode
    reward_now = REWARDS[reward](episode).step()
    for j, name in enumerate(env.agents):
        over = 100 if episode.free[j] else 0
        signal = sumo_rl_signal(monkeypatch, episode, j, over)
        assert signal.num_green_phases == env.action_space(name).n
        np.testing.assert_allclose(observed[name], signal.observation_fn(), rtol=1e-6)
        theirs = signal.reward_fns[reward](signal)
        assert reward_now[j] == pytest.approx(theirs)
    assert min(total.values()) < max(total.values())


def test_what_any_sensing_gives_is_the_demand_of_each_group(opened):
    env = opened(StreetEnv, scenario="cologne8")
    observed, _ = env.reset(seed=2)
    for k in range(40):
        observed, *_ = env.step({a: k // 4 % env.action_space(a).n for a in env.agents})
    episode = env._core._episode
    network, seen = episode.network, episode.observation
    there = demand(network, seen)
    assert there.max() > 3
    for junction, name in zip(network.junctions, env.agents, strict=True):
        stages = len(junction.stages)
        found = observed[name]
        assert (
            found[:stages].tolist()
            == np.eye(stages)[episode.target[network.junction(name)]].tolist()
        )
        groups = found[stages + 2 :].reshape(-1, 4)
        np.testing.assert_allclose(
            groups[:, 0], np.minimum(there[junction.groups] / 20, 1), rtol=1e-6
        )
        for row, group in zip(groups, junction.groups, strict=True):
            of = [
                (float(v.waiting_s[i]), v.speed_mps[i] < 0.1)
                for v in (seen.vehicles,)
                for i in range(len(v))
                if v.link[i] in network.groups[group].links and v.distance_m[i] <= 200.0
            ]
            assert row[1] == pytest.approx(min(sum(stands for _, stands in of) / 20, 1))
            assert row[2] == pytest.approx(min(max([w for w, _ in of], default=0.0) / 120, 1))


@pytest.mark.slow
def test_the_sets_of_resco_count_waits_from_the_first_stop(opened):
    """By each vehicle's own story, beside the rows of lanes."""
    env = opened(JunctionEnv, scenario="cologne1", observation="resco-drq", reward="resco-wait")
    env.reset(seed=1)
    sumo = env._core._episode.plant.interface
    lanes = list(dict.fromkeys(sumo.trafficlight.getControlledLanes(env.junction)))
    owed = 0.0
    stopped_at_s = {}  # of those that have been there at each look since
    for k in range(80):
        observed, reward, _, _, info = env.step(k // 6 % env.action_space.n)
        now_s = info["time_s"]
        there = {
            v: lane
            for lane in lanes
            for v in sumo.lane.getLastStepVehicleIDs(lane)
            if sumo.vehicle.getNextTLS(v)[:1] and sumo.vehicle.getNextTLS(v)[0][2] <= 200.0
        }
        stopped_at_s = {v: at for v, at in stopped_at_s.items() if v in there}
        for v in there.keys() - stopped_at_s.keys():
            if (wait := sumo.vehicle.getWaitingTime(v)) > 0:
                stopped_at_s[v] = now_s - wait
        waits = {v: now_s - at for v, at in stopped_at_s.items()}
        for i, lane in enumerate(lanes):
            own = [v for v, at in there.items() if at == lane]
            row = [
                float(i == env._core._episode.target[0]),
                sum(v not in waits for v in own) / 28,
                sum(waits.get(v, 0.0) for v in own) / 28,
                sum(v in waits for v in own) / 28,
                sum(sumo.vehicle.getSpeed(v) for v in own) / 20 / 28,
            ]
            np.testing.assert_allclose(observed[0, i], row, rtol=1e-5, atol=1e-6)
        owed -= min(sum(waits.values()) / 224, 4.0)
        if info["action_mask"].all():
            assert reward == pytest.approx(owed)
            owed = 0.0
    assert len(waits) > 10


def test_pressure_is_who_stands_before_without_who_stands_behind(opened):
    env = opened(StreetEnv, scenario="cologne8")
    env.reset(seed=2)
    for k in range(60):
        env.step({a: k // 12 % env.action_space(a).n for a in env.agents})
    episode = env._core._episode
    network, sumo = episode.network, episode.plant.interface
    controlled = {
        x for tl in sumo.trafficlight.getIDList() for x in sumo.trafficlight.getControlledLanes(tl)
    }

    def standing(lanes):
        return sum(
            sumo.vehicle.getWaitingTime(v) > 0 and sumo.vehicle.getNextTLS(v)[0][2] <= 200.0
            for lane in lanes & controlled
            for v in sumo.lane.getLastStepVehicleIDs(lane)
            if sumo.vehicle.getNextTLS(v)
        )

    measures = OBSERVATIONS["resco-pressure"](episode)
    measures.look()
    behind = 0
    for j, junction in enumerate(network.junctions):
        found = measures.of(j)
        assert found[0] == episode.target[j]
        for value, group in zip(found[1:], junction.groups, strict=True):
            links = [network.links[k] for k in network.groups[group].links]
            before = {network.lanes[x.from_lane].id for x in links}
            after = {network.lanes[x.to_lane].id for x in links}
            assert value == standing(before) - standing(after)
            behind += standing(after)
    assert behind > 0


def test_the_sets_that_need_the_extra_are_not_loaded_with_the_rest():
    code = "import sys, headway.learning.training, headway.cli; print('gymnasium' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
