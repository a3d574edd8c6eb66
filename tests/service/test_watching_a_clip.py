"""The report of a source that was watched: tracks, figures, violations with their images, a film;
and when watching ends.
"""

from __future__ import annotations

import json

import av
import cv2
import numpy as np
import pytest
from tests.sensing.hand_made import GREY, observed_at, road_user, site, ten_px_a_metre
from tests.sensing.scenes import SITE, along, film, scene_frames

from headway.sensing import SensingError, Site
from headway.sensing.output.overlay import VideoWriter, drawn, heat_map, jpeg
from headway.sensing.pipeline import FrameResult, Perception
from headway.sensing.traffic.evidence import Violation
from headway.sensing.traffic.measures import Crossing
from headway.service.watching import Report, read_signals, violation_to_json, watch_source
from headway.vision.detection.detectors import BUS
from headway.vision.frames.sources import Frame


def observed(perception, at_s, *tracks, violations=(), image=GREY):
    return FrameResult(
        Frame(at_s, round(at_s * 8), image),
        len(tracks),
        list(tracks),
        [],
        list(violations),
        perception,
    )


def violation(number, at_s=1.0, rule="speeding", images=((0.5, b"one"), (1.0, b"two"))):
    return Violation(f"id-{number}", at_s, "cam", rule, 0.75, {"track": number}, images, "sealed")


# -- what is kept


def test_at_first_nothing_is_kept():
    report = Report()
    assert (
        report.out,
        report.evidence,
        report.keep_tracks,
        report.frames,
        report.tracks,
        report.violations,
        report.perception,
    ) == (
        None,
        None,
        False,
        0,
        0,
        0,
        None,
    )
    assert (list(report.last_violations), report.last_violations.maxlen) == ([], 1000)
    assert Report().last_violations is not report.last_violations
    report.close()


def test_frames_and_tracks_are_counted_and_paths_only_kept_when_asked_for():
    perception = Perception("cam", site(), 8.0)
    report = Report()
    car = road_user(3)
    bus = road_user(5, BUS)
    report.perception = perception
    for k in range(3):
        t = k / 8.0
        report.add_frame(
            observed(
                perception,
                t,
                observed_at(car, t, (100, 100)),
                *([observed_at(bus, t, (200, 100))] if k else []),
            ),
            8.0,
        )
    assert (report.frames, report.tracks, report.violations) == (3, 2, 0)
    assert report.to_json("clip.mp4")["tracks"] == []


def test_the_path_of_a_track_with_its_class_and_speeds():
    """Row: time, x, y, width, height, km/h. What was seen before it was shown has no speed;
    of the middle of each second its mean is known.
    """
    perception = Perception("cam", site(), 8.0)
    report = Report(keep_tracks=True)
    car = road_user(3, BUS, started_s=0.0004)
    report.perception = perception
    for k in range(12):
        t = k / 8.0 + 0.0004
        observed_at(
            car,
            t,
            (100.06 + k, 100.04),
            size=(40.0, 20.11),
            observations=k + 1,
            speed_mps=2.0 + k if k > 4 else np.nan,
            mean_mps=10.0 + k if k != 10 else np.nan,
        )
        if k >= 2:
            report.add_frame(observed(perception, t, car), 8.0)
    (row,) = report.to_json("clip.mp4")["tracks"]
    assert row["seen"] == row["observations"]  # its old name
    assert (row["id"], row["begun_s"], row["class"], row["ended_s"], row["observations"]) == (
        3,
        0.0,
        "bus",
        1.375,
        12,
    )
    assert [r[0] for r in row["path"]] == [round(k / 8.0, 3) for k in range(12)]
    assert [r[1:5] for r in row["path"]] == [
        [pytest.approx(80.1 + k), 79.9, 40.0, 20.1] for k in range(12)
    ]
    # at 1 s (k = 8) the mean of the second is 18 m/s, known of 0.5 s (k = 4); the next of k = 5;
    # not that of k = 10; then of k = 7
    speeds = [None] * 4 + [18.0, 19.0, 8.0, 21.0] + [10.0, 11.0, 12.0, 13.0]
    assert [r[5] for r in row["path"]] == [
        None if v is None else pytest.approx(3.6 * v) for v in speeds
    ]


def test_speeds_in_a_path_have_two_digits():
    perception, report, car = Perception("cam", site(), 8.0), Report(keep_tracks=True), road_user(3)
    report.perception = perception
    report.add_frame(
        observed(perception, 0.0, observed_at(car, 0.0, (100, 100), speed_mps=1.2345)), 8.0
    )
    assert report.to_json("x")["tracks"][0]["path"] == [[0.0, 80.0, 80.0, 40.0, 20.0, 4.44]]


