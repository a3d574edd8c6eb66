"""Input and output of a network for each known layout, by an onnxruntime that answers with numbers
set by hand; and which of several boxes of one road user is kept.
"""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from headway.sensing import SensingError
from headway.vision.boxes import overlaps
from headway.vision.detection import detectors as detect
from headway.vision.detection.detectors import (
    BICYCLE,
    BUS,
    CAR,
    COCO,
    MOTORCYCLE,
    PERSON,
    TRUCK,
    VEHICLE,
    Layout,
    OnnxDetector,
    one_box_each,
    read_layout,
)

NAMED = {"names": "{0: 'person', 1: 'dog', 2: 'car', 3: 'truck'}"}
TEXT_OF = "Known: input [1, 3, height, width] of float; output of YOLOX, YOLOv5, YOLOv8, YOLO11."


def session(shape, output, kind="tensor(float)", inputs=1, answers=None, **meta):
    """What onnxruntime tells of a model, without the model."""
    put = SimpleNamespace(shape=shape, type=kind, name="images")
    return SimpleNamespace(
        get_inputs=lambda: [put] * inputs,
        get_outputs=lambda: [SimpleNamespace(shape=output)],
        get_modelmeta=lambda: SimpleNamespace(custom_metadata_map=meta),
        run=lambda names, given: [answers(given["images"])],
    )


class Runtime:
    """Stands in for onnxruntime: sessions that answer what `rows` holds,
    and keep what they were given.
    """

    def __init__(self, monkeypatch, shape, output, providers=("CPUExecutionProvider",), **meta):
        self.shape, self.output, self.meta, self.opened, self.given = shape, output, meta, [], []
        self.rows = np.zeros(output[1:], np.float32)
        self.meet = None
        monkeypatch.setattr(detect.ort, "get_available_providers", lambda: [*providers])
        monkeypatch.setattr(detect.ort, "InferenceSession", self.open)

    def open(self, path, options, providers):
        self.opened.append((path, options, providers))

        def answers(blob):
            self.given.append(blob.copy())
            if self.meet is not None:
                self.meet.wait(10.0)
            return self.rows[None]

        one = session(self.shape, self.output, answers=answers, **self.meta)
        one.get_providers = lambda: providers
        return one


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"any")
    return path


def look(detector, image):
    found = detector.begin("cam", image).result(20.0)
    return [
        ([round(float(v), 3) for v in box], round(float(sure), 4), int(kind))
        for box, sure, kind in zip(found.xyxy, found.confidence, found.class_id, strict=True)
    ]


def blank_image(high, wide, colour=(10, 20, 30)):
    return np.full((high, wide, 3), colour, np.uint8)


# -- names


def test_classes_and_what_coco_calls_them():
    assert (PERSON, BICYCLE, CAR, MOTORCYCLE, BUS, TRUCK, VEHICLE) == (0, 1, 2, 3, 4, 5, 6)
    assert detect.CLASSES == ("person", "bicycle", "car", "motorcycle", "bus", "truck", "vehicle")
    assert COCO == {0: PERSON, 1: BICYCLE, 2: CAR, 3: MOTORCYCLE, 5: BUS, 7: TRUCK}
    assert cv2.getNumThreads() == 1  # streams run side by side
    with pytest.raises(AttributeError):
        Layout("yolox", 32, 32, COCO).width = 64


# -- opening


def test_a_missing_empty_or_invalid_model_file_is_refused_with_a_remedy(
    tmp_path, model, monkeypatch
):
    with pytest.raises(SensingError) as missing:
        OnnxDetector(tmp_path / "none.onnx")
    assert str(missing.value) == (
        f"{tmp_path}/none.onnx: there is no such model. `headway models list` lists the known ones."
    )
    model.write_bytes(b"")
    with pytest.raises(SensingError) as empty:
        OnnxDetector(model)
    assert (
        str(empty.value) == f"{model}: the file is empty. Fetch it again: `headway models fetch`."
    )
    model.write_bytes(b"x")

    def refuse(*args, **how):
        raise RuntimeError("x" * 199 + "yz\nmore")

    monkeypatch.setattr(detect.ort, "InferenceSession", refuse)
    with pytest.raises(SensingError) as none:
        OnnxDetector(model)
    assert str(none.value) == f"{model}: this is no ONNX model that can be run ({'x' * 199}y)"


