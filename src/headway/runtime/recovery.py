"""What to do when something fails: strategies by class of error, in order, each with a budget, so
that recovery always ends.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum


class Strategy(Enum):
    """From the mildest to the last resort."""

    RETRY_SMALLER = "retry with a smaller step"
    RESTORE = "restore the last checkpoint"
    REINITIALISE = "begin anew"
    RESTART = "restart the plant"
    DEGRADE = "degrade"
    STOP = "stop safely"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One strategy chosen for an error. at: wall time s. worked: None while that is not known."""

    at: float
    error: str
    strategy: Strategy
    worked: bool | None = None


DEFAULT_PLANS: tuple[tuple[type[BaseException], tuple[Strategy, ...]], ...] = (
    (
        ArithmeticError,
        (Strategy.RETRY_SMALLER, Strategy.RESTORE, Strategy.REINITIALISE, Strategy.STOP),
    ),
    (OSError, (Strategy.DEGRADE, Strategy.STOP)),
    (
        Exception,
        (
            Strategy.RETRY_SMALLER,
            Strategy.RESTORE,
            Strategy.RESTART,
            Strategy.REINITIALISE,
            Strategy.DEGRADE,
            Strategy.STOP,
        ),
    ),
)


class ErrorRecoverySystem:
    """Chooses a strategy for each error, and records which of them work.

    plans:    strategies by class of error, mildest first; the first entry whose class fits counts.
    budget:   how often one strategy may be chosen within `window_s`.
    settle_s: an error within this time after a strategy means that it failed, so the next one is
        chosen.
    most:     strategies chosen within the window, whatever happens; then the choice is STOP.
    All times are wall seconds.

    >>> recovery = ErrorRecoverySystem(clock=lambda: 0.0)
    >>> [recovery.choose(ArithmeticError("nan")).name for _ in range(2)]
    ['RETRY_SMALLER', 'RESTORE']
    """

    def __init__(
        self,
        plans: Sequence[tuple[type[BaseException], tuple[Strategy, ...]]] = DEFAULT_PLANS,
        budget: int = 5,
        window_s: float = 60.0,
        settle_s: float = 2.0,
        most: int = 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if budget < 1 or most < 1 or window_s <= 0.0 or settle_s < 0.0:
            raise ValueError(
                f"budget {budget} and most {most} must be at least 1, window_s {window_s} "
                f"above 0, settle_s {settle_s} not below."
            )
        for kind, strategies in plans:
            if not strategies or strategies[-1] is not Strategy.STOP:
                raise ValueError(
                    f"the plan for {kind.__name__} must end with STOP, so that it ends at all."
                )
        self._plans = tuple(plans)
        self._budget = budget
        self._window_s = window_s
        self._settle_s = settle_s
        self._most = most
        self._clock = clock
        self.history: deque[Attempt] = deque(maxlen=1000)
        self._pending: Attempt | None = None  # the last of the history, while not decided
        self._counts: dict[Strategy, tuple[int, int]] = {}

    def choose(self, error: BaseException) -> Strategy:
        """The strategy for `error`. An error soon after the last choice counts as that one's
        failure, and escalates.
        """
        now = self._clock()
        plan = self._plan(error)
        failed = self._decide_pending(now, failed_again=True)
        if failed is not None and failed.strategy in plan:
            plan = plan[plan.index(failed.strategy) + 1 :]
        strategy = self._first_within_budget(plan, now)
        self._pending = Attempt(now, repr(error), strategy)
        self.history.append(self._pending)
        return strategy

    def report_success(self) -> None:
        """Work goes on: a strategy that was chosen at least `settle_s` ago has worked."""
        self._decide_pending(self._clock(), failed_again=False)

    def success_counts(self) -> Mapping[Strategy, tuple[int, int]]:
        """Of each strategy: how often it worked, and how often it was tried and is decided."""
        return dict(self._counts)

    def _plan(self, error: BaseException) -> tuple[Strategy, ...]:
        for kind, strategies in self._plans:
            if isinstance(error, kind):
                return strategies
        return (Strategy.STOP,)

    def _first_within_budget(self, plan: Sequence[Strategy], now: float) -> Strategy:
        recent = [a.strategy for a in self.history if now - a.at <= self._window_s]
        if len(recent) >= self._most:
            return Strategy.STOP
        within = (s for s in plan if s is Strategy.STOP or recent.count(s) < self._budget)
        return next(within, Strategy.STOP)

    def _decide_pending(self, now: float, failed_again: bool) -> Attempt | None:
        """Decide whether the pending attempt worked, if that can be told by now; returned if it
        failed.
        """
        pending = self._pending
        if pending is None:
            return None
        settled = now - pending.at >= self._settle_s
        worked = settled if self._settle_s > 0.0 else not failed_again
        if not worked and not failed_again:
            return None
        self._pending = None
        successes, tries = self._counts.get(pending.strategy, (0, 0))
        self._counts[pending.strategy] = (successes + worked, tries + 1)
        self.history[-1] = replace(pending, worked=worked)
        return None if worked else pending
