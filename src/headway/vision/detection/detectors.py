"""Detection of road users by a network in ONNX form (without one: `motion`)."""

from __future__ import annotations

import ast
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import onnxruntime as ort
import supervision as sv
from numpy.typing import NDArray

from headway.vision import SensingError
from headway.vision.boxes import overlaps, sizes, upper_left
from headway.vision.frames.images import Image

CLASSES = ("person", "bicycle", "car", "motorcycle", "bus", "truck", "vehicle")
PERSON, BICYCLE, CAR, MOTORCYCLE, BUS, TRUCK, VEHICLE = range(7)
COCO = {0: PERSON, 1: BICYCLE, 2: CAR, 3: MOTORCYCLE, 5: BUS, 7: TRUCK}
COCO_CLASSES = 80
LARGEST_SIDE_PX = 8192  # that a model's metadata may name
USUAL_SIDE_PX = 640  # where they name none
STRIDES = (8, 16, 32)  # px between the cells of YOLO's three grids
ANCHORS = 3  # boxes a cell of YOLOv5
MOST_ROWS = 1000  # of a network that suppresses doubles itself
GREY_BORDER = 114  # level around the image, as in training
PROVIDERS = (  # best first
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "OpenVINOExecutionProvider",
    "CPUExecutionProvider",
)
QUIET = 3  # severity from which onnxruntime logs: errors
# Parts of a whole, docs/decisions/0010-association.md. Overlaps are 0 to 1.
PART_INSIDE = 0.8  # share of a part inside the whole
PART_IOU = 0.35
NEARLY_SAME = 0.75  # intersection over union from which two boxes are one, whatever their parts
WHOLE_SURE = 0.5  # of the surest part's confidence that the whole needs

cv2.setNumThreads(1)  # streams run side by side; threads within one image only get in their way


class Detector(Protocol):
    """threads: images that it can take at the same time. runs_on: of a network the provider that
    onnxruntime has for it here, such as CUDAExecutionProvider; else "processor".
    """

    threads: int
    runs_on: str

    def begin(self, key: str, image: Image) -> Future[sv.Detections]:
        """Detect in an image, (height, width, 3) BGR: boxes in its pixels, with confidence and
        class (index into `CLASSES`).

        key: the stream that it is of; a detector may keep what it knows of a stream, and takes its
            images in their order.
        """

    def forget(self, key: str) -> None:
        """The stream has ended."""


class LayoutKind(StrEnum):
    """Families of networks, by the form of their output."""

    YOLOX = "yolox"
    YOLOV5 = "yolov5"
    YOLOV8 = "yolov8"  # and later ones of the same form
    END_TO_END = "ended"  # with its own suppression of doubles


@dataclass(frozen=True, slots=True)
class Layout:
    """What a network takes and gives. width, height: of its image, pixels. classes: its to ours."""

    kind: LayoutKind
    width: int
    height: int
    classes: dict[int, int]