def test_one_session_without_threads_of_its_own_by_the_best_provider(model, monkeypatch):
    runtime = Runtime(monkeypatch, [1, 3, 32, 32], [1, 21, 85])
    detector = OnnxDetector(model, threads=3)
    assert (detector.threads, detector.runs_on) == (3, "CPUExecutionProvider")
    assert [(path, providers) for path, _, providers in runtime.opened] == [
        (str(model), ["CPUExecutionProvider"])
    ]
    for _, options, _ in runtime.opened:
        assert (
            options.intra_op_num_threads,
            options.inter_op_num_threads,
            options.log_severity_level,
        ) == (1, 1, 3)
    assert detector.layout == Layout("yolox", 32, 32, COCO)
    gpu = Runtime(
        monkeypatch,
        [1, 3, 32, 32],
        [1, 21, 85],
        ("CPUExecutionProvider", "AzureExecutionProvider", "CUDAExecutionProvider"),
    )
    detector = OnnxDetector(model, threads=3)
    assert (detector.threads, detector.runs_on, len(gpu.opened)) == (1, "CUDAExecutionProvider", 1)
    assert gpu.opened[0][2] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert detect.PROVIDERS == (
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "OpenVINOExecutionProvider",
        "CPUExecutionProvider",
    )


def test_as_many_threads_as_the_process_may_use(model, monkeypatch):
    Runtime(monkeypatch, [1, 3, 32, 32], [1, 21, 85])
    asked = []
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda pid: asked.append(pid) or {0, 1, 5}, raising=False
    )
    assert OnnxDetector(model).threads == 3
    assert asked == [0]  # of this process
    assert OnnxDetector(model, threads=2).threads == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert OnnxDetector(model).threads == 4
    assert OnnxDetector(model, threads=2).threads == 2
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert OnnxDetector(model).threads == 1


def test_images_are_detected_in_parallel(model, monkeypatch):
    runtime = Runtime(monkeypatch, [1, 3, 32, 32], [1, 21, 85])
    runtime.meet = threading.Barrier(2)
    detector = OnnxDetector(model, threads=2)
    both = [detector.begin(key, blank_image(16, 16)) for key in "ab"]
    assert [len(one.result(20.0)) for one in both] == [0, 0]
    assert detector.forget("a") is None


# -- which layout


