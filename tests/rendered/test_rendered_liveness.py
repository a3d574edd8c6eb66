"""A camera that delivers no image, or always the same, sees nobody, and says so: its
junction is not observed, which is not the same as empty.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")

from headway.rendered.plant import Liveness


def image(seed):
    return np.random.default_rng(seed).integers(0, 255, (64, 80, 3), dtype=np.uint8)


def test_a_camera_counts_while_its_images_change():
    liveness = Liveness()
    assert liveness.completeness(100.0) == 1.0, "no image is due yet"
    for k in range(10):
        assert liveness.is_live(100.0 + 0.2 * k, image(k))
        assert liveness.completeness(100.0 + 0.2 * k) == 1.0


@pytest.mark.parametrize("still", [image(0), np.zeros((64, 80, 3), np.uint8)])
def test_one_that_stands_still_or_is_black_is_dead_after_two_seconds_and_comes_back(still):
    liveness = Liveness()
    assert liveness.is_live(100.0, still)
    found = []
    for k in range(1, 21):
        assert not liveness.is_live(100.0 + 0.2 * k, still)
        found.append(liveness.completeness(100.0 + 0.2 * k))
    assert found == [1.0] * 10 + [0.0] * 10
    assert liveness.is_live(104.2, image(1))
    assert liveness.completeness(104.2) == 1.0


def test_one_that_delivers_nothing_is_dead_after_two_seconds():
    liveness = Liveness()
    assert [liveness.completeness(t) for t in (100.0, 102.0, 102.1)] == [1.0, 1.0, 0.0]
