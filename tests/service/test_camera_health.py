"""When a camera is dead, and when it is back."""

from __future__ import annotations

import numpy as np
import pytest

from headway.service.camera_health import CameraHealth, CameraView

RNG = np.random.default_rng(1)


def picture(level=120):
    return np.clip(RNG.normal(level, 20, (240, 320, 3)), 0, 255).astype(np.uint8)


def run(views, health=None):
    """Each (time, view or views): what changed, as (time, camera, dead, reason)."""
    health, found = health or CameraHealth(15.0, 20.0), []
    for at_s, view in views:
        for change in health.check(at_s, view if isinstance(view, list) else [view]):
            found.append((at_s, change.outage.camera, change.dead, change.outage.reason))
    return found


def view(received, name="north", expected=True, live=True, state="running", **more):
    return CameraView(name, expected, live, state, received, **more)


def test_a_camera_that_falls_silent_is_dead_after_fifteen_seconds_and_back_with_a_frame():
    views = [(t, view(t + 1)) for t in range(5)]  # the last frame at 4 s
    views += [
        (t, view(5, state="reconnecting", fault="no server answers there")) for t in range(5, 40)
    ]
    views += [(40, view(6)), (41, view(7))]
    reason = "no frame for 15 s: no server answers there"
    assert run(views) == [(19, "north", True, reason), (40, "north", False, reason)]


def test_since_is_the_last_frame():
    health = CameraHealth(15.0, 20.0)
    for t in range(31):
        changes = health.check(t, [view(min(t, 10) + 1)])
        if changes:
            assert (t, changes[0].outage.since_s) == (25, 10)
            assert health.outages()["north"] is changes[0].outage
            break
    else:
        pytest.fail("it is dead")
    assert health.silent_s("north", 31) == 21
    assert health.silent_s("nobody", 31) is None


def test_a_camera_that_never_delivers_is_dead_fifteen_seconds_after_its_start():
    assert run([(t, view(0, state="starting")) for t in range(100, 120)]) == [
        (115, "north", True, "no frame for 15 s")
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": "failed", "fault": "there is no video"}, "it was given up: there is no video"),
        ({"state": "idle", "stopped_fault": "wrong size"}, "it was given up: wrong size"),
        ({"state": "ended", "live": False}, None),
        ({"state": "failed", "expected": False}, None),
    ],
)
def test_what_was_given_up_is_dead_at_once_and_a_film_at_its_end_is_not(changes, reason):
    expected = [] if reason is None else [(0, "north", True, reason)]
    assert run([(t, view(3, **changes)) for t in range(40)]) == expected


def test_a_camera_that_is_stopped_on_purpose_is_forgotten_and_dead_no_more():
    views = [(t, view(1)) for t in range(20)]
    views += [(t, view(1, expected=False)) for t in range(20, 40)]
    views += [(t, view(1)) for t in range(40, 54)]
    assert [f[:3] for f in run(views)] == [(15, "north", True), (20, "north", False)]


def test_an_image_that_stays_the_same_is_dead_and_one_that_moves_is_not():
    same = picture()
    views = [(t, view(t + 1, frame=(t, same if t >= 5 else picture()))) for t in range(30)]
    views += [(t, view(t + 1, frame=(t, picture()))) for t in range(30, 35)]
    reason = "its image has been the same for 20 s"
    assert run(views) == [(25, "north", True, reason), (30, "north", False, reason)]


@pytest.mark.parametrize(
    ("live", "numbers"), [(False, lambda t: t), (True, lambda t: 3)], ids=["film", "not processed"]
)
def test_a_still_film_and_a_frame_that_is_looked_at_twice_are_no_frozen_camera(live, numbers):
    same = picture()
    assert run([(t, view(t + 1, live=live, frame=(numbers(t), same))) for t in range(60)]) == []


def test_a_black_image_is_dead_and_a_night_with_lamps_is_not():
    def night(t):
        image = picture(5)
        image[:40, :80] = 250  # a lamp: 4 % of the image
        return image

    assert run([(t, view(t + 1, frame=(t, night(t)))) for t in range(60)]) == []
    dark = run([(t, view(t + 1, frame=(t, picture(0) // 4))) for t in range(60)])
    assert dark == [(20, "north", True, "its image has been black for 20 s")]


def test_each_camera_by_itself():
    views = [(t, [view(1, "a"), view(t + 1, "b"), view(1, "c", expected=False)]) for t in range(60)]
    assert [f[1] for f in run(views)] == ["a"]