@pytest.mark.parametrize(
    ("shape", "output", "meta", "expected"),
    [
        ([1, 3, 64, 32], [1, 42, 85], {}, Layout("yolox", 32, 64, COCO)),  # 32 + 8 + 2 cells
        ([1, 3, 64, 32], [1, 42, 6], {"names": "{0: 'bus'}"}, Layout("yolox", 32, 64, {0: BUS})),
        (
            [1, 3, 36, 44],
            [1, 25, 85],
            {},
            Layout("yolox", 44, 36, COCO),
        ),  # whole cells: 4 * 5, 2 * 2 and 1
        ([1, 3, 64, 32], [1, 126, 85], {}, Layout("yolov5", 32, 64, COCO)),
        ([1, 3, 64, 32], [1, 126, 6], {"names": "{0: 'bus'}"}, Layout("yolov5", 32, 64, {0: BUS})),
        ([1, 3, 64, 32], [1, 84, 42], {}, Layout("yolov8", 32, 64, COCO)),
        ([1, 3, 64, 32], [1, 5, 42], {"names": "{0: 'bus'}"}, Layout("yolov8", 32, 64, {0: BUS})),
        (
            [1, 3, 64, 32],
            [1, 8, 42],
            NAMED,
            Layout("yolov8", 32, 64, {0: PERSON, 2: CAR, 3: TRUCK}),
        ),
        ([1, 3, 64, 32], [1, 84, 42], {"names": "no dictionary"}, Layout("yolov8", 32, 64, COCO)),
        ([1, 3, 64, 32], [1, 84, 42], {"names": "7 +"}, Layout("yolov8", 32, 64, COCO)),
        ([1, 3, 64, 32], [1, 1000, 6], {}, Layout("ended", 32, 64, COCO)),
        (
            [1, 3, 64, 32],
            [1, 300, 6],
            NAMED,
            Layout("ended", 32, 64, {0: PERSON, 2: CAR, 3: TRUCK}),
        ),
        (["n", 3, "h", "w"], [1, 84, 42], {"imgsz": "[64, 32]"}, Layout("yolov8", 32, 64, COCO)),
        (["n", 3, 64, "w"], [1, 84, 42], {"imgsz": "(96, 32)"}, Layout("yolov8", 32, 64, COCO)),
        (["n", 3, "h", "w"], [1, 84, 8400], {"imgsz": "wide"}, Layout("yolov8", 640, 640, COCO)),
        (["n", 3, "h", "w"], [1, 84, 8400], {"imgsz": "7 +"}, Layout("yolov8", 640, 640, COCO)),
        (["n", 3, "h", "w"], [1, 84, 21], {"imgsz": "32"}, Layout("yolov8", 32, 32, COCO)),
        (["n", 3, "h", "w"], [1, 84, 8400], {"imgsz": "[32]"}, Layout("yolov8", 640, 640, COCO)),
        (
            ["n", 3, "h", "w"],
            [1, 84, 8400],
            {"imgsz": "[32, 32, 32]"},
            Layout("yolov8", 640, 640, COCO),
        ),
        (
            ["n", 3, "h", "w"],
            [1, 84, 8400],
            {"imgsz": "['a', 'b']"},
            Layout("yolov8", 640, 640, COCO),
        ),
        (["n", 3, "h", "w"], [1, 84, 8400], {"imgsz": "[0, 32]"}, Layout("yolov8", 640, 640, COCO)),
        (
            ["n", 3, "h", "w"],
            [1, 84, 8400],
            {"imgsz": "[8193, 32]"},
            Layout("yolov8", 640, 640, COCO),
        ),
        (
            ["n", 3, "h", "w"],
            [1, 84, 1024],
            {"imgsz": "[8192, 8]"},
            Layout("yolov8", 8, 8192, COCO),
        ),
        (
            ["n", 3, "h", "w"],
            [1, 84, 8400],
            {"imgsz": "[" * 5000},
            Layout("yolov8", 640, 640, COCO),
        ),
        ([1, 3, 64, 32], [1, 84, 42], {"names": "['bus', 'car']"}, Layout("yolov8", 32, 64, COCO)),
        (
            [1, 3, 64, 32],
            [1, 8, 42],
            {"names": "{0: 'person', 'x': 'car', -1: 'bus'}"},
            Layout("yolov8", 32, 64, {0: PERSON}),
        ),
        (["n", 3, "h", "w"], [1, 84, 8400], {}, Layout("yolov8", 640, 640, COCO)),
        (["n", 3, 320, "w"], [1, 84, 4200], {}, Layout("yolov8", 640, 320, COCO)),
    ],
)
def test_a_layout_is_known_by_its_shapes_and_names(shape, output, meta, expected):
    assert read_layout(session(shape, output, **meta), "m.onnx") == expected


@pytest.mark.parametrize(("rows", "columns"), [("rows", "columns"), (1, "columns"), ("rows", 1)])
def test_shapes_that_the_file_leaves_open_are_those_of_one_run(rows, columns):
    given = []

    def answers(blob):
        given.append((blob.shape, blob.dtype, blob.any()))
        return np.zeros((1, 84, 42))

    found = read_layout(session(["n", 3, 64, 32], ["n", rows, columns], answers=answers), "m.onnx")
    assert found == Layout("yolov8", 32, 64, COCO)
    assert given == [((1, 3, 64, 32), np.float32, False)]


@pytest.mark.parametrize(
    ("shape", "output", "how"),
    [
        ([1, 3, 64, 32], [1, 42, 85], {"inputs": 2}), ([3, 64, 32], [1, 42, 85], {}),
        ([1, 1, 64, 32], [1, 42, 85], {}), ([1, 3, 64, 32], [42, 85], {}),
        ([1, 3, 64, 32], [1, 42, 85], {"kind": "tensor(double)"}),
    ],
)  # fmt: skip
def test_a_model_without_image_input_or_table_output_is_refused(shape, output, how):
    with pytest.raises(SensingError) as refused:
        read_layout(session(shape, output, **how), "m.onnx")
    assert str(refused.value) == (
        f"m.onnx: input {shape} {how.get('kind', 'tensor(float)')}, "
        f"output {output} is no known layout. {TEXT_OF}"
    )


