"""The camera service: what it asks of the streams, what it stores,
and what it does with what cameras observe.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from headway.sensing import SensingError, Site
from headway.sensing.traffic.evidence import Violation, seal_of
from headway.sensing.traffic.measures import Crossing
from headway.service import camera_streams as streams
from headway.service import cameras as room
from headway.service import notification as notify
from headway.service.camera_streams import StreamSettings
from headway.service.cameras import CameraService
from headway.service.notification import Mail, Webhook
from headway.settings import CameraSettings, NotifySettings
from headway.vision.frames.sources import SourceSettings


class RecordingSignals:
    def __init__(self):
        self.reported = []

    def record(self, at_s, group, colour):
        self.reported.append((at_s, group, colour))

    def confirm(self, at_s):
        self.reported.append(("confirmed", at_s))


class Manager:
    """Cameras that look at nothing, and write down what is asked of them."""

    def __init__(self, tell, key):
        self.tell, self.key, self.asked, self.streams = tell, key, [], {}
        MADE.append(self)

    def add(self, settings):
        if settings.id in self.streams:
            raise SensingError("there already")
        figures = {"tracks": [], "measures": None}
        self.streams[settings.id] = SimpleNamespace(
            settings=settings,
            running=False,
            lock=threading.RLock(),
            signals=RecordingSignals(),
            started_at=1_000_000.0,
            figures=lambda: figures,
        )
        return self.streams[settings.id]

    def start(self, name):
        self.streams[name].running = True
        self.asked.append(("start", name))

    def stop(self, name):
        self.streams[name].running = False
        self.asked.append(("stop", name))

    def remove(self, name):
        del self.streams[name]
        self.asked.append(("remove", name))

    def configure(self, settings):
        self.streams[settings.id].settings = settings

    def set_site(self, name, site):
        self.asked.append(("site", self.streams[name].settings.id, site.size))

    def close(self):
        self.asked.append(("close",))


class Recorder:
    def __init__(self, intake, most):
        self.intake, self.most, self.rows, self.closed = intake, most, [], False
        MADE.append(self)

    def put(self, table, row):
        self.rows.append((table, row))

    def close(self):
        self.closed = True


class Notifier:
    def __init__(self, *asked):
        self.asked, self.reported, self.closed = asked, [], None

    def notify(self, *news):
        self.reported.append(news)

    def close(self, patience_s):
        self.closed = patience_s


MADE: list = []
SITE = {"size": [640, 480]}
WALL_S = 2_000_000.0


@pytest.fixture
def made(monkeypatch):
    """(make a service on the folder, what was made for it)."""
    MADE.clear()
    monkeypatch.setattr(streams, "StreamManager", Manager)
    monkeypatch.setattr(notify, "Notifier", Notifier)
    monkeypatch.setattr(room, "Recorder", Recorder)
    monkeypatch.setattr(room.gc, "freeze", lambda: MADE.append("frozen"))
    moments.clear()
    return MADE


moments: list[float] = []


@pytest.fixture
def make(made, tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "clip.mp4").write_bytes(b"film")
    return lambda **more: CameraService(
        tmp_path,
        more.pop("tell", lambda *news: None),
        "intake",
        clock=lambda: moments.pop(0),
        wall_clock=lambda: WALL_S,
        **more,
    )


def kept(tmp_path):
    return json.loads((tmp_path / "cameras.json").read_text())


def street(**colours):
    """A service of one street, "headway", that shows these colours: group -> (since, colour)."""
    return SimpleNamespace(
        on_signals=None,
        streets={"headway": SimpleNamespace(colours={int(g[1:]): c for g, c in colours.items()})},
    )


def test_a_service_starts_with_a_key_of_its_own_and_the_recipients_of_notifications(
    made, make, tmp_path
):
    settings = NotifySettings.model_validate(
        {
            "webhooks": [
                {"url": "http://a/", "secret": "0123456789abcdef", "attempts": 3},
                {"url": "https://b/", "secret": "fedcba9876543210"},
            ],
            "mail": {
                "host": "h",
                "port": 25,
                "sender": "s@x",
                "to": ["t@x"],
                "user": "u",
                "password": "p",
                "security": "none",
                "at_least_s": 7.0,
            },
        }
    )
    service = make(notify=settings)
    hooks = (
        Webhook("http://a/", "0123456789abcdef", 3),
        Webhook("https://b/", "fedcba9876543210", 6),
    )
    mail = Mail("h", 25, "s@x", ("t@x",), "u", "p", "none", at_least_s=7.0)
    assert service.notifier.asked == (hooks, mail, tmp_path / "undelivered.jsonl")
    recorder, manager, frozen = made
    assert (recorder.intake, recorder.most, frozen) == ("intake", 2000, "frozen")
    key = tmp_path / "evidence.key"
    assert (len(manager.key), key.read_bytes(), stat.S_IMODE(key.stat().st_mode)) == (
        32,
        manager.key,
        0o600,
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evidence.key", "media"], (
        "no cameras, no file"
    )
    made.clear()
    make()
    assert made[1].key == key.read_bytes(), "made once"
    deep = CameraService(tmp_path / "deep" / "down", lambda *_: None, "intake")
    assert deep.notifier.asked == ((), None, tmp_path / "deep" / "down" / "undelivered.jsonl")
    assert (tmp_path / "deep" / "down" / "evidence.key").read_bytes() != key.read_bytes()


@pytest.mark.parametrize("left", [b"", b"\x00" * 15])
def test_a_key_that_a_full_disk_cut_short_seals_nothing(make, tmp_path, made, left):
    key = tmp_path / "evidence.key"
    key.write_bytes(left)
    make()
    assert len(key.read_bytes()) == 32
    assert made[1].key == key.read_bytes()
    assert key.with_suffix(".refused").read_bytes() == left


def test_without_the_extra_vision_there_is_no_service(make, monkeypatch):
    def need():
        raise SensingError("cameras need av")

    monkeypatch.setattr(room, "need_vision", need)
    with pytest.raises(SensingError, match="cameras need av"):
        make()


# --- cameras added, kept, begun again -----------------------------------------------------------


def test_a_camera_is_added_and_started_with_what_is_not_said_left_as_it_is(made, make, tmp_path):
    service = make()
    stream = service.add("north", {"source": "clip.mp4"})
    settings = StreamSettings(
        "north",
        SourceSettings(str(tmp_path / "media" / "clip.mp4"), paced=True, networks=()),
        "motion",
        None,
        True,
    )
    assert (stream.settings, service.manager.asked) == (settings, [("start", "north")])
    assert kept(tmp_path) == {"north": {"source": "clip.mp4", "started": True}}
    assert stat.S_IMODE((tmp_path / "cameras.json").stat().st_mode) == 0o600, "it holds passwords"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cameras.json", "evidence.key", "media"]


def test_a_camera_is_added_as_configured_and_not_started_where_that_is_not_asked_for(
    made, make, tmp_path
):
    service = make()
    payload = {
        "source": "rtsp://u:p@host/1",
        "detector": "cars",
        "rate_hz": 7.5,
        "site": SITE,
        "paced": False,
        "repeat": True,
        "blur": False,
        "street": "headway",
    }
    stream = service.add("north", payload, start=False)
    assert stream.settings == StreamSettings(
        "north",
        SourceSettings("rtsp://u:p@host/1", rate_hz=7.5, repeat=True, paced=False, networks=()),
        str(tmp_path / "models" / "cars.onnx"), Site((640, 480)), False
    )  # fmt: skip
    assert service.manager.asked == []
    assert kept(tmp_path) == {"north": payload | {"started": False}}
    assert service.site("north") == SITE


def test_a_site_is_given_back_as_it_was_given_and_cannot_be_changed_from_outside(make):
    service = make()
    service.add("north", {"source": "clip.mp4", "site": dict(SITE)})
    service.site("north")["size"] = "changed"
    assert service.site("north") == SITE
    service.add("south", {"source": "clip.mp4", "site": None})
    assert service.site("south") is None
    with pytest.raises(KeyError):
        service.site("nobody")


@pytest.mark.parametrize(
    "source", ["../secret.mp4", "none.mp4", "/etc/passwd", "", "sub/../../secret.mp4", "pipe"]
)
def test_no_file_outside_the_folder_of_films_can_be_asked_for(make, tmp_path, source):
    (tmp_path / "secret.mp4").write_bytes(b"x")
    service = make()
    if source == "pipe":  # into which nobody may ever write
        os.mkfifo(tmp_path / "media" / "pipe")
    if source == "":
        service.add(
            "all", {"source": source}, start=False
        )  # the folder itself: images in it, one after the other
        assert service.manager.streams["all"].settings.source.url == str(tmp_path / "media")
        return
    with pytest.raises(SensingError) as caught:
        service.add("north", {"source": source})
    assert str(caught.value) == (
        f"source {source!r}: give rtsp://, rtsps://, http://, https://, "
        f"or a file in {tmp_path / 'media'}."
    )
    assert (service.manager.streams, (tmp_path / "cameras.json").exists()) == ({}, False)


def test_a_film_does_not_see_the_signals_of_now(make, tmp_path):
    service = make()
    with pytest.raises(SensingError) as caught:
        service.add("north", {"source": "clip.mp4", "street": "headway"})
    assert str(caught.value) == (
        "stream north, street: only a live camera (rtsp://, "
        "http://) sees the signals of a street that runs now."
    )
    assert service.manager.streams == {}


def test_a_site_that_is_none_is_refused_by_the_name_of_its_camera(make):
    service = make()
    with pytest.raises(ValueError, match=r"^stream north, site: size"):
        service.add("north", {"source": "clip.mp4", "site": {"size": "big"}})
    service.add("north", {"source": "clip.mp4", "site": SITE})
    with pytest.raises(ValueError, match=r"^stream north, site: size"):
        service.set_site("north", {"size": "big"})
    assert (service.site("north"), service.manager.asked) == (SITE, [("start", "north")])
    with pytest.raises(KeyError):
        service.set_site("nobody", SITE)


def test_cameras_are_stopped_started_and_removed_and_it_is_kept_which(make, tmp_path):
    service = make()
    for name in ("north", "south"):
        service.add(name, {"source": "clip.mp4"})
    service.stop("north")
    assert {n: w["started"] for n, w in kept(tmp_path).items()} == {"north": False, "south": True}
    service.start("north")
    assert {n: w["started"] for n, w in kept(tmp_path).items()} == {"north": True, "south": True}
    service.remove("south")
    assert list(kept(tmp_path)) == ["north"]
    assert service.manager.asked[2:] == [("stop", "north"), ("start", "north"), ("remove", "south")]
    for what in (service.start, service.stop, service.remove):
        with pytest.raises(KeyError):
            what("nobody")
    assert list(kept(tmp_path)) == ["north"]


@pytest.mark.parametrize("running", [True, False])
def test_another_site_is_in_force_from_now_on_and_kept(make, tmp_path, running):
    service = make()
    service.add("north", {"source": "clip.mp4", "site": SITE}, start=running)
    service.set_site("north", {"size": [320, 240]})
    assert service.manager.asked == [
        *[("start", "north")] * running,
        ("site", "north", (320, 240)),
        *[("start", "north")] * running,
    ]
    assert kept(tmp_path) == {
        "north": {"source": "clip.mp4", "site": {"size": [320, 240]}, "started": running}
    }


def test_on_a_full_disk_nothing_is_changed(make, tmp_path, monkeypatch):
    service = make()
    service.add("north", {"source": "clip.mp4", "site": SITE}, start=False)
    before, asked = kept(tmp_path), list(service.manager.asked)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for change in (
        lambda: service.set_site("north", {"size": [320, 240]}),
        lambda: service.set_options("north", {"attempts": 7}),
        lambda: service.add("south", {"source": "clip.mp4"}),
    ):
        with pytest.raises(OSError, match="No space left"):
            change()
    assert (service.site("north"), service.options("north")["attempts"]) == (SITE, 0)
    assert service.manager.streams["north"].settings.source.attempts == 0
    assert list(service.manager.streams) == ["north"]
    assert [call for call in service.manager.asked if call not in asked] == [("remove", "south")]
    assert kept(tmp_path) == before


def test_cameras_begin_again_with_the_service_but_for_those_that_cannot(
    make, tmp_path, monkeypatch
):
    faults = []
    monkeypatch.setattr(
        room.telemetry,
        "log",
        lambda component: SimpleNamespace(error=lambda *a, **k: faults.append((component, a, k))),
    )
    wishes = {
        "a": {"source": "clip.mp4"}, "b": {"source": "gone.mp4", "started": True},
        "c": {"source": "clip.mp4", "started": False},
        "d": {"no": "source"}, "e": {"source": 5}, "f": {"source": "clip.mp4", "site": {"size": 1}},
        "g": {"source": "clip.mp4", "started": True}, "h": {"source": "gone.mp4", "started": False},
    }  # fmt: skip
    (tmp_path / "cameras.json").write_text(json.dumps(wishes))
    service = make()
    assert list(service.manager.streams) == ["a", "c", "g"]
    assert service.manager.asked == [("start", "a"), ("start", "g")]
    assert [(component, text, more["stream"]) for component, (text,), more in faults] == [
        ("sensing", "a camera was not restarted", n) for n in "bdefh"
    ]
    assert [more["error"] for *_, more in faults][1] == "'source'"
    assert kept(tmp_path) == {
        n: w | ({"started": w.get("started", True)} if n in "acg" else {})
        for n, w in wishes.items()
    }, "they may be mended by hand"
    service.manager.streams.clear()
    missing = {view.name: view for view in service.views()}
    assert set(missing) == set("bdef"), "who watches over cameras learns of them; h was stopped"
    assert (missing["d"].expected, missing["d"].state, missing["d"].stopped_fault) == (
        True,
        "failed",
        "'source'",
    )
    service.remove("d")
    service.add("b", {"source": "clip.mp4"})
    assert set(service.refused) == {"e", "f", "h"}
    assert "d" not in kept(tmp_path)


@pytest.mark.parametrize(
    "content", [b'{"a": ', b"[1, 2]", b"null", b'"x"', b'{"a": null}', b"\xff\xfe"]
)
def test_a_damaged_file_of_cameras_is_set_aside_and_ends_nothing(make, tmp_path, content):
    (tmp_path / "cameras.json").write_bytes(content)
    service = make()
    assert service.manager.streams == {}
    assert (tmp_path / "cameras.refused").read_bytes() == content
    service.add("a", {"source": "clip.mp4"})
    assert list(kept(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    "address", ["rtsp://u:sec/ret@host/1", "rtsp://u:[ret]@host/1", "http://", "rtsp://host:0/1"]
)
def test_an_address_without_a_sound_host_is_refused_and_not_repeated(make, address):
    with pytest.raises(SensingError, match="write / as %2F") as refused:
        make().add("a", {"source": address})
    assert "ret" not in str(refused.value).replace("characters", "")


# --- signals of a street ------------------------------------------------------------------------


def test_changes_of_colour_reach_the_cameras_that_see_that_street(make):
    streets = street()
    service = make(streets=streets)
    for name, which in (("one", "headway"), ("other", "baseline"), ("none", "")):
        service.add(
            name, {"source": f"rtsp://{name}"} | ({"street": which} if which else {}), start=False
        )
    streets.on_signals("headway", [(5.0, 1, 4), (6.0, 2, 2)])
    reported = {name: s.signals.reported for name, s in service.manager.streams.items()}
    assert reported == {
        "one": [(5.0, 1, 4), (6.0, 2, 2), ("confirmed", WALL_S)],
        "other": [],
        "none": [],
    }
    del service.manager.streams["one"]
    streets.on_signals("headway", [(7.0, 1, 2)])  # it went meanwhile: nobody is told


def test_a_camera_that_starts_gets_the_colours_of_its_street_oldest_first(make):
    service = make(streets=street(g0=(9.0, 4), g1=(3.0, 1), g2=(5.0, 2)))
    for name, which in (("one", "headway"), ("other", "baseline"), ("none", None)):
        service.add(name, {"source": f"rtsp://{name}", "street": which})
    reported = {name: s.signals.reported for name, s in service.manager.streams.items()}
    now = [(3.0, 1, 1), (5.0, 2, 2), (9.0, 0, 4), ("confirmed", WALL_S)]
    assert reported == {"one": now, "other": [], "none": []}
    service.set_site("one", SITE)
    assert service.manager.streams["one"].signals.reported == now * 2
    service.start("one")
    assert service.manager.streams["one"].signals.reported == now * 3


def test_without_streets_a_camera_may_name_one_all_the_same(make):
    service = make()
    service.add("one", {"source": "rtsp://one", "street": "headway"})
    assert service.manager.streams["one"].signals.reported == []
    service.close()


def test_the_end_ends_all_of_it(made, make):
    streets = street()
    service = make(streets=streets)
    service.close()
    assert (streets.on_signals, service.manager.asked, made[0].closed, service.notifier.closed) == (
        None,
        [("close",)],
        True,
        2.0,
    )


# --- what is seen -------------------------------------------------------------------------------


def violation(rule="speeding", images=((4.0, b"\x01\xff"), (4.5, b"\x02"))):
    return Violation("id-1", 4.25, "north", rule, 0.75, {"speed_kmh": 63.5}, images, "seal")


def result(violations=(), crossings=(), at_s=5.0):
    lines = [SimpleNamespace(name="stop")]
    return SimpleNamespace(
        frame=SimpleNamespace(at_s=at_s),
        violations=violations,
        crossings=crossings,
        perception=SimpleNamespace(site=SimpleNamespace(lines=lines)),
    )


@pytest.mark.parametrize(
    ("source", "begin"), [("clip.mp4", "1970-01-12T13:45"), ("rtsp://x", "1970-01-01T00:00")]
)
@pytest.mark.parametrize("how", ["stop", "remove", "close"])
def test_what_a_camera_has_counted_is_recorded_when_it_ends(made, make, source, begin, how):
    """A film's time is counted from when it was begun; a live camera's is of the day."""
    service = make()
    service.add("north", {"source": source})
    moments.extend((1.0, 2.0))
    crossings = [Crossing(4.5, "stop", "in", 7, "car", 9.0, 0.5)] * 2
    stream = service.manager.streams["north"]
    service.manager.tell(stream, result(crossings=crossings, at_s=5.0))
    service.manager.tell(stream, result(at_s=6.5))
    rows = made[0].rows
    assert not rows
    service.close() if how == "close" else getattr(service, how)("north")
    assert {table for table, _ in rows} == {"camera_count"}
    assert {row[1][:16] for _, row in rows} == {begin}
    assert [(row[0], *row[3:]) for _, row in rows] == [
        ("north", "stop", "in", "", 0, 1.5, 0, 0.0),
        ("north", "stop", "out", "", 0, 1.5, 0, 0.0),
        ("north", "stop", "in", "car", 2, 0.0, 2, 18.0),
    ]


def test_a_film_that_is_played_quickly_counts_now_and_not_in_the_future(made, make):
    """It was begun a million seconds ago, and has played two: repeated, unpaced, for days."""
    service = make()
    service.add("north", {"source": "clip.mp4", "paced": False, "repeat": True})
    moments.append(1.0)
    late = replace(violation(), at_s=2_000_000.0)
    stream = service.manager.streams["north"]
    service.manager.tell(stream, result(violations=[late], at_s=2_000_001.0))
    service.stop("north")
    assert {row[1] for table, row in made[0].rows if table == "violation"} == {
        "1970-01-24T03:33:20+00:00"  # 2,000,000 s: the clock of this test
    }
    assert {row[1] for table, row in made[0].rows if table == "camera_count"} == {
        "1970-01-24T03:30:00+00:00"
    }


def see(service, name, *violations):
    service.manager.tell(service.manager.streams[name], result(violations=violations))


@pytest.mark.parametrize(
    ("source", "at"),
    [
        ("clip.mp4", "1970-01-12T13:46:44.250000+00:00"),
        ("rtsp://x", "1970-01-01T00:00:04.250000+00:00"),
    ],
    ids=["film", "live"],
)
@pytest.mark.parametrize(
    ("rule", "severity"),
    [
        ("speeding", "warning"),
        ("red_light", "critical"),
        ("wrong_way", "critical"),
        ("pedestrian_crossing", "error"),
        ("red_light_turn", "warning"),
    ],
)
def test_a_violation_is_recorded_with_its_images_and_published(
    made, make, source, at, rule, severity
):
    """A film's time is counted from when it was begun, at 1,000,000 s since 1970;
    a live camera's is of the day.
    """
    news = []
    service = make(tell=lambda *reported: news.append(reported))
    service.add("north", {"source": source}, start=False)
    moments.append(0.0)
    see(service, "north", violation(rule))
    data = {"speed_kmh": 63.5, "at": at}
    seal = seal_of(replace(violation(rule), data=data), made[1].key)
    assert made[0].rows == [
        ("violation",
            ("id-1", at, "north", rule, 0.75, json.dumps({**data, "at_s": 4.25}), seal)),
        ("violation_picture", ("id-1", 0, 4.0, b"\x01\xff")),
        ("violation_picture", ("id-1", 1, 4.5, b"\x02")),
    ]  # fmt: skip
    reported = {
        "kind": f"violation.{rule}", "id": "id-1", "at": at, "at_s": 4.25, "device": "north",
        "confidence": 0.75, "data": {"speed_kmh": 63.5},
        "severity": severity, "state": "open", "image_url": "/api/v1/violations/id-1/images/0",
    }  # fmt: skip
    assert news[:2] == [("alerts", "north", reported), ("monitoring", "north", reported)]
    assert service.notifier.reported == [
        (f"violation.{rule}", "id-1", reported, severity == "critical", "north")
    ]


def test_links_to_images_begin_with_the_public_address(made, make):
    """The image at 4.5 s of three is nearest to 4.25 s only where none is at 4.3 s."""
    service = make(notify=NotifySettings(public_url="https://signals.example.org/"))
    service.add("north", {"source": "clip.mp4"}, start=False)
    for images, url in (
        (
            ((4.0, b"a"), (4.3, b"b"), (5.3, b"c")),
            "https://signals.example.org/api/v1/violations/id-1/images/1",
        ),
        ((), None),
    ):
        moments.append(0.0)
        see(service, "north", violation(images=images))
        assert service.notifier.reported[-1][2]["image_url"] == url


def test_the_figures_of_a_camera_are_published_five_times_a_second_at_most(make):
    news = []
    service = make(tell=lambda *reported: news.append(reported))
    for name in ("north", "south"):
        service.add(name, {"source": "clip.mp4"}, start=False)
    for name, at_s in (
        ("north", 0.0),
        ("south", 0.125),
        ("north", 0.1999),
        ("north", 0.2),
        ("south", 0.25),
        ("north", 0.375),
        ("south", 0.325),
    ):
        moments.append(at_s)
        before = len(news)
        see(service, name)
        assert (len(news) > before) == (at_s in (0.0, 0.125, 0.2, 0.325)), (name, at_s)
    assert news[0] == (
        "realtime",
        "north",
        {"kind": "camera.frame", "tracks": [], "measures": None},
    )
    assert [source for _, source, _ in news] == ["north", "south", "north", "south"]


# --- options ------------------------------------------------------------------------------------


def test_options_are_the_cameras_own_else_those_of_the_settings(make, tmp_path):
    defaults = CameraSettings(attempts=7, delay_s=2.0, confidence=0.3, violations=False)
    service = make(defaults=defaults)
    service.add("plain", {"source": "rtsp://x"}, start=False)
    own = {"attempts": 0, "rate_hz": 5.0, "buffer": 8, "confidence": None, "violations": True}
    service.add("own", {"source": "rtsp://x"} | own, start=False)
    plain, mine = (service.manager.streams[n].settings for n in ("plain", "own"))
    assert plain == StreamSettings(
        "plain", SourceSettings("rtsp://x", paced=True, attempts=7, delay_s=2.0, networks=()),
        confidence=0.3, violations=False,
    )  # fmt: skip
    source = SourceSettings(
        "rtsp://x", policy="recent", buffer=8, rate_hz=5.0, paced=True, delay_s=2.0, networks=()
    )
    assert mine == StreamSettings("own", source, confidence=0.3)
    assert service.options("own") == {
        "attempts": 0, "delay_s": 2.0, "buffer": 8, "rate_hz": 5.0, "confidence": 0.3,
        "speed": True, "violations": True,
    }  # fmt: skip
    unpaced = {"source": "clip.mp4", "paced": False, "buffer": 8}
    service.add("film", unpaced, start=False)
    found = service.manager.streams["film"].settings.source
    assert (found.policy, found.buffer, found.paced) == ("queue", 8, False)


def test_options_are_changed_and_kept(make, tmp_path):
    service = make()
    service.add("north", {"source": "clip.mp4", "rate_hz": 5.0}, start=False)
    service.set_options("north", {"attempts": 3, "rate_hz": None, "speed": False})
    assert service.manager.streams["north"].settings.source.attempts == 3
    assert kept(tmp_path)["north"] == {
        "source": "clip.mp4", "rate_hz": None, "attempts": 3, "speed": False, "started": False
    }  # fmt: skip
    assert (service.options("north")["rate_hz"], service.options("north")["speed"]) == (0.0, False)
    with pytest.raises(KeyError):
        service.set_options("nobody", {})
