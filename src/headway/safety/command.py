"""What the safety gate lets through. Nothing outside `headway.safety` imports this module: the type
is exported, its maker is not.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import NoReturn

from headway.values import ColourArray, Event

_SEAL = object()


@dataclass(frozen=True, slots=True)
class Command:
    """int8 (groups,) colours to be shown from `at_s` on, and what the gate did against the
    proposal.

    Raises PermissionError where anybody but the gate makes one; nor can one be made of another
    (`dataclasses.replace`), or its colours be written to.
    """

    at_s: float
    colours: ColourArray
    interventions: tuple[Event, ...]
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise PermissionError(
                "A Command is made by the safety gate alone. Hand a Proposal to "
                "headway.safety.SafetyGate.admit."
            )

    def __deepcopy__(self, memo: object) -> Command:
        """A copy would have colours that can be written to."""
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise PermissionError("A Command is not pickled: whoever loads it is not the safety gate.")


def sealed(at_s: float, colours: ColourArray, interventions: tuple[Event, ...]) -> Command:
    return Command(at_s, colours, interventions, _SEAL)