@pytest.mark.parametrize(
    "output",
    [
        [1, 42, 5],
        [1, 126, 5],
        [1, 4, 42],
        [1, 1001, 6],
        [1, 300, 7],
        [1, 300, 5],
        [1, 43, 85],
        [1, 84, 43],
    ],
)
def test_a_table_that_fits_no_network_of_this_size_is_refused(output):
    with pytest.raises(SensingError) as refused:
        read_layout(session([1, 3, 64, 32], output, **NAMED), "m.onnx")
    assert str(refused.value) == (
        f"m.onnx: input [1, 3, 64, 32] tensor(float), output {output} is no known layout. "
        "For 32 x 64 YOLOX gives [1, 42, 5 + classes], YOLOv8 [1, 4 + classes, 42]."
    )


@pytest.mark.parametrize(
    ("output", "meta", "count"),
    [
        ([1, 42, 84], {}, 79),
        ([1, 126, 86], {}, 81),
        ([1, 83, 42], {}, 79),
        ([1, 300, 6], {"names": "{0: 'cat', 1: 'dog'}"}, 2),
        ([1, 84, 42], {"names": "{0: 'cat'}"}, 80),
    ],
)
def test_classes_of_which_none_is_known_are_refused(output, meta, count):
    with pytest.raises(SensingError) as refused:
        read_layout(session([1, 3, 64, 32], output, **meta), "m.onnx")
    assert str(refused.value) == (
        f"m.onnx: its {count} classes have no names in the model's metadata, "
        "and they are not the 80 of COCO. "
        "Known: person, bicycle, car, motorcycle, bus, truck, vehicle."
    )


# -- what a network is given


def test_yolox_input_is_bgr_levels_at_the_upper_left_on_grey(model, monkeypatch):
    runtime = Runtime(monkeypatch, [1, 3, 32, 64], [1, 42, 85])
    detector = OnnxDetector(model, threads=1)
    look(detector, blank_image(20, 100))  # 0.64 as large: 64 x 13
    look(detector, blank_image(64, 32))  # half as large: 16 x 32
    look(detector, blank_image(1, 1000))  # never less than one pixel
    look(detector, blank_image(1000, 1))
    expected = np.full((4, 3, 32, 64), 114.0, np.float32)
    for k, (high, wide) in enumerate(((13, 64), (32, 16), (1, 64), (32, 1))):
        expected[k, :, :high, :wide] = np.array([10, 20, 30])[:, None, None]
    assert [g.shape for g in runtime.given] == [(1, 3, 32, 64)] * 4
    for k in range(4):
        assert runtime.given[k][0].tolist() == expected[k].tolist()
        assert runtime.given[k].dtype == np.float32


@pytest.mark.parametrize("output", [[1, 126, 85], [1, 84, 42], [1, 300, 6]])
def test_other_inputs_are_rgb_shares_in_the_middle(model, monkeypatch, output):
    runtime = Runtime(monkeypatch, [1, 3, 32, 64], output)
    detector = OnnxDetector(model, threads=1)
    look(detector, blank_image(20, 100))  # 64 x 13, 19 rows are free: 9 above
    look(detector, blank_image(64, 32))  # 16 x 32, 48 columns are free: 24 to the left
    expected = np.full((2, 3, 32, 64), 114.0)
    expected[0, :, 9:22] = expected[1, :, :, 24:40] = np.array([30, 20, 10])[:, None, None]
    for k in range(2):
        assert runtime.given[k][0] == pytest.approx(expected[k] / 255.0)


# -- what is read out of its answer


def yolox_row(runtime, row, middle, size, stride, sure, **classes):
    """The row of stride 8, 16 or 32 that says:
    a box of this middle and size in the network's image. On 64 x 32: 8 columns of stride 8.
    """
    first, columns = {8: (0, 8), 16: (32, 4), 32: (40, 2)}[stride]
    y, x = divmod(row - first, columns)
    runtime.rows[row, :5] = (
        middle[0] / stride - x,
        middle[1] / stride - y,
        np.log(size[0] / stride),
        np.log(size[1] / stride),
        sure,
    )
    for name, share in classes.items():
        runtime.rows[row, 5 + int(name[1:])] = share


