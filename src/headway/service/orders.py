"""Orders of operators to streets: each has an id, by which its acknowledgement or its refusal is
read and heard.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from headway.safety import Override

ORDERS_KEPT = 500  # of one street; the oldest that is no override in force is forgotten first
OVERRIDES = ("override", "emergency")  # kinds of orders for one junction
LASTING = ("hold", "stage", "flash")  # of these, what is in force for a time


class OrderState(StrEnum):
    """accepted: sent to the street, which has not answered yet. applied: in force. refused: by the
    street; nothing has changed. ended: an override that was in force is over. unanswered: the
    street's process ended before it answered, so it may have been obeyed or not.
    """

    ACCEPTED = "accepted"
    APPLIED = "applied"
    REFUSED = "refused"
    ENDED = "ended"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """An order for a street, and what became of it.

    kind:       override, emergency, controller, scenario, optimisation and the like.
    junction:   its name; empty where the order is for the whole street.
    arguments:  as they were given, by name.
    by:         who ordered it.
    at_s, changed_s: when it was placed, and when its state changed last; seconds since 1970.
    reason:     why it was refused, has ended or was not answered; else empty.
    process:    number of the process that it was sent to; None where none is known.
    """

    street: str
    kind: str
    by: str
    junction: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    at_s: float = 0.0
    changed_s: float = 0.0
    state: OrderState = OrderState.ACCEPTED
    reason: str = ""
    process: int | None = None

    @property
    def is_override(self) -> bool:
        """It keeps its junction from following its controller while it is in force."""
        return self.kind in OVERRIDES and self.arguments.get("order") in LASTING

    @property
    def is_in_force(self) -> bool:
        """An override that keeps its junction now."""
        return self.is_override and self.state is OrderState.APPLIED

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> PlacedOrder:
        """The inverse of `plain`. Raises ValueError for what is none."""
        try:
            return cls(
                street=str(told["street"]),
                kind=str(told["kind"]),
                by=str(told["by"]),
                junction=str(told["junction"] or ""),
                arguments=dict(told["arguments"]),
                id=str(told["id"]),
                at_s=datetime.fromisoformat(told["at"]).timestamp(),
                changed_s=datetime.fromisoformat(told["changed"]).timestamp(),
                state=OrderState(told["state"]),
                reason=str(told["reason"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no order: {error!r}") from error

    def plain(self) -> dict[str, Any]:
        """As values of JSON."""
        return {
            "id": self.id,
            "street": self.street,
            "kind": self.kind,
            "junction": self.junction or None,
            "arguments": dict(self.arguments),
            "by": self.by,
            "state": self.state.value,
            "reason": self.reason,
            "at": _time_of_day(self.at_s),
            "changed": _time_of_day(self.changed_s),
        }


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders; None for any."""

    state: OrderState | None = None
    kind: str | None = None
    junction: str | None = None
    by: str | None = None

    def takes(self, order: PlacedOrder) -> bool:
        asked = (self.state, self.kind, self.junction, self.by)
        found = (order.state, order.kind, order.junction, order.by)
        return all(want in (None, has) for want, has in zip(asked, found, strict=True))