def test_violations_are_written_with_their_images(tmp_path):
    report, folder = Report(evidence=tmp_path / "new" / "evidence"), tmp_path / "new" / "evidence"
    report.add_violations([violation(1), violation(2, images=())])
    assert (report.violations, [v.id for v in report.last_violations]) == (2, ["id-1", "id-2"])
    assert {p.name for p in folder.iterdir()} == {
        "id-1-0.jpg",
        "id-1-1.jpg",
        "id-1.json",
        "id-2.json",
    }
    assert ((folder / "id-1-0.jpg").read_bytes(), (folder / "id-1-1.jpg").read_bytes()) == (
        b"one",
        b"two",
    )
    want = {
        "id": "id-1",
        "state": "open",
        "at_s": 1.0,
        "device": "cam",
        "rule": "speeding",
        "confidence": 0.75,
        "data": {"track": 1},
        "seal": "sealed",
        "images": [0.5, 1.0],
        "pictures": [0.5, 1.0],
    }
    assert json.loads((folder / "id-1.json").read_text()) == want == violation_to_json(violation(1))
    assert "\n " in (folder / "id-1.json").read_text()  # a line each, for people
    plain = Report()
    plain.add_violations([violation(1)])
    assert plain.violations == 1


def test_violations_that_still_wait_are_reported_when_the_report_is_closed():
    perception = Perception(
        "cam",
        site(
            zones=[{"name": "box", "kind": "box", "px": [[0, 0], [319, 0], [319, 239], [0, 239]]}]
        ),
        8.0,
    )
    report = Report()
    report.perception = perception
    car = observed_at(road_user(3, stopped_since_s=0.0), 6.0, (100, 100))
    perception.violation_detector.update(6.0, GREY, [car], perception.measures.update(6.0, [car]))
    assert report.violations == 0
    report.close()
    assert [v.rule for v in report.last_violations] == ["blocked_box"]


def test_all_of_it_as_plain_json():
    perception, report = Perception("cam", site(ten_px_a_metre(0.25)), 8.0), Report()
    report.perception = perception
    perception.measures.crossings.extend(
        [
            Crossing(2.5, "gate", "in", 3, "car", 10.0, 0.125),
            Crossing(3.5, "gate", "out", 4, "bus", np.nan, np.nan),
        ]
    )
    report.add_violations([violation(1)])
    report.frames, report.runs_on = 7, "CPUExecutionProvider"
    assert report.to_json("rtsp://u:pw@north/one?k=x")["source"] == "rtsp://***@north/one?***"
    assert report.to_json("clip.mp4") == {
        "source": "clip.mp4", "frames": 7, "runs_on": "CPUExecutionProvider",
        "calibration": {"error_m": 0.25},
        "figures": {"seconds": 0.0, "lines": {}, "lanes": {}, "turns": []}, "tracks": [],
        "violations": [violation_to_json(violation(1))],
        "crossings": [
            {"at_s": 2.5, "line": "gate", "direction": "in", "track": 3, "class": "car",
                "speed_kmh": 36.0, "standard_error_kmh": 0.45},
            {"at_s": 3.5, "line": "gate", "direction": "out", "track": 4, "class": "bus",
                "speed_kmh": None, "standard_error_kmh": None},
        ],
    }  # fmt: skip
    report.perception = Perception("cam", Site((320, 240), uncalibrated="because"), 8.0)
    assert report.to_json("x")["calibration"] == {"refused": "because"}


def test_the_heat_map_is_of_the_last_frame(tmp_path):
    perception, report = Perception("cam", site(), 8.0), Report()
    report.perception = perception
    report.save_heat_map(tmp_path / "heat.jpg")
    assert not (tmp_path / "heat.jpg").exists()  # nothing was seen
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    report.add_frame(observed(perception, 1.0), 8.0)
    report.add_frame(observed(perception, 1.1, image=noise), 8.0)
    perception.measures.heat[10:20, 10:20] = 3.0
    report.save_heat_map(tmp_path / "heat.jpg")
    assert (
        (tmp_path / "heat.jpg").read_bytes()
        == jpeg(heat_map(noise, perception.measures), 85)
        != jpeg(heat_map(noise, perception.measures))
    )
    report.save_heat_map(tmp_path / "heat.PNG")
    written = cv2.imread(str(tmp_path / "heat.PNG"))
    assert (tmp_path / "heat.PNG").read_bytes().startswith(b"\x89PNG")
    assert (written == heat_map(noise, perception.measures)).all()