def test_boxes_of_yolox_are_relative_to_their_cell_and_stride(model, monkeypatch):
    runtime = Runtime(monkeypatch, [1, 3, 32, 64], [1, 42, 85])
    detector = OnnxDetector(model, 0.5, threads=1)
    yolox_row(
        runtime, 9, (12.0, 12.0), (8.0, 4.0), 8, 0.9, c2=0.8, c7=0.3, c9=1.0
    )  # class 9 is nobody's
    yolox_row(runtime, 38, (40.0, 20.0), (6.0, 10.0), 16, 1.0, c0=0.5)
    yolox_row(runtime, 41, (56.0, 24.0), (20.0, 12.0), 32, 0.5, c5=1.0)
    yolox_row(runtime, 0, (4.0, 4.0), (3.0, 3.0), 8, 0.49, c2=1.0)
    yolox_row(runtime, 7, (60.0, 4.0), (3.0, 3.0), 8, 0.9, c2=0.55)  # 0.495
    found = look(detector, blank_image(64, 128))  # half as large
    assert found == [
        ([16, 20, 32, 28], 0.72, CAR),
        ([74, 30, 86, 50], 0.5, PERSON),
        ([92, 36, 128, 60], 0.5, BUS),
    ]  # cut at 128
    runtime.rows[:] = 0.0
    assert look(detector, blank_image(64, 128)) == []
    runtime.rows[3, 4] = 0.9  # something, but none of ours
    assert look(detector, blank_image(64, 128)) == []


def test_cells_of_yolox_are_whole_ones(model, monkeypatch):
    runtime = Runtime(monkeypatch, [1, 3, 36, 44], [1, 25, 85])
    runtime.rows[22, :8] = (
        0.5,
        0.25,
        0.0,
        0.0,
        1.0,
        0.0,
        0.0,
        1.0,
    )  # of 4 * 5 and 2 * 2 cells the first one in the second row of stride 16
    assert look(OnnxDetector(model, 0.5, threads=1), blank_image(36, 44)) == [
        ([0, 12, 16, 28], 1.0, CAR)
    ]


def test_boxes_of_yolov5_have_a_middle_and_a_size(model, monkeypatch):
    runtime = Runtime(monkeypatch, [1, 3, 32, 64], [1, 126, 9], **NAMED)
    detector = OnnxDetector(model, 0.5, threads=1)
    runtime.rows[100] = (30.0, 16.0, 10.0, 6.0, 0.75, 0.1, 1.0, 0.2, 0.8)
    runtime.rows[101] = (50.0, 16.0, 10.0, 6.0, 1.0, 0.5, 0.0, 0.0, 0.0)
    runtime.rows[102] = (10.0, 16.0, 10.0, 6.0, 0.49, 1.0, 1.0, 1.0, 1.0)
    found = look(detector, blank_image(20, 64))  # as large; six rows above
    assert found == [([25, 7, 35, 13], 0.6, TRUCK), ([45, 7, 55, 13], 0.5, PERSON)]
    runtime.rows[:] = 0.0
    assert look(detector, blank_image(20, 64)) == []


def test_boxes_of_yolov8_are_columns_without_an_objectness_score(model, monkeypatch):
    runtime = Runtime(monkeypatch, [1, 3, 32, 64], [1, 8, 42], **NAMED)
    detector = OnnxDetector(model, 0.5, threads=1)
    runtime.rows[:, 11] = (30.0, 16.0, 10.0, 6.0, 0.1, 1.0, 0.75, 0.5)
    runtime.rows[:, 40] = (50.0, 16.0, 10.0, 6.0, 0.5, 0.0, 0.25, 0.0)
    runtime.rows[:, 41] = (10.0, 16.0, 10.0, 6.0, 0.49, 1.0, 0.1, 0.1)
    found = look(detector, blank_image(32, 32))  # as large; sixteen columns to the left
    assert found == [([9, 13, 19, 19], 0.75, CAR), ([29, 13, 32, 19], 0.5, PERSON)]
    runtime.rows[:] = 0.0
    assert look(detector, blank_image(32, 32)) == []


