"""Independent PPO (Stable-Baselines3) on a street: each junction acts by itself, all by one shared
policy, as IPPO of RESCO does.

Needs `pip install stable-baselines3` beside the extra `learning`.

python examples/learning/ippo.py [STEPS]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from headway.learning.env import StreetEnv


class AgentsAsEnvironments(VecEnv):  # type: ignore[misc]
    """A street whose agents, padded to one shape, look like environments side by side."""

    def __init__(self, street: StreetEnv) -> None:
        self._street = street
        self._names = street.possible_agents
        first = self._names[0]
        spaces = street.observation_space(first), street.action_space(first)
        super().__init__(len(self._names), *spaces)
        self._next_seed: int | None = 1

    def reset(self) -> Any:
        observed, _ = self._street.reset(seed=self._next_seed)
        self._next_seed = None  # the next episodes have the next seeds
        return self._stacked(observed)

    def step_async(self, actions: Any) -> None:
        self._actions = dict(zip(self._names, actions, strict=True))

    def step_wait(self) -> Any:
        observed, rewards, _, over, infos = self._street.step(self._actions)
        told = [infos[name] for name in self._names]
        done = np.array([over[name] for name in self._names])
        stacked = self._stacked(observed)
        if done.all():
            for info, last in zip(told, stacked, strict=True):
                info |= {"terminal_observation": last, "TimeLimit.truncated": True}
            stacked = self.reset()
        return stacked, np.array([rewards[name] for name in self._names], np.float32), done, told

    def _stacked(self, observed: dict[str, Any]) -> Any:
        return np.stack([observed[name] for name in self._names])

    def close(self) -> None:
        self._street.close()

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def env_method(self, *_: Any, **__: Any) -> Sequence[Any]:
        raise AttributeError("the street is one environment")

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self._street, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self._street, attr_name, value)


def main(steps: int) -> None:
    street = StreetEnv(scenario="cologne3", observation="queues", reward="queue", padded=True)
    agents = AgentsAsEnvironments(street)
    model = PPO("MlpPolicy", agents, n_steps=min(128, steps), batch_size=64, seed=1)
    model.learn(steps * agents.num_envs)
    observed, total, stepped = agents.reset(), 0.0, 0
    over = False
    while not over:
        actions, _ = model.predict(observed, deterministic=True)
        agents.step_async(actions)
        observed, rewards, done, _ = agents.step_wait()
        total, stepped, over = total + float(rewards.sum()), stepped + 1, bool(done.all())
    print(f"mean reward of a step of the street: {total / stepped:.2f} ({stepped} steps)")
    agents.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
