"""What is on a picture: a network in ONNX form, or, without one, what moves before a background."""

from __future__ import annotations

import ast
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import cv2
import numpy as np
import onnxruntime as ort
import supervision as sv
from numpy.typing import NDArray

from headway.sensing import SensingError
from headway.sensing.boxes import overlaps
from headway.sensing.frames.sources import Picture

CLASSES = ("person", "bicycle", "car", "motorcycle", "bus", "truck", "vehicle")
PERSON, BICYCLE, CAR, MOTORCYCLE, BUS, TRUCK, VEHICLE = range(7)
LARGEST_SIDE = 8192  # px
COCO = {0: PERSON, 1: BICYCLE, 2: CAR, 3: MOTORCYCLE, 5: BUS, 7: TRUCK}
PROVIDERS = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "OpenVINOExecutionProvider",
    "CPUExecutionProvider",
)
STRIDES = (8, 16, 32)
cv2.setNumThreads(1)  # streams run side by side; threads within one picture only get in their way
GREY_BORDER = 114
# docs/decisions/0010-association.md
NEARLY_SAME = 0.75
PART = 0.8
PART_OVERLAP = 0.35
WHOLE_SURE = 0.5


class Detector(Protocol):
    """threads: pictures that it can look at side by side."""

    threads: int

    def begin(self, key: str, image: Picture) -> Future[sv.Detections]:
        """Look at a picture, (height, width, 3) BGR: boxes in its pixels, with confidence and class
        (index into `CLASSES`).

        key: which stream it is of; a detector may keep what it knows of a stream, and looks at its
            pictures in their order.
        """

    def forget(self, key: str) -> None:
        """The stream has ended."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a network wants its picture, and tells its boxes. kind: yolox, yolov5, yolov8 or ended
    (with its own suppression of doubles).
    """

    kind: str
    width: int
    height: int
    classes: dict[int, int]


class OnnxDetector:
    """A detection network. Raises SensingError for a file that is no such network, naming what it
    holds.
    """

    def __init__(
        self, path: Path, threshold: float = 0.12, overlap: float = 0.45, threads: int = 0
    ) -> None:
        if not path.exists():
            raise SensingError(
                f"{path}: there is no such model. `headway models list` tells of known ones."
            )
        if path.stat().st_size == 0:
            raise SensingError(
                f"{path}: the file is empty. Fetch it again: `headway models fetch`."
            )
        self.threads = (
            threads or len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else threads or os.cpu_count() or 1
        )
        self._threshold, self._overlap = threshold, overlap
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        providers = [p for p in PROVIDERS if p in ort.get_available_providers()]
        if providers[0] != "CPUExecutionProvider":
            self.threads = 1
        # a picture a thread beats many threads a picture: their work is small, and waiting for one
        # another dear
        try:
            self._sessions = [
                ort.InferenceSession(str(path), options, providers=providers)
                for _ in range(self.threads)
            ]
        except Exception as error:  # onnxruntime raises a class of its own for each fault
            raise SensingError(
                f"{path}: this is no ONNX model that can be run "
                f"({str(error).splitlines()[0][:200]})"
            ) from error
        self.provider = self._sessions[0].get_providers()[0]
        self.layout = read_layout(self._sessions[0], str(path))
        self._input = self._sessions[0].get_inputs()[0].name
        self._free: SimpleQueue[Any] = SimpleQueue()
        for session in self._sessions:  # each with its canvas and input, made once
            canvas = np.full((self.layout.height, self.layout.width, 3), GREY_BORDER, np.uint8)
            self._free.put(
                (
                    session,
                    canvas,
                    np.empty((1, 3, self.layout.height, self.layout.width), np.float32),
                )
            )
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="detector")

    def begin(self, key: str, image: Picture) -> Future[sv.Detections]:
        return self._pool.submit(self._one, image)

    def forget(self, key: str) -> None:
        pass

    def _one(self, image: Picture) -> sv.Detections:
        at = self.layout
        scale = min(at.width / image.shape[1], at.height / image.shape[0])
        size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
        left, top = (
            (0, 0)
            if at.kind == "yolox"
            else ((at.width - size[0]) // 2, (at.height - size[1]) // 2)
        )
        session, canvas, blob = self._free.get()
        try:
            canvas[:] = GREY_BORDER
            canvas[top : top + size[1], left : left + size[0]] = cv2.resize(
                image, size, interpolation=cv2.INTER_LINEAR
            )
            for channel, plane in zip(
                (0, 1, 2) if at.kind == "yolox" else (2, 1, 0), cv2.split(canvas), strict=True
            ):
                blob[0, channel] = plane  # three times as quick as OpenCV's own blob
            if at.kind != "yolox":
                blob /= 255.0
            out = session.run(None, {self._input: blob})[0][0]
        finally:
            self._free.put((session, canvas, blob))
        boxes, scores, classes = _decoded(out, at, self._threshold)
        if not len(boxes):
            return sv.Detections.empty()
        boxes = (boxes - np.array([left, top, left, top], np.float32)) / scale
        groups = (classes == PERSON).astype(
            np.int32
        )  # one thing is one vehicle, whatever two classes say of it
        if at.kind != "ended":
            sides = np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]
            kept = np.asarray(
                cv2.dnn.NMSBoxesBatched(sides, scores, groups, 0.0, NEARLY_SAME), np.int64
            ).reshape(-1)
            boxes = boxes[kept]
            scores = scores[kept]
            classes = classes[kept]
            groups = groups[kept]
        kept = single(boxes, scores, groups, self._overlap)
        boxes = boxes[kept]
        scores = scores[kept]
        classes = classes[kept]
        limit = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
        return sv.Detections(xyxy=np.clip(boxes, 0.0, limit), confidence=scores, class_id=classes)


