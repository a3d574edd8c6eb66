"""What is tried of an ONNX network before it is registered."""

from __future__ import annotations

import numpy as np
import pytest
from tests.onnx_files import heavy, linear

from headway.learning.model_files import ModelFiles

SAID = {"headway_observation": "queues", "headway_interval_s": "5"}


def test_a_network_that_is_loaded_at_once_is_kept(tmp_path):
    sha256, _ = ModelFiles(tmp_path).keep(linear(np.ones((4, 2)), [0.0, 1.0], SAID), "onnx-policy")
    assert ModelFiles(tmp_path).path(sha256).exists()
    ModelFiles(tmp_path).keep(heavy(1000, SAID), "onnx-policy")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (heavy(10**9, SAID), "the file: takes more than 2 s of a processor or 3 GiB to be loaded"),
        (b"\x08\x08garbage", "the file: is no ONNX network"),
        (linear(np.ones((4, 2)), [0.0, 1.0], SAID, beside="w.bin"), "is no ONNX network .*w.bin"),
    ],
)
def test_one_that_would_hold_a_street_up_or_cannot_be_loaded_is_refused(tmp_path, data, says):
    with pytest.raises(ValueError, match=says):
        ModelFiles(tmp_path).keep(data, "onnx-policy")
    assert not list(tmp_path.iterdir())
