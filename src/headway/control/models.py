"""Models: controllers whose figures stand in a file. What a file holds is checked before it
decides anything.

A *planner* model is a settings file (YAML) with the section `planner` alone, as `headway tune`
writes it; a *q-table* is the file that `headway train` writes; an *onnx-policy* is the network of
an agent (`headway.control.onnx_policy`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from headway.control import Controller
from headway.roads import Network, Timing
from headway.settings import PlannerSettings, Settings

if TYPE_CHECKING:
    from headway.control.qtable import QTable

# Controllers are imported where one is made: who only names models need not load the compiler.

PLANNER, Q_TABLE, ONNX_POLICY = "planner", "q-table", "onnx-policy"
KINDS = (PLANNER, Q_TABLE, ONNX_POLICY)
MOST_BYTES = 1 << 30  # of a file
MOST_PLANNER_BYTES = 64 << 10
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}", re.ASCII)
LONGEST_FAULT = 300  # characters of what another library says of a file
# What PyYAML raises: for a tag that does not fit its value (`!!bool 3`) whatever its own code does.
UNREADABLE = (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One version of a model, and where its file is.

    version: from 1. kind: one of KINDS. sha256: of the file, hexadecimal. path: on this machine.

    Raises ValueError for what cannot be.
    """

    name: str
    version: int
    kind: str
    sha256: str
    path: str

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"model {self.name[:80]!r}: a name has 1 to 64 letters, digits, dots, dashes and "
                "underscores, and begins with a letter or digit"
            )
        if isinstance(self.version, bool) or self.version < 1:
            raise ValueError(f"model {self.name}: versions count from 1, not {self.version!r}")
        if self.kind not in KINDS:
            raise ValueError(
                f"model {self.label}: no kind {self.kind[:40]!r}. There are: {', '.join(KINDS)}."
            )
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"model {self.label}: sha256 has 64 hexadecimal digits")

    @property
    def label(self) -> str:
        """As records and snapshots name it: "name@version"."""
        return f"{self.name}@{self.version}"


def require_intact(model: ModelFile) -> bytes:
    """The content of its file, read once. Raises ValueError for a file that is not the model's."""
    path = Path(model.path)
    try:
        if not path.is_file():  # nor a pipe, which nobody may ever write
            raise FileNotFoundError(2, "No such file")
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{_place(model)}: is larger than {MOST_BYTES >> 20} MiB.")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{_place(model)}: cannot be read ({error.strerror}). Add the model anew."
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != model.sha256:
        raise ValueError(
            f"{_place(model)}: was changed: its sha256 is {found[:12]}..., not "
            f"{model.sha256[:12]}... Add the model anew, or take another version."
        )
    return data


def model_controller(
    model: ModelFile, network: Network, timing: Timing, settings: Settings
) -> Controller:
    """The controller that a model is, called by its label. settings: what the model does not say.

    Raises ValueError for a file that is not intact, not of its kind, or of another network.
    """
    from headway.control.planner import Planner
    from headway.control.qlearning import QLearning
    from headway.control.queue_model import Model

    data = require_intact(model)
    if model.kind == ONNX_POLICY:
        from headway.control.onnx_policy import OnnxPolicy

        return OnnxPolicy(network, timing, data, _place(model), model.label)
    if model.kind == Q_TABLE:
        table = _q_table(model, data, network)
        interval_s = settings.q_learning.interval_s
        return QLearning(network, timing, table, interval_s, name=model.label)
    figures = Model(**planner_figures(data, _place(model)).model_dump())
    return Planner(network, timing, figures, settings.loop.tick_s, name=model.label)


def _place(model: ModelFile) -> str:
    return f"model {model.label}: {model.path}"


def planner_figures(data: bytes, place: str) -> PlannerSettings:
    """Of the content of a planner's file. Raises ValueError, which names `place`, with every
    fault.
    """
    remedy = "Give a file that `headway tune` wrote."
    if len(data) > MOST_PLANNER_BYTES:
        raise ValueError(f"{place}: is too large for figures of a planner. {remedy}")
    try:
        text = data.decode()
        nodes = yaml.compose(text, yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except UNREADABLE as error:
        why = " ".join(str(error).split())[:LONGEST_FAULT]
        raise ValueError(f"{place}: is no YAML ({why}). {remedy}") from error
    _refuse_double_keys(place, nodes)
    if not isinstance(tree, dict) or list(tree) != ["planner"]:
        raise ValueError(f"{place}: must hold the section `planner`, and it alone. {remedy}")
    try:
        return PlannerSettings.model_validate(tree["planner"], strict=True)
    except ValidationError as error:
        faults = [
            f"{'.'.join(['planner', *map(str, fault['loc'])])}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise ValueError(f"{place}: {'; '.join(faults)}. {remedy}") from error


def _refuse_double_keys(place: str, node: yaml.Node | None) -> None:
    """YAML takes the last of two. Raises ValueError."""
    if not isinstance(node, yaml.MappingNode):
        return
    keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f"{place}: {twice[:80]!r} is given twice. Give it once.")
    for key, value in node.value:
        if key.value == "planner":
            _refuse_double_keys(place, value)


def _q_table(model: ModelFile, data: bytes, network: Network) -> QTable:
    """Raises ValueError."""
    from headway.control.qlearning import network_stamp
    from headway.control.qtable import QTable

    place = _place(model)
    table = QTable.from_bytes(data, place)
    if table.network == 0:
        raise ValueError(
            f"{place}: does not say which network it was trained for (an earlier version wrote "
            "it). Train one anew: headway train --out FILE"
        )
    if table.network != network_stamp(network):
        raise ValueError(
            f"{place}: was trained for another network than {network.path}. Train one for it: "
            "headway train"
        )
    if not len(table):
        raise ValueError(f"{place}: knows no state. Train it: headway train")
    return table