def read_layout(session: Any, where: str) -> Layout:
    """From the model's own metadata and shapes. Raises SensingError for what is no known detection
    network.
    """
    inputs, output = session.get_inputs(), session.get_outputs()[0].shape
    picture, shape = inputs[0], inputs[0].shape
    meta = session.get_modelmeta().custom_metadata_map
    found = f"input {shape} {picture.type}, output {output}"
    if (
        len(inputs) != 1
        or len(shape) != 4
        or shape[1] != 3
        or picture.type != "tensor(float)"
        or len(output) != 3
    ):
        raise SensingError(
            f"{where}: {found} is no known layout. Known: input [1, 3, height, width] of "
            "float; output of YOLOX, YOLOv5, YOLOv8, YOLO11."
        )
    height, width = (
        side if isinstance(side, int) else t
        for side, t in zip(shape[2:], _size_told(meta.get("imgsz", "")), strict=True)
    )
    cells = sum((height // s) * (width // s) for s in STRIDES)
    _, rows, columns = output
    read = _literal(meta.get("names", ""))
    names: dict[int, str] = (
        {k: v for k, v in read.items() if type(k) is int and k >= 0}
        if isinstance(read, dict)
        else {}
    )
    if not isinstance(rows, int) or not isinstance(
        columns, int
    ):  # told by one run, where the file leaves it open
        _, rows, columns = session.run(
            None, {picture.name: np.zeros((1, 3, height, width), np.float32)}
        )[0].shape
    if rows == cells and columns > 5:
        kind, count = "yolox", columns - 5
    elif rows == 3 * cells and columns > 5:
        kind, count = "yolov5", columns - 5
    elif columns == cells and rows > 4:
        kind, count = "yolov8", rows - 4
    elif columns == 6 and rows <= 1000:
        kind, count = "ended", len(names) or 80
    else:
        raise SensingError(
            f"{where}: {found} is no known layout. For {width} x {height} YOLOX tells [1, "
            f"{cells}, 5 + classes], YOLOv8 [1, 4 + classes, {cells}]."
        )
    classes = (
        {k: CLASSES.index(name) for k, name in names.items() if name in CLASSES}
        if names
        else COCO
        if count == 80
        else {}
    )
    if not classes:
        raise SensingError(
            f"{where}: its {count} classes have no names in the model's metadata, and they "
            f"are not the 80 of COCO. Known: {', '.join(CLASSES)}."
        )
    return Layout(kind, width, height, classes)


def _size_told(text: str) -> tuple[int, int]:
    """(height, width) of the picture that the file says the network takes: one number for both, or
    two; 640 x 640 where it says nothing sensible.
    """
    read = _literal(text)
    sides = (
        (read, read)
        if isinstance(read, int)
        else tuple(read)
        if isinstance(read, (list, tuple))
        else ()
    )
    if len(sides) == 2 and all(type(s) is int and 1 <= s <= LARGEST_SIDE for s in sides):
        return sides[0], sides[1]
    return 640, 640


def _literal(text: str) -> Any:
    """The value of Python's notation, as exporters write it into a model; None where it is none."""
    with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ast.literal_eval(text)
    return None


def _decoded(
    out: NDArray[np.float32], at: Layout, threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Boxes (x1, y1, x2, y2 in the network's picture), scores and our classes of those above the
    threshold.
    """
    ours = np.array(sorted(at.classes), np.int64)
    to = np.array([at.classes[k] for k in ours.tolist()], np.int64)
    if at.kind == "ended":
        rows = out[(out[:, 4] >= threshold) & np.isin(out[:, 5].astype(np.int64), ours)]
        return rows[:, :4], rows[:, 4], to[np.searchsorted(ours, rows[:, 5].astype(np.int64))]
    if at.kind == "yolov8":
        table = out[4 + ours]
        scores = table.max(0)
        kept = np.flatnonzero(scores >= threshold)
        which = table[:, kept].argmax(0)
        scores = scores[kept]
        boxes = out[:4, kept].T
    else:
        likely = np.flatnonzero(out[:, 4] >= threshold)
        table = out[likely][:, 5 + ours] * out[likely, 4:5]
        scores = table.max(1)
        good = scores >= threshold
        kept = likely[good]
        which = table[good].argmax(1)
        scores = scores[good]
        boxes = out[kept, :4]
        if at.kind == "yolox":
            grid, stride = _grid(at.width, at.height)
            boxes = np.c_[
                (boxes[:, :2] + grid[kept]) * stride[kept], np.exp(boxes[:, 2:]) * stride[kept]
            ]
    half = boxes[:, 2:] / 2.0
    return (
        np.c_[boxes[:, :2] - half, boxes[:, :2] + half].astype(np.float32),
        scores.astype(np.float32),
        to[which],
    )


def single(boxes: Any, scores: Any, groups: Any, overlap: float) -> NDArray[np.int64]:
    """The rows to keep so that each road user has one box: of a whole and its parts (a truck and
    its cab) the whole, unless it is far less sure.
    """
    alike, inside = overlaps(np.asarray(boxes, np.float64), np.asarray(boxes, np.float64))
    area, rows = (boxes[:, 2:] - boxes[:, :2]).prod(1), np.arange(len(boxes))
    rivals = groups[:, None] == groups[None]
    part = (
        (inside >= PART) & (alike >= PART_OVERLAP) & rivals & (area[:, None] < area[None])
    )  # the row is part of the column
    dead = np.zeros(len(boxes), np.bool_)
    for whole in rows[part.any(0)][np.argsort(-area[part.any(0)])].tolist():
        parts = rows[part[:, whole] & ~dead]
        if not dead[whole] and len(parts):
            dead[parts if scores[whole] >= WHOLE_SURE * scores[parts].max() else whole] = True
    for row in rows[np.argsort(-scores)].tolist():
        if not dead[row]:
            dead |= (alike[row] > overlap) & rivals[row] & (rows != row)
    return rows[~dead]


_grids: dict[tuple[int, int], tuple[NDArray[np.float32], NDArray[np.float32]]] = {}


def _grid(width: int, height: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cell and stride of each row of a YOLOX output, (cells, 2) and (cells, 1)."""
    if (width, height) not in _grids:
        cells, strides = [], []
        for s in STRIDES:
            y, x = np.mgrid[0 : height // s, 0 : width // s]
            cells.append(np.c_[x.ravel(), y.ravel()])
            strides.append(np.full((x.size, 1), s))
        _grids[width, height] = (
            np.concatenate(cells).astype(np.float32),
            np.concatenate(strides).astype(np.float32),
        )
    return _grids[width, height]