def cells_of(width: int, height: int) -> int:
    """Cells of all grids over an image of that size."""
    return sum((height // stride) * (width // stride) for stride in STRIDES)


@dataclass(frozen=True)
class _Worker:
    """Canvas and input of the network, made once and used by one thread at a time."""

    canvas: Image
    blob: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Placement:
    """Where an image is on the canvas, pixels; scale: canvas over image."""

    scale: float
    left: int
    top: int
    width: int
    height: int


class OnnxDetector:
    """A detection network. Raises SensingError for a file that is no such network, naming what it
    holds.

    threshold: least confidence. overlap: intersection over union from which two boxes are one.
    threads:   0 for one a core.
    """

    def __init__(
        self, path: Path, threshold: float = 0.12, overlap: float = 0.45, threads: int = 0
    ) -> None:
        _require_file(path)
        self._threshold = threshold
        self._overlap = overlap
        providers = [name for name in PROVIDERS if name in ort.get_available_providers()]
        on_processor = providers[0] == "CPUExecutionProvider"
        self.threads = (threads or _usable_cores()) if on_processor else 1
        self._session = _session(path, providers)
        self.runs_on: str = self._session.get_providers()[0]
        self.layout = read_layout(self._session, str(path))
        self._input = self._session.get_inputs()[0].name
        self._free: SimpleQueue[_Worker] = SimpleQueue()
        width, height = self.layout.width, self.layout.height
        for _ in range(self.threads):
            canvas = np.full((height, width, 3), GREY_BORDER, np.uint8)
            self._free.put(_Worker(canvas, np.empty((1, 3, height, width), np.float32)))
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="detector")

    def begin(self, key: str, image: Image) -> Future[sv.Detections]:
        return self._pool.submit(self._detect, image)

    def forget(self, key: str) -> None:
        pass

    def _detect(self, image: Image) -> sv.Detections:
        height, width = image.shape[:2]
        placement = self._placement(width, height)
        found = decode_boxes(self._run(image, placement), self.layout, self._threshold)
        # one box that is no number must not cost the others of its frame
        found = found.rows(np.flatnonzero(np.isfinite(found.boxes).all(1)))
        if not len(found.boxes):
            return sv.Detections.empty()

        left, top = placement.left, placement.top
        boxes = (found.boxes - np.array([left, top, left, top], np.float32)) / placement.scale
        found = self._without_doubles(found._replace(boxes=boxes))
        limit = np.array([width, height] * 2, np.float32)
        return sv.Detections(
            xyxy=np.clip(found.boxes, 0.0, limit),
            confidence=found.scores,
            class_id=found.classes,
        )

    def _placement(self, width: int, height: int) -> _Placement:
        """As large as the canvas allows; for YOLOX at the upper left, else in the middle."""
        at = self.layout
        scale = min(at.width / width, at.height / height)
        wide, high = max(round(width * scale), 1), max(round(height * scale), 1)
        left = top = 0
        if at.kind != LayoutKind.YOLOX:
            left, top = (at.width - wide) // 2, (at.height - high) // 2
        return _Placement(scale=scale, left=left, top=top, width=wide, height=high)

    def _run(self, image: Image, placement: _Placement) -> NDArray[np.float32]:
        """The network's output. YOLOX takes BGR levels, the others RGB of 0 to 1."""
        left, top, wide, high = placement.left, placement.top, placement.width, placement.height
        is_yolox = self.layout.kind == LayoutKind.YOLOX
        worker = self._free.get()
        try:
            worker.canvas[:] = GREY_BORDER
            worker.canvas[top : top + high, left : left + wide] = cv2.resize(
                image, (wide, high), interpolation=cv2.INTER_LINEAR
            )
            channels = (0, 1, 2) if is_yolox else (2, 1, 0)
            for channel, plane in zip(channels, cv2.split(worker.canvas), strict=True):
                worker.blob[0, channel] = plane  # three times as quick as OpenCV's own blob
            if not is_yolox:
                np.divide(worker.blob, 255.0, out=worker.blob)
            return np.asarray(self._session.run(None, {self._input: worker.blob})[0][0])
        finally:
            self._free.put(worker)

    def _without_doubles(self, found: DecodedBoxes) -> DecodedBoxes:
        """One box for each road user, whatever two classes say of it; a person and a vehicle are
        two.
        """
        if self.layout.kind != LayoutKind.END_TO_END:
            sides = np.c_[upper_left(found.boxes), sizes(found.boxes)]
            nearly_same = cv2.dnn.NMSBoxesBatched(
                sides, found.scores, found.groups, 0.0, NEARLY_SAME
            )
            found = found.rows(np.asarray(nearly_same, np.int64).reshape(-1))
        return found.rows(
            one_box_each(found.boxes, found.scores, found.groups, overlap=self._overlap)
        )


class DecodedBoxes(NamedTuple):
    """Columns of n detections. boxes: (n, 4), left, top, right, bottom. classes: ours."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]

    @property
    def groups(self) -> NDArray[np.int32]:
        """1 for people, 0 for vehicles."""
        return (self.classes == PERSON).astype(np.int32)

    def rows(self, kept: NDArray[np.int64]) -> DecodedBoxes:
        return DecodedBoxes(self.boxes[kept], self.scores[kept], self.classes[kept])


def _require_file(path: Path) -> None:
    if not path.exists():
        raise SensingError(
            f"{path}: there is no such model. `headway models list` lists the known ones."
        )
    if path.stat().st_size == 0:
        raise SensingError(f"{path}: the file is empty. Fetch it again: `headway models fetch`.")


def _usable_cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _session(path: Path, providers: list[str]) -> Any:
    """A session without threads of its own, in which each caller's thread runs its image: an image
    a thread beats many threads an image, whose work is small, and waiting for one another dear.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = QUIET
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime raises a class of its own for each fault
        raise SensingError(
            f"{path}: this is no ONNX model that can be run ({str(error).splitlines()[0][:200]})"
        ) from error


def read_layout(session: Any, where: str) -> Layout:
    """From the model's own metadata and shapes. Raises SensingError for what is no known detection
    network. where: names the model in messages.
    """
    image, output = session.get_inputs()[0], session.get_outputs()[0].shape
    found = f"input {image.shape} {image.type}, output {output}"
    if not _is_detection_network(session):
        raise SensingError(
            f"{where}: {found} is no known layout. Known: input [1, 3, height, width] of "
            "float; output of YOLOX, YOLOv5, YOLOv8, YOLO11."
        )
    metadata = session.get_modelmeta().custom_metadata_map
    height, width = (
        side if isinstance(side, int) else stated
        for side, stated in zip(
            image.shape[2:], _stated_size(metadata.get("imgsz", "")), strict=True
        )
    )
    names = _stated_names(metadata.get("names", ""))
    _, rows, columns = output
    if not isinstance(rows, int) or not isinstance(columns, int):  # the file leaves them open
        empty = np.zeros((1, 3, height, width), np.float32)
        _, rows, columns = session.run(None, {image.name: empty})[0].shape
    recognised = _kind_of(rows, columns, cells_of(width, height))
    if recognised is None:
        raise SensingError(
            f"{where}: {found} is no known layout. For {width} x {height} YOLOX gives [1, "
            f"{cells_of(width, height)}, 5 + classes], YOLOv8 [1, 4 + classes, "
            f"{cells_of(width, height)}]."
        )
    kind, count = recognised
    if kind == LayoutKind.END_TO_END:
        count = len(names) or COCO_CLASSES
    return Layout(kind, width, height, _classes(names, count, where))


def _is_detection_network(session: Any) -> bool:
    inputs, output = session.get_inputs(), session.get_outputs()[0].shape
    shape = inputs[0].shape
    return bool(
        len(inputs) == 1
        and len(shape) == 4
        and shape[1] == 3
        and inputs[0].type == "tensor(float)"
        and len(output) == 3
    )


def _kind_of(rows: int, columns: int, cells: int) -> tuple[LayoutKind, int] | None:
    """The family, and how many classes; 0 where the output does not say. None where it is none."""
    if rows == cells and columns > 5:
        return LayoutKind.YOLOX, columns - 5
    if rows == ANCHORS * cells and columns > 5:
        return LayoutKind.YOLOV5, columns - 5
    if columns == cells and rows > 4:
        return LayoutKind.YOLOV8, rows - 4
    if columns == 6 and rows <= MOST_ROWS:
        return LayoutKind.END_TO_END, 0
    return None


def _classes(names: dict[int, str], count: int, where: str) -> dict[int, int]:
    """The network's classes to ours, by their names or those of COCO. Raises SensingError where
    none is ours.
    """
    classes = {k: CLASSES.index(name) for k, name in names.items() if name in CLASSES}
    if not names and count == COCO_CLASSES:
        classes = COCO
    if not classes:
        raise SensingError(
            f"{where}: its {count} classes have no names in the model's metadata, and they "
            f"are not the 80 of COCO. Known: {', '.join(CLASSES)}."
        )
    return classes


def _stated_names(text: str) -> dict[int, str]:
    """Names of the classes by number, as the model's metadata states them."""
    read = _literal(text)
    if not isinstance(read, dict):
        return {}
    return {number: name for number, name in read.items() if type(number) is int and number >= 0}


def _stated_size(text: str) -> tuple[int, int]:
    """(height, width) of the image that the model's metadata states: one number for both, or two;
    640 x 640 where they state nothing sensible.
    """
    read = _literal(text)
    sides: tuple[Any, ...] = ()
    if isinstance(read, int):
        sides = (read, read)
    elif isinstance(read, (list, tuple)):
        sides = tuple(read)
    if len(sides) == 2 and all(type(s) is int and 1 <= s <= LARGEST_SIDE_PX for s in sides):
        return sides[0], sides[1]
    return USUAL_SIDE_PX, USUAL_SIDE_PX


def _literal(text: str) -> Any:
    """The value of Python's notation, as exporters write it into a model; None where it is none."""
    with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ast.literal_eval(text)
    return None


def decode_boxes(out: NDArray[np.float32], at: Layout, threshold: float) -> DecodedBoxes:
    """The detections of our classes above the threshold, in the network's image."""
    theirs = np.array(sorted(at.classes), np.int64)
    ours = np.array([at.classes[k] for k in theirs.tolist()], np.int64)
    if at.kind == LayoutKind.END_TO_END:
        number = out[:, 5].astype(np.int64)
        kept = (out[:, 4] >= threshold) & np.isin(number, theirs)
        classes = ours[np.searchsorted(theirs, number[kept])]
        return DecodedBoxes(boxes=out[kept, :4], scores=out[kept, 4], classes=classes)
    if at.kind == LayoutKind.YOLOV8:
        middles, scores, which = _decoded_columns(out, theirs, threshold)
    else:
        middles, scores, which = _decoded_rows(out, at, theirs, threshold)
    half = middles[:, 2:] / 2.0
    return DecodedBoxes(
        boxes=np.c_[middles[:, :2] - half, middles[:, :2] + half].astype(np.float32),
        scores=scores.astype(np.float32),
        classes=ours[which],
    )


_Decoded = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


def _decoded_columns(
    out: NDArray[np.float32], theirs: NDArray[np.int64], threshold: float
) -> _Decoded:
    """YOLOv8, a column a box: boxes (x, y of the middle, width, height), scores, class as an index
    into `theirs`.
    """
    table = out[4 + theirs]
    scores = table.max(0)
    kept = np.flatnonzero(scores >= threshold)
    return out[:4, kept].T, scores[kept], table[:, kept].argmax(0)


def _decoded_rows(
    out: NDArray[np.float32], at: Layout, theirs: NDArray[np.int64], threshold: float
) -> _Decoded:
    """YOLOX and YOLOv5, a row a box, which has a confidence of its own; otherwise the same."""
    likely = np.flatnonzero(out[:, 4] >= threshold)
    table = out[likely][:, 5 + theirs] * out[likely, 4:5]
    scores = table.max(1)
    good = scores >= threshold
    kept = likely[good]
    boxes = out[kept, :4]
    if at.kind == LayoutKind.YOLOX:  # relative to the cell, in cells; sizes as logarithms
        grid, stride = _grid(at.width, at.height)
        middles = (boxes[:, :2] + grid[kept]) * stride[kept]
        boxes = np.c_[middles, np.exp(boxes[:, 2:]) * stride[kept]]
    return boxes, scores[good], table[good].argmax(1)


def one_box_each(boxes: Any, scores: Any, groups: Any, overlap: float) -> NDArray[np.int64]:
    """The rows to keep so that each road user has one box: of a whole and its parts (a truck and
    its cab) the whole, unless it is far less sure; of boxes that overlap the surest.

    boxes: (n, 4). scores, groups: (n,); boxes of different groups are different road users.
    """
    boxes = np.asarray(boxes)
    iou, inside = overlaps(np.asarray(boxes, np.float64), np.asarray(boxes, np.float64))
    area, rows = sizes(boxes).prod(1), np.arange(len(boxes))
    rivals = groups[:, None] == groups[None]
    smaller = area[:, None] < area[None]
    is_part = (inside >= PART_INSIDE) & (iou >= PART_IOU) & rivals & smaller  # row of column
    dropped = np.zeros(len(boxes), np.bool_)

    # wholes, the largest first
    has_parts = is_part.any(0)
    for whole in rows[has_parts][np.argsort(-area[has_parts])].tolist():
        parts = rows[is_part[:, whole] & ~dropped]
        if not dropped[whole] and len(parts):
            whole_wins = scores[whole] >= WHOLE_SURE * scores[parts].max()
            dropped[parts if whole_wins else whole] = True

    # the others, the surest first
    for row in rows[np.argsort(-scores)].tolist():
        if not dropped[row]:
            dropped |= (iou[row] > overlap) & rivals[row] & (rows != row)
    return rows[~dropped]


@lru_cache(8)
def _grid(width: int, height: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cell and stride of each row of a YOLOX output, (cells, 2) and (cells, 1)."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[0 : height // stride, 0 : width // stride]
        cells.append(np.c_[x.ravel(), y.ravel()])
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)
