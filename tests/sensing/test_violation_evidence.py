"""The evidence: which images are kept, what is drawn on them and what is made unreadable, the seal,
and the signal history.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import cv2
import numpy as np
import pytest
from tests.sensing.hand_made import SIZE, Watch, observed_at, road_user, site, ten_px_a_metre

from headway.sensing.traffic.evidence import Violation, blurred, seal_of
from headway.sensing.traffic.signals import SignalHistory, lamp_colour
from headway.vision.detection.detectors import PERSON

RED, YELLOW, GREEN = 1, 2, 4
BOX = {"name": "box", "kind": "box", "px": [[100, 80], [220, 80], [220, 140], [100, 140]]}
STOP = {"name": "stop", "px": [[160, 80], [160, 140]], "stop": True, "group": 0}
STANDS = {"stopped_since_s": 0.0}


def decoded(image):
    return cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)


def grey(level, size=SIZE):
    return np.full((size[1], size[0], 3), level, np.uint8)


# -- which images


def blocked(times, at_s, size=SIZE, **how):
    """(watch, violation) of one that blocks a box at `at_s`;
    the image of times[k] is as grey as 5 k.
    """
    watch, car = Watch(site(size=size, zones=[BOX], rules={"blocked_s": at_s}), **how), road_user()
    for k, t in enumerate(times):
        watch.show(t, observed_at(car, t, (150.0, 110.0), **STANDS), image=grey(5 * k, size))
    watch.close()
    (one,) = watch.found
    return watch, one


def test_images_are_a_second_before_at_and_a_second_after():
    times = [k * 0.25 for k in range(41)]
    _, one = blocked(times, 6.0)
    assert one.at_s == 6.0
    assert [at for at, _ in one.images] == [5.0, 6.0, 7.0]
    shades = [int(np.median(decoded(p))) for _, p in one.images]
    assert shades == pytest.approx([5 * 20, 5 * 24, 5 * 28], abs=1)


def test_the_nearest_image_is_used_for_a_missing_one():
    times = [4.0, 4.75, 5.125, 6.0, 6.75, 7.125, 7.5]
    _, one = blocked(times, 6.0)
    assert [at for at, _ in one.images] == [5.125, 6.0, 7.125]
    _, few = blocked([6.0, 6.5], 6.0)  # the stream ends; one image may stand for two
    assert [at for at, _ in few.images] == [6.0, 6.5]
    _, alone = blocked([6.0], 6.0)
    assert [at for at, _ in alone.images] == [6.0]


def test_images_are_kept_four_times_a_second_for_two_and_a_half_seconds():
    watch = Watch(site(lines=[{"name": "s", "px": [[0, 0], [9, 9]], "stop": True, "group": 1}]))
    for k in range(1, 81):
        watch.show(k / 8.0, image=grey(k))
    assert [t for t, _, _ in watch.detector.evidence.frames] == [
        7.375 + k / 4.0 for k in range(11)
    ]  # to 9.875 s: 10 s is only an eighth after
    watch.show(10.125, image=grey(81))
    assert [t for t, _, _ in watch.detector.evidence.frames] == [7.625 + k / 4.0 for k in range(11)]


def test_the_images_before_a_crossing_are_kept_until_it_is_decided():
    """Crossed at 10.875 s, which is decided at 16.5 s:
    the images from 1.2 s before it are still there.
    """
    watch, car = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, RED)]), road_user()
    for k in range(-12, 27):
        t = 10.0 + k * 0.25
        x = min(90.0 + 80.0 * (t - 10.0), 175.0) if t < 16.5 else 240.0
        watch.show(t, observed_at(car, t, (x, 110.0)), image=grey(2 * (k + 12)))
    assert watch.detector.evidence.frames[0][0] == 9.75
    (one,) = watch.found
    assert [at for at, _ in one.images] == [9.75, 10.75, 11.75]
    watch.show(16.75)
    assert watch.detector.evidence.frames[0][0] == 14.25


def test_wide_images_are_made_960_wide_and_kept_compressed():
    for size, shape in (
        ((1920, 1080), (540, 960)),
        ((960, 400), (400, 960)),
        ((962, 400), (399, 960)),
        ((321, 240), (240, 321)),
        ((320, 241), (241, 320)),
        ((322, 240), (240, 322)),
    ):
        watch, one = blocked([5.0, 6.0, 7.0], 6.0, size)
        kept = [jpeg for _, jpeg, _ in watch.detector.evidence.frames]
        assert {decoded(jpeg).shape for jpeg in kept} == {(*shape, 3)}
        assert max(map(len, kept)) < 0.2 * shape[0] * shape[1] * 3  # the ring is most of a camera's
        assert {decoded(p).shape for _, p in one.images} == {(*shape, 3)}


def test_a_colour_is_the_same_on_the_evidence():
    image = np.zeros((240, 320, 3), np.uint8)
    image[:] = (30, 60, 200)
    watch, car = Watch(site(zones=[BOX], rules={"blocked_s": 6.0})), road_user()
    watch.show(6.0, observed_at(car, 6.0, (150.0, 110.0), **STANDS), image=image)
    (one,) = watch.close()
    assert decoded(one.images[0][1])[40, 40].tolist() == pytest.approx([30, 60, 200], abs=4)


# -- what is drawn


def drawn_by_hand(image, box, line, text):
    """The image that is expected, drawn again."""
    out = image.copy()
    if box is not None:
        cv2.rectangle(out, box[:2], box[2:], (0, 0, 255), 2)
    if line is not None:
        cv2.line(out, *line, (0, 0, 255), 2)
    low = out.shape[0] - 10
    for x, y in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b] + [(0, 0)]:
        colour = (0, 0, 0) if x or y else (255, 255, 255)
        cv2.putText(
            out, text, (8 + x, low + y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA
        )
    return cv2.imdecode(
        cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR
    )


@pytest.mark.parametrize("scale", [1, 6])
def test_box_line_and_text_are_drawn_where_they_belong(scale):
    """At 1920 x 1440 the evidence is 960 wide: half of everything."""
    size = (320 * scale, 240 * scale)
    lines = [STOP | {"px": [[160 * scale, 80 * scale], [162 * scale, 140 * scale]]},
             {"name": "other",
                 "px": [[20 * scale, 20 * scale], [300 * scale, 20 * scale]]}]  # fmt: skip
    watch = Watch(site(ten_px_a_metre(), size, lines=lines), [(0.0, 0, RED)], blur=False)
    car = road_user()
    times = [10.0 + k / 4.0 for k in range(9)]
    for k, t in enumerate(times):
        place = ((90.0 + 20.0 * k) * scale, 110.0 * scale)
        shown = (car,) if k < 8 else ()
        if shown:
            observed_at(car, t, place, size=(41.0 * scale, 19.0 * scale))
        watch.show(t, *shown, image=grey(90, size))
    (one,) = watch.found
    assert one.at_s == pytest.approx(10.89, abs=0.01)  # where x = 161, for its foot is at y = 110
    part = min(960 / size[0], 1.0)
    to = [[round(c * part) for c in p] for p in lines[0]["px"]]
    for at_s, image in one.images:
        k = times.index(at_s)
        x = 90.0 + 20.0 * k
        box = (
            tuple(round(c * scale * part) for c in (x - 20.5, 91.0, x + 20.5, 110.0))
            if k < 8
            else None
        )
        want = drawn_by_hand(
            grey(90, (round(size[0] * part), round(size[1] * part))),
            box,
            to,
            f"north red_light {at_s:.2f} s ({at_s - one.at_s:+.2f})",
        )
        assert np.array_equal(decoded(image), want)
    assert [round(at_s - one.at_s) for at_s, _ in one.images] == [-1, 0, 1]


def test_other_rules_draw_no_line_and_the_text_says_when():
    watch = Watch(
        site(lines=[STOP], zones=[BOX], rules={"blocked_s": 6.0}), device="cam 7", blur=False
    )
    car = road_user()
    for t in (5.0, 6.0, 7.0):
        watch.show(t, observed_at(car, t, (150.0, 110.0), **STANDS))
    for (_, image), text in zip(
        watch.found[0].images, ("5.00 s (-1.00)", "6.00 s (+0.00)", "7.00 s (+1.00)"), strict=True
    ):
        assert np.array_equal(
            decoded(image),
            drawn_by_hand(grey(90), (130, 90, 170, 110), None, f"cam 7 blocked_box {text}"),
        )


def test_jpegs_are_of_quality_80():
    """The largest entry of the usual table of luminance, 121, times 40 % (50 for quality 75;
    46 for 81).
    """
    _, one = blocked([6.0], 6.0)
    image = one.images[0][1]
    k = image.index(b"\xff\xdb")
    assert max(image[k + 5 : k + 5 + 64]) == 48


# -- faces and plates

NOISE = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)


def coarse(image, x1, y1, x2, y2):
    """Blocks of about ten pixels, each of one colour: the mean of what was there."""
    out = image.copy()
    across, down = max((x2 - x1) // 10, 1), max((y2 - y1) // 10, 1)
    # the tests take sizes that can be shared out
    width = (x2 - x1) // across
    height = (y2 - y1) // down
    for i in range(down):
        for j in range(across):
            block = out[
                y1 + i * height : y1 + (i + 1) * height, x1 + j * width : x1 + (j + 1) * width
            ]
            block[:] = np.round(block.reshape(-1, 3).mean(0))
    return out


@pytest.mark.parametrize(
    ("box", "part"),
    [
        ((20, 20, 120, 60), (20, 40, 120, 60)),  # wide: its lower half
        ((20, 20, 50, 80), (20, 20, 50, 40)),  # upright: its upper third
        ((20, 20, 40, 46), (20, 33, 40, 46)),  # 1.3 times as high as wide: not upright yet
        ((20, 20, 40, 47), (20, 20, 40, 29)),  # now it is; a third of 27 is 9
        ((20, 20, 27, 28), (20, 24, 27, 28)),  # hardly larger than it must be: one block
        ((20, 20, 24, 36), (20, 20, 24, 25)),
        ((20, 20, 23, 60), None),  # too narrow to show anything
        ((20, 20, 60, 26), None),  # three pixels high
        ((-40, 80, 30, 130), (0, 105, 30, 120)),  # cut at the edges of the image
        (
            (150, 80, 200, 120),
            (150, 100, 160, 120),
        ),  # a vehicle that is leaving: what is left of it is upright, its plate is still below
        ((140, -30, 190, 30), (140, 0, 160, 30)),
        ((150, -30, 170, 45), None),  # a head above the image
        ((170, 10, 200, 40), None),
    ],
)
def test_plates_and_faces_become_blocks_and_nothing_else_changes(box, part):
    out = blurred(NOISE, [np.array(box, np.float64)])
    want = NOISE if part is None else coarse(NOISE, *part)
    assert np.abs(out.astype(int) - want).max() <= 1
    changed = (out != NOISE).any(2)
    if part is not None:
        x1, y1, x2, y2 = part
        assert changed[y1:y2, x1:x2].mean() > 0.9
        changed[y1:y2, x1:x2] = False
    assert not changed.any()


def test_all_road_users_are_blurred_and_the_image_itself_is_not_changed():
    before = NOISE.copy()
    out = blurred(NOISE, [np.array([20, 20, 60, 40]), np.array([100, 60, 140, 80])])
    assert (
        np.abs(out.astype(int) - coarse(coarse(NOISE, 20, 30, 60, 40), 100, 70, 140, 80)).max() <= 1
    )
    assert (before == NOISE).all()
    assert (blurred(NOISE, []) == NOISE).all()


@pytest.mark.parametrize("scale", [1, 6])
def test_evidence_hides_the_plates_of_all_vehicles(scale):
    """Stripes two pixels wide, in the boxes of the one who is told and of another:
    gone where plates are, there elsewhere.
    """
    size = (320 * scale, 240 * scale)
    image = grey(40, size)
    image[:, (np.arange(size[0]) // (2 * scale)) % 2 == 0] = 200
    boxes = [BOX | {"px": [[c * scale for c in p] for p in BOX["px"]]}]
    shown = {}
    for blur in (True, False):
        watch = Watch(site(size=size, zones=boxes, rules={"blocked_s": 6.0}), blur=blur)
        observed_at(
            car := road_user(),
            6.0,
            (150.0 * scale, 110.0 * scale),
            size=(40.0 * scale, 20.0 * scale),
            **STANDS,
        )
        observed_at(
            other := road_user(2, PERSON),
            6.0,
            (250.0 * scale, 110.0 * scale),
            size=(20.0 * scale, 60.0 * scale),
        )
        watch.show(6.0, car, other, image=image)
        (one,) = watch.close()
        shown[blur] = decoded(one.images[0][1]).astype(int)[:, :, 1]
    part = min(scale, 3)

    def spread(blur, x1, y1, x2, y2):
        return shown[blur][y1 * part : y2 * part, x1 * part : x2 * part].std()

    for plate in ((136, 102, 164, 107), (242, 52, 258, 68)):
        assert spread(True, *plate) < 25 < 60 < spread(False, *plate)
    for open_ in ((136, 92, 164, 98), (242, 74, 258, 108), (10, 10, 90, 200)):
        assert spread(True, *open_) > 60


def test_faces_are_blurred_by_default():
    assert Watch(site()).detector.blur is True


# -- the seal

ONE = Violation(
    "7",
    12.5,
    "north",
    "red_light",
    0.9,
    {"track": 3, "class": "car"},
    ((11.5, b"before"), (12.5, b"at")),
)
TEXT = (
    (
        '{"at_s": 12.5, "confidence": 0.9, "data": {"class": "car", "track": 3}, "device": '
        '"north", "id": "7", "pictures": [[11.5, "'
    )
    + hashlib.sha256(b"before").hexdigest() + '"], [12.5, "' + hashlib.sha256(b"at").hexdigest() + (
        '"]], "rule": '
        '"red_light"}'
    )
)  # fmt: skip


def test_the_seal_is_over_all_that_a_violation_says_and_shows():
    assert seal_of(ONE, b"k") == hmac.new(b"k", TEXT.encode(), "sha256").hexdigest()
    assert seal_of(ONE, b"") == hashlib.sha256(TEXT.encode()).hexdigest()
    assert seal_of(replace(ONE, seal="x"), b"k") == seal_of(ONE, b"k")  # but not over itself
    changes = ({"id": "8"}, {"at_s": 12.6}, {"device": "south"}, {"rule": "speeding"},
        {"confidence": 0.8}, {"data": {"track": 3}},
               {"images": ONE.images[:1]}, {"images": ((11.5, b"before"), (12.5, b"At"))},
               {"images": ((11.4, b"before"), (12.5, b"at"))})  # fmt: skip
    assert len(
        {seal_of(ONE, b"k"), *(seal_of(replace(ONE, **change), b"k") for change in changes)}
    ) == 1 + len(changes)


@pytest.mark.parametrize("key", [b"a key", b""])
def test_a_reported_violation_carries_its_seal(key):
    _, one = blocked([5.0, 6.0, 7.0], 6.0, key=key)
    assert one.seal == seal_of(one, key) != seal_of(one, b"another key")
    assert len(one.images) == 3


# -- lamps


def bgr_of(hue, saturation=255, value=255):
    """A colour whose hue, saturation and value are read as these."""
    colour = cv2.cvtColor(np.uint8([[[hue, saturation, value]]]), cv2.COLOR_HSV2BGR)
    assert cv2.cvtColor(colour, cv2.COLOR_BGR2HSV)[0, 0].tolist() == [hue, saturation, value]
    return colour[0, 0]


def lamp(*colours, size=(10, 10)):
    """A image of the lamp: these pixels, the others black."""
    image = np.zeros((*size, 3), np.uint8)
    for k, colour in enumerate(colours):
        image.reshape(-1, 3)[k] = colour
    return image


@pytest.mark.parametrize(("hue", "colour"), [
    (0, RED), (11, RED), (12, None), (13, None), (14, YELLOW), (35, YELLOW), (36, None), (39, None),
    (40, GREEN), (99, GREEN), (100, None), (120, None),
    (168, None), (169, RED),
    (179, RED),
])  # fmt: skip
def test_the_colour_of_a_lamp_is_its_hue(hue, colour):
    assert lamp_colour(lamp(*[bgr_of(hue)] * 100), (0, 0, 10, 10)) == colour


@pytest.mark.parametrize(("hue", "saturation", "value", "colour"), [
    (0, 101, 255, RED), (0, 100, 255, None), (0, 255, 131, RED), (0, 255, 130, None),
    (60, 101, 255, GREEN), (60, 255, 131, GREEN),
])  # fmt: skip
def test_pale_and_dark_lamps_are_off(hue, saturation, value, colour):
    assert lamp_colour(lamp(*[bgr_of(hue, saturation, value)] * 100), (0, 0, 10, 10)) == colour


def test_three_pixels_in_a_hundred_shine_and_more_than_three_in_five_of_them_must_agree():
    red, green = bgr_of(0), bgr_of(60)
    assert lamp_colour(lamp(red, red, red), (0, 0, 10, 10)) == RED
    assert lamp_colour(lamp(red, red), (0, 0, 10, 10)) is None
    assert lamp_colour(lamp(red, red, red, green, green), (0, 0, 10, 10)) is None
    assert lamp_colour(lamp(*[red] * 4, green, green), (0, 0, 10, 10)) == RED
    assert lamp_colour(lamp(*[green] * 4, red, red), (0, 0, 10, 10)) == GREEN


def test_the_colour_of_a_lamp_is_read_in_its_own_part_of_the_image():
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:14, 20:28] = bgr_of(60)
    assert lamp_colour(image, (20, 10, 8, 4)) == GREEN
    assert lamp_colour(image, (-9, -9, 8, 4)) is None  # outside: not the picture without its rim
    assert lamp_colour(image, (19.6, 9.6, 8.4, 4.4)) == GREEN
    for beside in ((20, 14, 8, 4), (20, 6, 8, 4), (28, 10, 8, 4), (12, 10, 8, 4)):
        assert lamp_colour(image, beside) is None
    assert lamp_colour(image, (100, 10, 8, 4)) is None  # outside
    image[0, 0:2] = bgr_of(0)
    assert lamp_colour(image, (-6, -9, 8, 10)) == RED  # half outside: its corner of 2 x 1 pixels
    assert lamp_colour(image, (-8, -9, 8, 10)) is None


# -- what is known of the signals


def test_a_lamp_colour_counts_after_three_equal_frames_from_the_first_of_them():
    signals = SignalHistory()
    signals.record_lamp(1.0, 4, RED)
    signals.record_lamp(2.0, 4, RED)
    assert signals.state_at(4, 2.0) is None
    signals.record_lamp(3.0, 4, RED)
    assert signals.state_at(4, 3.0) == (RED, 2.0)
    assert signals.state_at(4, 1.0) == (RED, 0.0)
    assert signals.state_at(4, 0.9) is None
    for at_s, colour in ((4.0, GREEN), (5.0, GREEN), (6.0, RED), (7.0, GREEN), (8.0, GREEN)):
        signals.record_lamp(at_s, 4, colour)
    assert signals.state_at(4, 8.0) == (RED, 7.0)
    signals.record_lamp(9.0, 4, GREEN)
    assert signals.state_at(4, 9.0) == (GREEN, 2.0)
    assert signals.state_at(4, 6.5) == (RED, 5.5)
    assert signals.state_at(0, 9.0) is None  # another group


def test_a_lamp_colour_is_valid_for_three_minutes_after_the_last_frame():
    signals = SignalHistory()
    for k in range(5):
        signals.record_lamp(10.0 * k, 0, RED)
    assert signals.state_at(0, 220.0) == (RED, 220.0)
    assert signals.state_at(0, 220.1) is None
    assert signals.state_at(0, 30.0) == (RED, 30.0)


def test_controller_reports_take_precedence_over_lamps():
    signals = SignalHistory()
    signals.record(5.0, 0, GREEN)
    for at_s in (6.0, 7.0, 8.0, 9.0):
        signals.record_lamp(at_s, 0, RED)
        signals.record_lamp(at_s, 1, RED)
    assert signals.state_at(0, 9.0) == (GREEN, 4.0)
    assert signals.state_at(1, 9.0) == (RED, 3.0)
    assert signals.state_at(0, 185.0) == (GREEN, 180.0)
    assert signals.state_at(0, 185.1) is None


def test_a_controller_that_still_reports_confirms_its_last_colour():
    signals = SignalHistory()
    signals.record(0.0, 0, RED)
    for at_s in (0.0, 1.0, 2.0):
        signals.record_lamp(at_s, 1, RED)
    signals.confirm(100.0)
    signals.confirm(50.0)  # late news make nothing older
    assert signals.state_at(0, 280.0) == (RED, 280.0)
    assert signals.state_at(0, 280.1) is None
    assert signals.state_at(1, 182.0) == (RED, 182.0)
    assert signals.state_at(1, 182.1) is None  # lamps are not the controller's


def test_late_reports_are_inserted_in_order_and_duplicates_count_once():
    signals = SignalHistory()
    signals.record(10.0, 0, RED)
    signals.record(12.0, 0, RED)
    assert signals.state_at(0, 12.0) == (RED, 2.0)
    signals.record(5.0, 0, GREEN)
    signals.record(7.0, 0, YELLOW)
    assert [signals.state_at(0, t) for t in (4.9, 5.0, 6.9, 7.0, 9.9, 10.0)] == [
        None, (GREEN, 0.0), (GREEN, pytest.approx(1.9)), (YELLOW, 0.0),
        (YELLOW, pytest.approx(2.9)), (RED, 0.0),
    ]  # fmt: skip
    assert signals.state_at(0, 192.0) == (RED, 182.0)  # heard last at 12 s, not at 7 s
    assert signals.state_at(0, 192.1) is None
    signals.record(10.0, 0, GREEN)  # of two at one instant the later told counts
    assert signals.state_at(0, 11.0) == (GREEN, 1.0)


def test_of_eight_hundred_changes_the_older_half_is_dropped_when_one_more_arrives():
    signals = SignalHistory()
    for k in range(800):
        signals.record(float(k), 0, (RED, GREEN)[k % 2])
    assert signals.state_at(0, 0.5) == (RED, 0.5)
    signals.record(800.0, 0, RED)
    assert signals.state_at(0, 399.5) is None
    assert signals.state_at(0, 400.5) == (RED, 0.5)
    assert signals.state_at(0, 401.5) == (GREEN, 0.5)
    assert signals.state_at(0, 800.5) == (RED, 0.5)


@pytest.mark.parametrize(
    ("tree", "kept"),
    [
        ({}, False),
        ({"lines": [{"name": "a", "px": [[0, 0], [9, 9]]}]}, False),  # it is only counted there
        ({"lines": [{"name": "a", "px": [[0, 0], [9, 9]], "stop": True, "group": 0}]}, True),
        ({"zones": [{"name": "z", "px": [[0, 0], [9, 0], [9, 9]]}]}, True),
        ({"rules": {"limit_kmh": 50.0}}, False),  # no speeds without a calibration
    ],
)
def test_images_are_kept_only_where_a_rule_may_find_something(tree, kept):
    watch = Watch(site(**tree))
    for k in range(8):
        watch.show(k / 4.0, image=grey(k))
    assert bool(watch.detector.evidence.frames) is kept
