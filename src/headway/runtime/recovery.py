"""What to do when something fails: strategies by class of error, in order, each with a budget;
never in circles.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum


class Strategy(Enum):
    """From the mildest to the last."""

    RETRY_SMALLER = "retry with a smaller step"
    RESTORE = "restore the last checkpoint"
    REINITIALISE = "begin anew"
    RESTART = "restart the plant"
    DEGRADE = "degrade"
    STOP = "stop safely"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer to an error. worked: None while that is not known."""

    at: float
    error: str
    strategy: Strategy
    worked: bool | None = None


DEFAULT: tuple[tuple[type[BaseException], tuple[Strategy, ...]], ...] = (
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
    """Chooses a strategy for each error, and learns which of them work.

    plans: the first entry whose class fits counts. budget: how often one strategy may be tried
        within `window_s`; settle_s: an error within this
    time after an attempt means that it did not work, and the next strategy is taken. Whatever
    happens, after `most` attempts within the window the answer is STOP.

    >>> recovery = ErrorRecoverySystem(clock=lambda: 0.0)
    >>> recovery.answer(ArithmeticError("nan")), recovery.answer(ArithmeticError("nan"))
    (<Strategy.RETRY_SMALLER: 'retry with a smaller step'>, <Strategy.RESTORE: 'restore the last
    checkpoint'>)
    """

    def __init__(
        self,
        plans: Sequence[tuple[type[BaseException], tuple[Strategy, ...]]] = DEFAULT,
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
        self._pending: Attempt | None = None
        self._tally: dict[Strategy, list[int]] = {}

    def answer(self, error: BaseException) -> Strategy:
        """What to do about `error`. An error soon after the last answer counts as that one's
        failure, and as its escalation.
        """
        now, plan = self._clock(), self._plan(error)
        failed = self._settle(now, again=True)
        recent = [a for a in self.history if now - a.at <= self._window_s]
        start = (
            plan.index(failed.strategy) + 1 if failed is not None and failed.strategy in plan else 0
        )
        chosen = Strategy.STOP
        if len(recent) < self._most:
            for strategy in plan[start:]:
                if (
                    strategy is Strategy.STOP
                    or sum(a.strategy is strategy for a in recent) < self._budget
                ):
                    chosen = strategy
                    break
        self._pending = Attempt(now, repr(error), chosen)
        self.history.append(self._pending)
        return chosen

    def going_well(self) -> None:
        """Tell now and then that work goes on: an attempt that has held for `settle_s` worked."""
        self._settle(self._clock(), again=False)

    def success(self) -> Mapping[Strategy, tuple[int, int]]:
        """Of each strategy: how often it worked, and how often it was tried and is decided."""
        return {strategy: (worked, tried) for strategy, (worked, tried) in self._tally.items()}

    def _plan(self, error: BaseException) -> tuple[Strategy, ...]:
        return next(
            (strategies for kind, strategies in self._plans if isinstance(error, kind)),
            (Strategy.STOP,),
        )

    def _settle(self, now: float, again: bool) -> Attempt | None:
        """Decide the pending attempt; returned if it failed."""
        pending = self._pending
        if pending is None:
            return None
        worked = now - pending.at >= self._settle_s if self._settle_s > 0.0 else not again
        if not worked and not again:
            return None
        self._pending = None
        tally = self._tally.setdefault(pending.strategy, [0, 0])
        tally[0] += worked
        tally[1] += 1
        self.history[-1] = replace(
            pending, worked=worked
        )  # nothing is answered before what is pending is decided
        return None if worked else pending