def test_the_film_shows_the_overlay_and_the_last_five_violations_of_four_seconds(tmp_path):
    perception = Perception("cam", site(), 8.0)
    report = Report(out=tmp_path / "film.mp4")
    car = road_user(3)
    report.perception = perception
    reported = [
        violation(k, at_s=at_s) for k, at_s in enumerate([5.9, 6.0, 6.1, 7.0, 7.0, 7.0, 8.0, 9.0])
    ]
    for at_s, count in ((9.0, 4), (10.0, 8)):
        report.add_frame(
            observed(
                perception,
                at_s,
                observed_at(car, at_s, (200, 200)),
                violations=reported[report.violations : count],
            ),
            8.0,
        )
    report.close()
    with av.open(str(tmp_path / "film.mp4")) as box:
        assert float(box.streams.video[0].average_rate) == 8.0
        frames = [f.to_ndarray(format="bgr24").astype(int) for f in box.decode(video=0)]
    assert len(frames) == 2
    # at 10 s: those after 6 s are 2 to 7, and of these the last five
    of = observed(perception, 10.0, car)
    for frame, names in zip(frames, ((0, 1, 2, 3), (3, 4, 5, 6, 7)), strict=True):
        right, *others = (
            drawn(
                of, perception.site, perception.measures, [f"speeding #{n}" for n in some]
            ).astype(int)
            for some in (names, (), names[:-1], names[1:], (names[0] - 1, *names))
        )
        for other in others:
            differ = (right != other).any(2)
            assert np.abs(frame - right)[differ].mean() < 0.7 * np.abs(frame - other)[differ].mean()