def test_boxes_of_a_network_that_ends_with_them_are_corners(model, monkeypatch):
    runtime = Runtime(monkeypatch, [1, 3, 32, 64], [1, 5, 6], **NAMED)
    detector = OnnxDetector(model, 0.5, threads=1)
    runtime.rows[:] = [
        (2, 4, 12, 14, 0.5, 3),
        (20, 4, 28, 14, 0.49, 2),
        (20, 4, 28, 14, 0.9, 1),
        (40, 4, 70, 14, 0.9, 2),
        (-3, 20, 8, 40, 0.8, 0),
    ]
    found = look(detector, blank_image(16, 32))  # twice as large
    assert found == [
        ([1, 2, 6, 7], 0.5, TRUCK),
        ([20, 2, 32, 7], 0.9, CAR),
        ([0, 10, 4, 16], 0.8, PERSON),
    ]
    runtime.rows[:] = 0.0
    assert look(detector, blank_image(16, 32)) == []


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_box_that_is_no_number_costs_the_others_nothing(model, monkeypatch, wrong):
    runtime = Runtime(monkeypatch, [1, 3, 32, 64], [1, 5, 6], **NAMED)
    runtime.rows[:] = 0.0
    runtime.rows[:2] = [(2, 4, 12, 14, 0.5, 3), (2, wrong, 12, 14, 0.9, 2)]
    detector = OnnxDetector(model, 0.5, threads=1)
    assert look(detector, blank_image(16, 32)) == [([1, 2, 6, 7], 0.5, TRUCK)]


def test_default_thresholds(model, monkeypatch):
    runtime = Runtime(monkeypatch, [1, 3, 32, 64], [1, 8, 42], **NAMED)
    detector = OnnxDetector(model, threads=1)
    for k, (x, sure) in enumerate(((8, 0.121), (24, 0.119), (40, 0.3))):
        runtime.rows[:, k] = (x, 16.0, 8.0, 8.0, 0.0, 0.0, sure, 0.0)
    runtime.rows[:, 3] = (43.0, 16.0, 8.0, 8.0, 0.0, 0.0, 0.25, 0.0)  # 5 / 11 = 0.4545 in common
    assert [kind for *_, kind in look(detector, blank_image(32, 64))] == [CAR, CAR]
    runtime.rows[0, 3] = 43.1  # 4.9 / 11.1 = 0.441
    assert len(look(detector, blank_image(32, 64))) == 3


@pytest.mark.parametrize(
    ("output", "width", "kept"),
    [
        (
            [1, 8, 42],
            16.0,
            [16.0],
        ),  # the surer one of two that are nearly the same: 16 / 20 in common
        ([1, 8, 42], 14.0, [20.0]),  # the whole: 14 / 20
        ([1, 300, 6], 16.0, [20.0]),  # its own suppression has been
    ],
)
def test_of_two_nearly_equal_boxes_the_more_confident_is_kept(
    model, monkeypatch, output, width, kept
):
    runtime = Runtime(monkeypatch, [1, 3, 32, 64], output, **NAMED)
    boxes = [(10.0, 10.0, 20.0, 10.0, 0.6), (10.0, 10.0, width, 10.0, 0.8)]
    for k, (x, y, w, h, sure) in enumerate(boxes):
        if output[1] == 8:
            runtime.rows[:, k] = (x + w / 2, y + h / 2, w, h, 0.0, 0.0, sure, 0.0)
        else:
            runtime.rows[k] = (x, y, x + w, y + h, sure, 2)
    found = look(OnnxDetector(model, 0.5, threads=1), blank_image(32, 64))
    assert [box[2] - box[0] for box, _, _ in found] == kept


def test_persons_and_vehicles_do_not_suppress_each_other_but_vehicle_classes_do(model, monkeypatch):
    runtime = Runtime(monkeypatch, [1, 3, 32, 64], [1, 8, 42], **NAMED)
    for k, shares in enumerate(((0.0, 0.0, 0.7, 0.0), (0.0, 0.0, 0.0, 0.8), (0.6, 0.0, 0.0, 0.0))):
        runtime.rows[:, k] = (30.0, 16.0, 10.0, 8.0, *shares)
    assert sorted(
        kind for *_, kind in look(OnnxDetector(model, 0.5, threads=1), blank_image(32, 64))
    ) == [PERSON, TRUCK]
    runtime = Runtime(monkeypatch, [1, 3, 32, 64], [1, 5, 6], **NAMED)
    runtime.rows[:3] = [(20, 8, 30, 16, 0.7, 2), (20, 8, 30, 16, 0.8, 3), (20, 8, 30, 16, 0.6, 0)]
    assert sorted(
        kind for *_, kind in look(OnnxDetector(model, 0.5, threads=1), blank_image(32, 64))
    ) == [PERSON, TRUCK]


# -- boxes and what they have in common


