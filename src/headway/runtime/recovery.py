"""What to do when something fails: strategies by class of error, in order, each with a budget, so
that recovery always ends.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from headway.runtime.driven import Driven

STRATEGY_WITHIN_S = 5.0  # wall time that a strategy of the user's own may take


class Strategy(Enum):
    """From the mildest to the last resort."""

    RETRY_SMALLER = "retry with a smaller step"
    RESTORE = "restore the last checkpoint"
    REINITIALISE = "begin anew"
    RESTART = "restart the plant"
    DEGRADE = "degrade"
    STOP = "stop safely"

    @property
    def label(self) -> str:
        """As it is reported."""
        return str(self.value)


class OvertimeError(RuntimeError):
    """A strategy of the user's own did not come back in time, and may still touch the plant."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a strategy of the user's own is called with.

    at_s:    plant time.
    driven:  the plant; the loop does nothing to it until the strategy has come back.
    attempt: how often the strategy was chosen within the window, 1 for the first time.
    """

    at_s: float
    error: Exception
    driven: Driven
    attempt: int


@dataclass(frozen=True, slots=True, eq=False)
class UserStrategy:
    """A strategy of the user's own.

    label:    as it is reported.
    action:   called in a thread of its own while the loop waits. Returns True if the plant can go
        on; anything else, or an exception, is a failed attempt.
    budget:   how often it may be chosen within the window; None: as often as any other.
    within_s: wall time that it may take. After it the loop stops safely, since the action may still
        be at work on the plant.
    Raises ValueError for a budget or a time that is not allowed.
    """

    label: str
    action: Callable[[Fault], bool]
    budget: int | None = None
    within_s: float = STRATEGY_WITHIN_S

    def __post_init__(self) -> None:
        if not callable(self.action):
            raise ValueError(f"strategy {self.label!r}: {self.action!r} cannot be called.")
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"strategy {self.label!r}: budget {self.budget} must be at least 1.")
        if not 0.0 < self.within_s <= threading.TIMEOUT_MAX:
            raise ValueError(f"strategy {self.label!r}: within_s {self.within_s} must be above 0.")

    def carry_out(self, fault: Fault) -> str:
        """Why the attempt failed; empty if it worked. Raises OvertimeError; passes on a
        BaseException that is no Exception.
        """
        ended: list[bool | BaseException] = []

        def act() -> None:
            try:
                ended.append(self.action(fault))
            except BaseException as error:  # it goes to the loop's thread
                ended.append(error)

        thread = threading.Thread(target=act, daemon=True, name=f"strategy {self.label}")
        thread.start()
        thread.join(self.within_s)
        match list(ended):
            case []:
                raise OvertimeError(
                    f"strategy {self.label!r} did not end within {self.within_s:g} s"
                )
            case [Exception() as error]:
                return repr(error)
            case [BaseException() as error]:
                raise error
            case [True]:
                return ""
            case [other]:
                return f"it returned {other!r}, not True"
        raise AssertionError(ended)


AnyStrategy = Strategy | UserStrategy
Plan = tuple[AnyStrategy, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One strategy chosen for an error. at: wall time s. worked: None while that is not known."""

    at: float
    error: str
    strategy: AnyStrategy
    worked: bool | None = None


DEFAULT_PLANS: tuple[tuple[type[BaseException], Plan], ...] = (
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

    plans:    strategies by class of error, mildest first; the most specific class that fits counts.
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
        plans: Sequence[tuple[type[BaseException], Plan]] = DEFAULT_PLANS,
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
        self._counts: dict[AnyStrategy, tuple[int, int]] = {}
        self.faults = 0  # since the start

    def register(
        self,
        kind: type[Exception],
        strategies: Sequence[AnyStrategy | Callable[[Fault], bool]],
    ) -> None:
        """From now on errors of the class `kind` take `strategies`, in this order; after them, if
        they do not end with STOP, those that such errors took before. A function is made a
        `UserStrategy` of its name.

        Raises ValueError if `kind` is no class of errors, there are no strategies, or two have one
        label.
        """
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise ValueError(f"{kind!r} is no class of errors: give a subclass of Exception.")
        own = tuple(
            s if isinstance(s, Strategy | UserStrategy) else UserStrategy(_name_of(s), s)
            for s in strategies
        )
        if not own:
            raise ValueError(f"no strategies for {kind.__name__}: give at least one.")
        before = () if own[-1] is Strategy.STOP else self._plan(kind)
        plan = (*own, *(s for s in before if s not in own))
        others = tuple((k, p) for k, p in self._plans if k is not kind)
        self._refuse_equal_labels(plan, others)
        self._plans = ((kind, plan), *others)

    def plans(self) -> dict[str, list[str]]:
        """The labels of the strategies of each class of errors, in order."""
        return {kind.__qualname__: [s.label for s in plan] for kind, plan in self._plans}

    def attempts(self, strategy: AnyStrategy) -> int:
        """How often a strategy was chosen within the window."""
        now = self._clock()
        return sum(a.strategy is strategy for a in self.history if now - a.at <= self._window_s)

    def choose(self, error: BaseException) -> AnyStrategy:
        """The strategy for `error`. An error soon after the last choice counts as that one's
        failure, and escalates.
        """
        now = self._clock()
        self.faults += 1
        plan = self._plan(type(error))
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

    def report_failure(self) -> None:
        """The strategy chosen last has failed."""
        self._decide_pending(-math.inf, failed_again=True)

    def success_counts(self) -> Mapping[AnyStrategy, tuple[int, int]]:
        """Of each strategy: how often it worked, and how often it was tried and is decided."""
        return dict(self._counts)

    def _plan(self, kind: type[BaseException]) -> Plan:
        """Of the most specific class that fits; the first of those that are equally so."""
        line = kind.__mro__
        fits = [entry for entry in self._plans if issubclass(kind, entry[0])]
        best = min(
            fits, key=lambda e: line.index(e[0]) if e[0] in line else len(line), default=None
        )
        return (Strategy.STOP,) if best is None else best[1]

    def _refuse_equal_labels(
        self, plan: Plan, others: Sequence[tuple[type[BaseException], Plan]]
    ) -> None:
        known: dict[str, AnyStrategy] = {s.label: s for s in Strategy}
        for strategy in (*plan, *(s for _, p in others for s in p)):
            if known.setdefault(strategy.label, strategy) is not strategy:
                raise ValueError(
                    f"there is a strategy {strategy.label!r} already. Give this one a label of its "
                    "own: UserStrategy(label, action)."
                )
        if len(set(plan)) < len(plan):
            raise ValueError("a strategy occurs twice; give it a budget instead.")

    def _first_within_budget(self, plan: Sequence[AnyStrategy], now: float) -> AnyStrategy:
        recent = [a.strategy for a in self.history if now - a.at <= self._window_s]
        if len(recent) >= self._most:
            return Strategy.STOP
        within = (s for s in plan if s is Strategy.STOP or recent.count(s) < self._budget_of(s))
        return next(within, Strategy.STOP)

    def _budget_of(self, strategy: AnyStrategy) -> int:
        own = strategy.budget if isinstance(strategy, UserStrategy) else None
        return self._budget if own is None else own

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


def _name_of(action: object) -> str:
    """Of a function, or of an object that can be called."""
    return str(getattr(action, "__qualname__", type(action).__qualname__))