# -- watching


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four seconds at 10 Hz; after one, a vehicle at 12 m/s from left to right."""
    return film(
        tmp_path_factory.mktemp("media") / "clip.mp4", along(speed_px=120.0, start=-60), 4.0, 10.0
    )


def watched(source, of=None, report=None, signals=None, seconds=0.0, blur=True, model=None):
    report = report or Report()
    return report, list(watch_source(str(source), model, of, signals, report, seconds, blur, 1))


@pytest.mark.slow
def test_a_file_is_watched_to_its_end_and_its_length_is_known(clip):
    report, all_ = watched(clip)
    assert [round(s.frame.at_s, 3) for s, _ in all_] == [k / 10.0 for k in range(40)]
    assert {length for _, length in all_} == {40}
    assert (report.frames, report.tracks, report.perception) == (40, 1, all_[0][0].perception)
    assert report.perception.site == Site((320, 240))  # nothing is known of the place
    assert report.perception.violation_detector.blur is True
    assert report.perception.violation_detector.device == str(clip)


def test_so_many_seconds_are_watched_and_violations_that_still_wait_are_reported(clip, tmp_path):
    of = Site.from_tree(SITE | {"rules": {"limit_kmh": 20.0}})
    report, all_ = watched(clip, of, Report(out=tmp_path / "film.mp4"), seconds=3.0, blur=False)
    assert [round(s.frame.at_s, 3) for s, _ in all_][
        -1
    ] == 3.0  # the first that is so much after the first
    assert not any(s.violations for s, _ in all_)
    assert [(v.rule, round(v.at_s, 3)) for v in report.last_violations] == [
        ("speeding", 2.5)
    ]  # a second had not passed since
    assert report.last_violations[0].data["speed_kmh"] == pytest.approx(43.2, abs=2.0)
    assert report.perception.violation_detector.blur is False
    with av.open(str(tmp_path / "film.mp4")) as box:
        assert (float(box.streams.video[0].average_rate), box.streams.video[0].frames) == (10.0, 31)


def test_a_site_of_another_size_is_refused(clip):
    report = Report()
    with pytest.raises(SensingError) as caught:
        watched(clip, Site((320, 480)), report)
    assert str(caught.value) == f"{clip}: its frames are 320 x 240, its site is of 320 x 480."
    assert report.frames == 0
    with pytest.raises(SensingError, match="its site is of 640 x 240"):
        watched(clip, Site((640, 240)))


def test_frames_of_several_sizes_are_refused(tmp_path):
    """Each would begin with a new background, and nobody be found."""
    for k, (width, height) in enumerate([(32, 24), (32, 24), (64, 48)]):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.zeros((height, width, 3), np.uint8))
    report = Report()
    with pytest.raises(SensingError) as caught:
        watched(tmp_path, None, report)
    assert str(caught.value) == (
        f"{tmp_path}: its frames are 64 x 48, others before of 32 x 24. Give frames of one size."
    )
    assert report.frames == 2


@pytest.mark.slow
def test_signals_come_from_a_file(clip, tmp_path):
    (tmp_path / "signals.jsonl").write_text(
        '{"at_s": 0, "colours": [4, 1]}\n{"at_s": 1.5, "colours": [1, 4]}\n'
    )
    stop = {"name": "stop", "px": [[160, 80], [160, 140]], "stop": True, "group": 0}
    report, _ = watched(
        clip, Site.from_tree(SITE | {"lines": [stop]}), signals=tmp_path / "signals.jsonl"
    )
    assert [(v.rule, v.data["red_for_s"]) for v in report.last_violations] == [
        ("red_light", pytest.approx(report.last_violations[0].data["front_over_line_s"] - 1.5))
    ]
    assert (
        1.5 < report.last_violations[0].data["front_over_line_s"] < report.last_violations[0].at_s
    )
    silent, _ = watched(clip, Site.from_tree(SITE | {"lines": [stop]}))
    assert silent.violations == 0
    assert silent.perception.signals.state_at(0, 2.0) is None


@pytest.mark.slow
def test_a_vehicle_stopped_from_the_start_is_found_against_the_background_of_the_whole_clip(
    tmp_path,
):
    waits = film(
        tmp_path / "waits.mp4",
        lambda t: [(100 if t < 1.0 else 100 + 80 * (t - 1.0), 100, 45, 20, (40, 60, 200))],
        5.0,
        10.0,
    )
    with av.open(str(waits)) as box:
        frames = [f.to_ndarray(format="bgr24") for f in box.decode(video=0)][10:]
    out = VideoWriter(tmp_path / "cut.mp4", 10.0)
    for frame in frames:
        out.write(frame)
    out.close()
    _, all_ = watched(tmp_path / "cut.mp4", seconds=0.5)
    assert [s.detections for s, _ in all_] == [1] * 6
    for count, least in ((5, 1), (4, 0)):  # fewer images than five tell nothing of the background
        folder = tmp_path / str(count)
        folder.mkdir()
        for k, frame in enumerate(
            list(scene_frames(lambda t: [(20 + 600 * t, 100, 45, 20, (40, 60, 200))], 3.0))[
                15 : 15 + count
            ]
        ):
            cv2.imwrite(str(folder / f"{k}.png"), frame.image)
        _, few = watched(folder, report=Report(out=tmp_path / f"{count}.mp4"))
        assert (few[0][0].detections >= 1) == bool(least)
        with av.open(str(tmp_path / f"{count}.mp4")) as box:
            assert (
                float(box.streams.video[0].average_rate) == 15.0
            )  # images in a folder have no rate of their own


def test_a_model_that_is_none_and_a_source_that_is_none_are_refused(tmp_path, clip):
    with pytest.raises(SensingError, match=r"none\.onnx.*no such model"):
        watched(clip, model=tmp_path / "none.onnx")
    with pytest.raises(SensingError, match=r"none\.mp4"):
        watched(tmp_path / "none.mp4")


# -- signals from a file


@pytest.mark.parametrize("key", ["colours", "shown"])
@pytest.mark.parametrize("name", ["s.ground_truth.jsonl", "s.truth.jsonl"])
def test_a_file_of_signals_has_the_new_or_the_old_names(tmp_path, name, key):
    path = tmp_path / name
    path.write_text(f'{{"at_s": "10", "{key}": [1, 4.0]}}\n{{"at_s": 12, "{key}": [4]}}\n')
    signals = read_signals(path)
    assert [signals.state_at(g, 13.0) for g in (0, 1, 2)] == [(4, 1.0), (4, 3.0), None]
    assert type(signals.state_at(1, 13.0)[0]) is int


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        '{"at_s": 1}',
        '{"colours": [1]}',
        '{"at_s": "x", "colours": [1]}',
        '{"at_s": 1, "colours": ["red"]}',
        '{"at_s": 1, "colours": 3}',
        '{"at_s": 1, "shown": 3}',
        "7",
    ],
)
def test_a_wrong_line_is_named(tmp_path, line):
    path = tmp_path / "s.jsonl"
    path.write_text(f'{{"at_s": 1, "shown": [1]}}\n{line}\n')
    with pytest.raises(SensingError) as caught:
        read_signals(path)
    assert str(caught.value).startswith(
        f'{path}, line 2: give {{"at_s": seconds, "colours": [colours]}} ('
    )
    assert caught.value.__cause__ is not None
