"""A deep Q-network (Stable-Baselines3) that learns one junction, through the real gate.

Needs `pip install stable-baselines3` beside the extra `learning`. Prints the mean vehicles stopped
with random choices and with the ones learnt.

python examples/learning/dqn.py [STEPS]
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from stable_baselines3 import DQN

from headway.control.features import Features
from headway.learning.env import JunctionEnv

Choose = Callable[[Features], int]


def mean_reward(env: JunctionEnv, choose: Choose, seed: int) -> float:
    """Of a step of one episode."""
    observation, _ = env.reset(seed=seed)
    rewards, over = list[float](), False
    while not over:
        observation, reward, _, over, _ = env.step(choose(observation))
        rewards.append(reward)
    return float(np.mean(rewards))


def main(steps: int) -> None:
    env = JunctionEnv(
        scenario="cologne1", observation="sumo-rl", reward="queue", duration_s=min(3600, 5 * steps)
    )
    model = DQN(
        "MlpPolicy",
        env,
        learning_rate=1e-3,
        learning_starts=min(200, steps // 2),
        exploration_fraction=0.3,
        exploration_final_eps=0.02,
        seed=1,
        verbose=0,
    )
    model.learn(steps)
    random = np.random.default_rng(1)
    actions = len(env.reset(seed=1)[1]["action_mask"])
    for name, choose in (
        ("random", lambda _: int(random.integers(actions))),
        ("learnt", lambda seen: int(model.predict(seen, deterministic=True)[0])),
    ):
        print(f"{name}: mean reward of a step {mean_reward(env, choose, seed=9001):.2f}")
    env.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
