"""Flashing operation of a junction, as an operator orders it: red to all, flashing, red to all.

Flashing yellow goes to the road for which the junction's own programme has most green, flashing red
(stop, then go) to all others, as in MUTCD 2009, sections 4D.28 to 4D.30.
"""

from __future__ import annotations

import numpy as np

from headway.roads import GO, Colour, Junction
from headway.values import ColourArray

ENTRY_RED_S = 2.0  # red to all before it flashes, and no less than each clearance
EXIT_RED_S = 6.0  # red to all afterwards: who has stopped at flashing red may be on its way
YELLOW = int(Colour.YELLOW)


def flash_colours(junction: Junction) -> ColourArray:
    """int8 (groups of the junction,): what each group shows while the junction flashes.

    Yellow flashes for the greens of the stage that the programme shows longest in a cycle. Where
    two of them are in conflict and not just one of them gives way, both flash red. A group that no
    stage serves stays red.
    """
    programme = junction.programme
    served = (junction.stages >= GO).any(axis=0)
    is_stage = (programme.colours >= GO).any(axis=1) & (programme.colours != YELLOW).all(axis=1)
    alike = (programme.colours[:, None] == programme.colours[None]).all(axis=2)
    shown_s = (alike & is_stage) @ programme.duration_s
    main = (programme.colours[np.argmax(shown_s)] >= GO) & served & bool(is_stage.any())
    unclear = junction.conflicts & (junction.yields == junction.yields.T)
    main &= ~(unclear & main).any(axis=1)
    others = np.where(served, Colour.FLASHING_RED, Colour.RED)
    return np.where(main, Colour.FLASHING_YELLOW, others).astype(np.int8)
