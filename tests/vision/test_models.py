"""Models: layouts distinguished by their shapes, and one real network on a real clip."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bench import clips

from headway.sensing import SensingError
from headway.vision.detection.detectors import COCO, OnnxDetector, decode_boxes, read_layout
from headway.vision.frames.sources import FrameSource, SourceSettings


def session(shape, output, kind="tensor(float)", **meta):
    """What onnxruntime tells of a model, without the model."""
    put = SimpleNamespace(shape=shape, type=kind, name="images")
    return SimpleNamespace(
        get_inputs=lambda: [put],
        get_outputs=lambda: [SimpleNamespace(shape=output)],
        get_modelmeta=lambda: SimpleNamespace(custom_metadata_map=meta),
    )


@pytest.mark.parametrize(
    ("shape", "output", "meta", "kind"),
    [
        ([1, 3, 416, 416], [1, 3549, 85], {}, "yolox"),
        ([1, 3, 640, 640], [1, 8400, 85], {}, "yolox"),
        ([1, 3, 640, 640], [1, 25200, 85], {}, "yolov5"),
        ([1, 3, 640, 640], [1, 84, 8400], {}, "yolov8"),
        (
            ["batch", 3, "height", "width"],
            [1, 6, 1344],
            {"imgsz": "[256, 256]", "names": "{0: 'car', 1: 'person'}"},
            "yolov8",
        ),
        ([1, 3, 640, 640], [1, 300, 6], {"names": "{0: 'person', 2: 'car'}"}, "ended"),
    ],
)
def test_layouts_are_distinguished(shape, output, meta, kind):
    found = read_layout(session(shape, output, **meta), "m.onnx")
    assert found.kind == kind
    assert found.classes


@pytest.mark.parametrize(
    ("shape", "output", "kind", "says"),
    [
        ([1, 3, 416, 416], [1, 1000], "tensor(float)", "no known layout"),
        ([1, 1, 28, 28], [1, 10, 10], "tensor(float)", "no known layout"),
        ([1, 3, 640, 640], [1, 84, 8400], "tensor(float16)", "no known layout"),
        ([1, 3, 640, 640], [1, 7, 8400], "tensor(float)", "3 classes"),
    ],
)
def test_wrong_shapes_are_refused_with_what_was_found(shape, output, kind, says):
    with pytest.raises(SensingError, match=says):
        read_layout(session(shape, output, kind), "m.onnx")


def test_a_box_is_decoded_where_it_was_encoded():
    layout = read_layout(session([1, 3, 416, 416], [1, 3549, 85]), "m")
    out = np.zeros((3549, 85), np.float32)
    out[10 + 52 * 20, :5] = (0.5, 0.5, np.log(5.0), np.log(3.0), 0.9)  # stride 8, cell (10, 20)
    out[10 + 52 * 20, 5 + 2] = 0.9
    boxes, scores, classes = decode_boxes(out, layout, 0.3)
    assert boxes[0].tolist() == pytest.approx([84 - 20, 164 - 12, 84 + 20, 164 + 12])
    assert (scores[0], classes[0]) == (pytest.approx(0.81), COCO[2])
    other = read_layout(session([1, 3, 640, 640], [1, 84, 8400]), "m")
    flat = np.zeros((84, 8400), np.float32)
    flat[:4, 7], flat[4 + 7, 7] = (100, 80, 40, 20), 0.8
    boxes, _, classes = decode_boxes(flat, other, 0.3)
    assert (boxes[0].tolist(), classes[0]) == ([80, 70, 120, 90], COCO[7])


@pytest.mark.skipif(
    not clips.CLIP.exists(), reason=f"no test data: {clips.CLIP} is not there (HEADWAY_DATA)"
)
@pytest.mark.parametrize("change", ["as it is", "dark", "half the rate", "compressed"])
@pytest.mark.slow
def test_the_reference_tracks_of_a_real_junction_are_kept(change):
    frames = list(FrameSource(SourceSettings(str(clips.CLIP))).frames())
    shares = clips.kept(clips.CHANGES[change], frames, OnnxDetector(Path(clips.MODEL)))
    assert len(shares) == 5
    assert min(shares.values()) >= 0.8, shares