def test_common_parts_of_boxes():
    a = np.array(
        [[0, 0, 10, 10], [0, 0, 4, 5], [20, 20, 30, 30], [3, 3, 3, 3], [0, 0, 0.5, 0.5]], float
    )
    b = np.array([[5, 0, 15, 10], [0, 0, 10, 10], [0, 0, 0.5, 0.5]], float)
    union, inside = overlaps(a, b)
    assert union == pytest.approx(
        np.array(
            [[50 / 150, 1, 0.25 / 100], [0, 0.2, 0.25 / 20], [0, 0, 0], [0, 0, 0], [0, 0.0025, 1]]
        )
    )
    assert inside == pytest.approx(
        np.array([[0.5, 1, 0.0025], [0, 1, 0.25 / 20], [0, 0, 0], [0, 0, 0], [0, 1, 1]])
    )
    assert overlaps(a[3:4], a[3:4])[0].tolist() == [[0.0]]  # a box of no area is like nobody


def kept(boxes, scores, groups=None, overlap=0.45):
    return one_box_each(
        np.array(boxes, float),
        np.array(scores, float),
        np.zeros(len(boxes), int) if groups is None else np.array(groups),
        overlap,
    ).tolist()


def test_a_part_has_four_fifths_inside_the_whole_and_an_overlap_of_about_a_third():
    whole = [0, 0, 20, 5]
    assert kept([whole, [0, 0, 7, 5]], [0.5, 0.9]) == [0]  # 35 of 100 in common
    assert kept([whole, [0, 0, 6.99, 5]], [0.5, 0.9]) == [0, 1]
    assert kept([whole, [12, 0, 22, 5]], [0.5, 0.9]) == [
        0
    ]  # 8 of its 10 inside; 40 of 110 in common
    assert kept([whole, [12.1, 0, 22.1, 5]], [0.5, 0.9]) == [0, 1]
    assert kept([[12, 0, 22, 5], whole], [0.9, 0.5]) == [1]
    assert kept([whole, [0, 0, 10, 5]], [0.5, 0.9], [0, 1]) == [0, 1]


def test_a_whole_is_kept_with_at_least_half_the_confidence_of_its_best_part():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 6], [0, 4, 10, 10]]
    assert kept(boxes, [0.4, 0.8, 0.1]) == [0]
    assert kept(boxes, [0.39, 0.8, 0.1]) == [1, 2]
    assert kept(boxes, [0.39, 0.1, 0.8]) == [1, 2]
    assert kept(boxes[:2], [0.39, 0.8]) == [1]


def test_wholes_are_tested_from_the_largest_and_suppressed_boxes_take_no_part():
    large, middle, small = [0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 5]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]):
        boxes, scores = np.array([large, middle, small])[order], np.array([0.45, 0.6, 0.9])
        assert kept(boxes, scores[order]) == [order.index(0)]
        assert kept(boxes, np.array([0.3, 0.5, 0.9])[order]) == [
            order.index(1)
        ]  # too little for the largest, enough for the next
    # two wholes of one part: the larger takes it, the other has none left and stays
    assert kept([[0, 0, 12, 10], [7, 0, 17.5, 10], [6.5, 0, 12.5, 10]], [0.5, 0.3, 0.9]) == [0, 1]


def test_of_boxes_that_overlap_beyond_the_threshold_the_more_confident_is_kept():
    boxes = [[0, 0, 10, 4], [6, 0, 16, 4]]  # 4 of 16 in common
    assert kept(boxes, [0.5, 0.6], overlap=0.25) == [0, 1]
    assert kept(boxes, [0.5, 0.6], overlap=0.24) == [1]
    assert kept(boxes, [0.7, 0.6], overlap=0.24) == [0]
    assert kept(boxes, [0.7, 0.6], [0, 1], overlap=0.24) == [0, 1]
    chain = [[0, 0, 10, 4], [4, 0, 14, 4], [8, 0, 18, 4]]  # 6 of 14
    assert kept(chain, [0.5, 0.6, 0.55], overlap=0.4) == [1]
    assert kept(chain, [0.6, 0.55, 0.5], overlap=0.4) == [
        0,
        2,
    ]  # the middle one is out and puts nobody out
    assert kept([[0, 0, 4, 4]] * 3, [0.5, 0.7, 0.6]) == [1]
    assert kept([[0, 0, 4, 4]], [0.5], overlap=0.0) == [0]