class OrderBook:
    """The newest ORDERS_KEPT orders of each street, in memory, and the overrides in force among
    those; from any thread.

    publish: called with street and message at each change of a state.
    clock:   seconds since 1970.
    """

    def __init__(
        self,
        publish: Callable[[str, dict[str, Any]], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._publish = publish
        self._clock = clock
        self._orders: dict[str, dict[str, PlacedOrder]] = {}  # by street and id, oldest first
        self._lock = threading.Lock()

    def add(self, order: PlacedOrder, say: bool = True) -> PlacedOrder:
        """The order as it is on record, before it is sent: its answer may come at once. say: False
        where another process publishes it.
        """
        now_s = self._clock()
        placed = replace(order, at_s=now_s, changed_s=now_s)
        self._put(placed)
        if say:
            self._say(placed)
        return placed

    def mirror(self, order: PlacedOrder, say: bool = True) -> None:
        """As another process has it on record."""
        self._put(order)
        if say:
            self._say(order)

    def _put(self, order: PlacedOrder) -> None:
        with self._lock:
            of_street = self._orders.setdefault(order.street, {})
            while len(of_street) >= ORDERS_KEPT and order.id not in of_street:
                over = (number for number, old in of_street.items() if not old.is_in_force)
                del of_street[next(over, next(iter(of_street)))]
            of_street[order.id] = order

    def find(self, street: str, order_id: str) -> PlacedOrder | None:
        with self._lock:
            return self._orders.get(street, {}).get(order_id)

    def newest(self, street: str, where: OrderFilter, limit: int) -> list[PlacedOrder]:
        """At most `limit`, newest first."""
        with self._lock:
            orders = list(self._orders.get(street, {}).values())
        return [order for order in reversed(orders) if where.takes(order)][:limit]

    def open_orders(self, street: str) -> list[PlacedOrder]:
        """Those that were not answered yet, oldest first."""
        where = OrderFilter(state=OrderState.ACCEPTED)
        return list(reversed(self.newest(street, where, ORDERS_KEPT)))

    def apply(self, street: str, order_id: str) -> None:
        """The street has obeyed; another override of the junction has ended by that."""
        applied = self._change(street, order_id, OrderState.APPLIED)
        if applied is not None and applied.is_override:
            self._end(
                [o for o in self._in_force(street, applied.junction) if o.id != order_id],
                f"replaced by order {order_id}",
            )

    def find_in_force(self, street: str, junction: str, found: Override) -> None:
        """A process that was started anew keeps a junction by an order that the one before had not
        answered yet: it had obeyed.
        """
        where = OrderFilter(state=OrderState.UNANSWERED, junction=junction, by=found.by)
        for placed in self.newest(street, where, 1):
            asked = placed.arguments.get("order"), placed.arguments.get("stage")
            if asked in ((found.order.value, found.stage), (found.order.value, None)):
                self.apply(street, placed.id)

    def refuse(self, street: str, order_id: str, reason: str) -> None:
        self._change(street, order_id, OrderState.REFUSED, reason)

    def end_overrides(self, street: str, reason: str, junction: str | None = None) -> None:
        """Those in force are over: of one junction, or of the street."""
        self._end(self._in_force(street, junction), reason)

    def in_force(self, street: str) -> dict[str, PlacedOrder]:
        """The override of each junction that has one, by the junction's name."""
        return {order.junction: order for order in self._in_force(street, None)}

    def process_ended(
        self, street: str, why: str, sent_to: int | None, open_still: Container[str] = ()
    ) -> None:
        """What was sent to another process than `sent_to`, which runs now, is not answered any
        more. open_still: ids of orders that do not wait for the process that has ended.
        """
        with self._lock:
            orders = list(self._orders.get(street, {}).values())
        for order in orders:
            is_open = order.state is OrderState.ACCEPTED and order.id not in open_still
            if is_open and (sent_to is None or order.process != sent_to):
                reason = f"the street's process ended before it answered: {why}"
                self._change(street, order.id, OrderState.UNANSWERED, reason)

    def _in_force(self, street: str, junction: str | None) -> list[PlacedOrder]:
        where = OrderFilter(junction=junction)
        return [o for o in self.newest(street, where, ORDERS_KEPT) if o.is_in_force]

    def _end(self, orders: list[PlacedOrder], reason: str) -> None:
        for order in orders:
            self._change(order.street, order.id, OrderState.ENDED, reason)

    def _change(
        self, street: str, order_id: str, state: OrderState, reason: str = ""
    ) -> PlacedOrder | None:
        """The order as it is now; None for one that is not known, or forgotten."""
        with self._lock:
            of_street = self._orders.get(street, {})
            if (before := of_street.get(order_id)) is None:
                return None
            now = replace(before, state=state, reason=reason, changed_s=self._clock())
            of_street[order_id] = now
        self._say(now)
        return now

    def _say(self, order: PlacedOrder) -> None:
        self._publish(order.street, {"kind": f"order.{order.state.value}", "data": order.plain()})


def _time_of_day(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()
