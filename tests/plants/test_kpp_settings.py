"""What a KPP is made of: every default, every bound from both sides,
every derived figure by a formula written a second time.
"""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace

import numpy as np
import pytest

from headway.plants.kpp import KppOrder, KppSettings
from headway.plants.kpp.settings import compression_work_j_kg

DEFAULTS = {
    "floaters": 66,
    "depth_m": 10.0,
    "sprocket_radius_m": 0.5,
    "volume_m3": 0.4,
    "mass_kg": 16.0,
    "drag_coefficient": 0.6,
    "frontal_area_m2": 0.5,
    "added_mass_share": 0.5,
    "chain_kg": 600.0,
    "gear_ratio": 40.0,
    "gear_friction_n": 300.0,
    "gear_viscous_nspm": 200.0,
    "flywheel_kgm2": 2.0,
    "flywheel_viscous_nms": 0.02,
    "generator_speed_radps": (0.0, 60.0, 140.0, 180.0, 260.0),
    "generator_torque_nm": (0.0, 0.0, 500.0, 600.0, 600.0),
    "generator_efficiency": 0.93,
    "compressor_efficiency": 0.75,
    "compression_index": 1.2,
    "overpressure_pa": 20_000.0,
    "air_flow_kgps": 4.0,
    "fill": 1.0,
    "water_k": 288.15,
    "heat_rate_ps": 0.2,
    "isothermal_rate_ps": 8.0,
    "bubble_share": 0.05,
    "bubble_rise_mps": 0.25,
    "shaft_area_m2": 1.5,
    "pulse_s": 3.0,
    "coast_s": 1.0,
    "h1": False,
    "h2": False,
    "h3": False,
    "prefilled": True,
}
# name: (lowest allowed, highest allowed); nought itself is allowed only where the first is "0"
BOUNDED = {
    "depth_m": ("from 1e-06", "1e+09"),
    "sprocket_radius_m": ("from 1e-06", "1e+09"),
    "volume_m3": ("from 1e-06", "1e+09"),
    "mass_kg": ("from 1e-06", "1e+09"),
    "drag_coefficient": ("from 0", "1e+09"),
    "frontal_area_m2": ("from 1e-06", "1e+09"),
    "added_mass_share": ("from 0", "1e+09"),
    "chain_kg": ("from 0", "1e+09"),
    "gear_ratio": ("from 1e-06", "1e+09"),
    "gear_friction_n": ("from 0", "1e+09"),
    "gear_viscous_nspm": ("from 0", "1e+09"),
    "flywheel_kgm2": ("from 1e-06", "1e+09"),
    "flywheel_viscous_nms": ("from 0", "1e+09"),
    "generator_efficiency": ("from 1e-06", "1"),
    "compressor_efficiency": ("from 1e-06", "1"),
    "compression_index": ("from 1", "1.4"),
    "overpressure_pa": ("from 0", "1e+09"),
    "air_flow_kgps": ("from 1e-06", "1e+09"),
    "fill": ("from 1e-06", "2"),
    "water_k": ("from 273.15", "373.15"),
    "heat_rate_ps": ("from 0", "1000"),
    "isothermal_rate_ps": ("from 0", "1000"),
    "bubble_share": ("from 0", "0.5"),
    "bubble_rise_mps": ("from 1e-06", "1e+09"),
    "shaft_area_m2": ("from 1e-06", "1e+09"),
    "pulse_s": ("from 1e-06", "1e+09"),
    "coast_s": ("from 1e-06", "1e+09"),
}
# A plant of which no two figures are alike, so that none can stand for another.
ODD = KppSettings(
    floaters=10, depth_m=13.0, sprocket_radius_m=0.7, volume_m3=0.3, mass_kg=21.0,
    drag_coefficient=0.8, frontal_area_m2=0.45, added_mass_share=0.35,
    chain_kg=310.0, gear_ratio=31.0, gear_friction_n=120.0, gear_viscous_nspm=77.0,
    flywheel_kgm2=1.7, flywheel_viscous_nms=0.03,
    generator_speed_radps=(5.0, 50.0), generator_torque_nm=(1.0, 400.0), generator_efficiency=0.9,
    compressor_efficiency=0.65, compression_index=1.3,
    overpressure_pa=15_000.0, air_flow_kgps=2.5, fill=0.8, water_k=291.0, heat_rate_ps=0.4,
    isothermal_rate_ps=6.0, bubble_share=0.1,
    bubble_rise_mps=0.3, shaft_area_m2=1.2, pulse_s=2.5, coast_s=0.75,
)  # fmt: skip


def exactly(text: str) -> str:
    return f"^{re.escape(text)}$"


def test_the_plant_of_the_documents_is_the_one_without_settings():
    assert {f.name: getattr(KppSettings(), f.name) for f in fields(KppSettings)} == DEFAULTS


def test_every_number_of_the_settings_has_its_bounds_tested():
    numbers = {
        name
        for name, value in DEFAULTS.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert numbers == {*BOUNDED, "floaters"}


@pytest.mark.parametrize("name", BOUNDED)
def test_a_number_is_taken_up_to_its_bounds_and_refused_beyond_them(name):
    least, most = BOUNDED[name]
    low = float(least.split()[1])
    said = f"a number {least} to {most}."
    # depth and radius are tied to each other
    allowed = {"depth_m": [1.1, 1e3], "sprocket_radius_m": [1e-3, 0.5]}.get(
        name, [low, float(most)]
    )
    refused = [math.nextafter(low, -math.inf), math.nextafter(float(most), math.inf)]
    refused += [-1e-3, math.nan, math.inf, -math.inf, 1e300]
    refused += [0.0, 5e-324] if low > 0.0 else []
    for value in allowed:
        assert getattr(KppSettings(**{name: value}), name) == value
    for value in refused:
        with pytest.raises(ValueError, match=exactly(f"{name}: {value!r} is not allowed: {said}")):
            KppSettings(**{name: value})


@pytest.mark.parametrize("floaters", [2, 4, 10_000])
def test_floaters_are_any_even_number(floaters):
    assert KppSettings(floaters=floaters).floaters == floaters


@pytest.mark.parametrize("floaters", [-2, 0, 1, 3, 66.0, True, "66", None])
def test_floaters_that_cannot_balance_each_other_are_refused(floaters):
    with pytest.raises(
        ValueError,
        match=exactly(
            f"floaters: {floaters!r} is not allowed: an even number from 2 on, "
            "so that the shells balance each other."
        ),
    ):
        KppSettings(floaters=floaters)


def test_more_floaters_than_ten_thousand_are_refused():
    with pytest.raises(
        ValueError, match=r"^floaters: 10002 is not allowed: a number from 2 to 10000\.$"
    ):
        KppSettings(floaters=10_002)


def test_sprockets_must_leave_a_straight_way():
    assert KppSettings(depth_m=10.0, sprocket_radius_m=4.999).straight_m == pytest.approx(0.002)
    for radius in (5.0, 5.1):
        with pytest.raises(
            ValueError,
            match=exactly(
                f"sprocket_radius_m: {radius} leaves no straight way: "
                "less than half of depth_m, 10.0."
            ),
        ):
            KppSettings(depth_m=10.0, sprocket_radius_m=radius)


@pytest.mark.parametrize(
    ("speeds", "torques", "fits"),
    [
        ((0.0, 1.0), (0.0, 0.0), True),
        ((3.0, 4.0, 5.0), (0.0, 7.0, 2.0), True),  # torque may fall
        ((), (), False),
        ((0.0,), (5.0,), False),
        ((0.0, 1.0), (5.0,), False),
        ((0.0, 1.0), (5.0, 6.0, 7.0), False),
        ((0.0, 1.0, 1.0), (0.0, 1.0, 2.0), False),
        ((0.0, 2.0, 1.0), (0.0, 1.0, 2.0), False),
        ((-0.1, 1.0), (0.0, 1.0), False),
        ((0.0, 1.0), (0.0, -0.1), False),
        ((0.0, 1.0), (-0.1, 2.0), False),
        ((0.0, math.inf), (0.0, 1.0), False),
        ((0.0, math.nan), (0.0, 1.0), False),
        ((0.0, 1.0), (0.0, math.inf), False),
        ((0.0, 1.0), (0.0, math.nan), False),
    ],
)
def test_the_generators_map_rises_in_speed_and_has_no_negative_torque(speeds, torques, fits):
    if fits:
        asked = KppSettings(generator_speed_radps=speeds, generator_torque_nm=torques).generator()
        assert [column.tolist() for column in asked] == [list(speeds), list(torques)]
        assert [column.dtype for column in asked] == [np.float64, np.float64]
    else:
        with pytest.raises(
            ValueError,
            match=r"^generator_speed_radps, generator_torque_nm: two lists of one length, "
            r"from two on, speeds rising, all finite",
        ):
            KppSettings(generator_speed_radps=speeds, generator_torque_nm=torques)


def test_the_way_of_the_chain_is_two_straight_sides_and_one_whole_turn():
    s = KppSettings(depth_m=10.0, sprocket_radius_m=0.5, floaters=66)
    assert s.straight_m == 9.0
    assert s.loop_m == pytest.approx(18.0 + math.pi, rel=1e-15)
    assert s.spacing_m == pytest.approx((18.0 + math.pi) / 66, rel=1e-15)


def test_pressures_are_of_the_water_at_the_two_axles():
    s = KppSettings(depth_m=10.0, sprocket_radius_m=0.5)
    # 998.2 kg/m3 * 9.80665 m/s2 = 9788.99803 Pa/m; 9.5 m and 0.5 m of it
    assert s.pressure_in_pa == pytest.approx(101_325.0 + 92_995.481285, abs=1e-5)
    assert s.pressure_out_pa == pytest.approx(101_325.0 + 4_894.499015, abs=1e-5)


@pytest.mark.parametrize(
    ("fill", "at_foot"), [(0.5, False), (1.0, False), (1.8, False), (1.9, True), (2.0, True)]
)
def test_a_floaters_air_fills_its_shell_at_the_head_or_is_what_it_holds_at_the_foot(fill, at_foot):
    s = KppSettings(fill=fill)  # the foot's pressure is 1.83 times the head's
    pascal = 194_320.481285 if at_foot else fill * 106_219.499015
    assert s.air_kg == pytest.approx(pascal * 0.4 / (287.05 * 288.15), rel=1e-12)


def test_compression_work_is_that_of_the_textbook():
    rt = 287.05 * 300.0
    assert compression_work_j_kg(3.0, 1.0, 300.0) == pytest.approx(rt * math.log(3.0), rel=1e-14)
    assert compression_work_j_kg(3.0, 1.25, 300.0) == pytest.approx(
        5.0 * rt * (3.0**0.2 - 1.0), rel=1e-12
    )
    assert compression_work_j_kg(1.0, 1.3, 300.0) == 0.0
    # by steps of the integral of v dp along p v^n = const, from 1 to 3 bar at 300 K
    p = np.linspace(1e5, 3e5, 20_001)
    v = rt / 1e5 * (1e5 / p) ** (1.0 / 1.25)
    assert compression_work_j_kg(3.0, 1.25, 300.0) == pytest.approx(
        float(np.trapezoid(v, p)), rel=1e-8
    )


@pytest.mark.parametrize("off", [0.0, 0.99e-9, -0.99e-9])
def test_an_index_of_one_but_for_rounding_is_isothermal(off):
    assert compression_work_j_kg(2.0, 1.0 + off, 288.15) == 287.05 * 288.15 * math.log(2.0)


def test_an_index_just_above_one_is_already_polytropic():
    index = 1.0 + 2e-9
    exact = 287.05 * 288.15 * math.log(2.0)
    assert compression_work_j_kg(2.0, index, 288.15) != exact
    assert compression_work_j_kg(2.0, index, 288.15) == pytest.approx(exact, rel=1e-6)


def test_to_compress_a_kilogram_takes_the_receivers_pressure_over_the_efficiency():
    s = KppSettings()
    ratio = (194_320.481285 + 20_000.0) / 101_325.0
    assert s.compression_j_kg == pytest.approx(
        6.0 * 287.05 * 288.15 * (ratio ** (1.0 / 6.0) - 1.0) / 0.75, rel=1e-12
    )


def test_the_blower_keeps_its_share_of_the_shaft_filled_and_rests_without_h1():
    assert KppSettings(h1=False).bubble_w == 0.0
    kgps = (
        0.05 * 1.5 * 0.25 * 106_219.499015 / (287.05 * 288.15)
    )  # share * area * rise, at the pressure of the top
    work = 6.0 * 287.05 * 288.15 * ((194_320.481285 / 101_325.0) ** (1.0 / 6.0) - 1.0) / 0.75
    assert KppSettings(h1=True).bubble_w == pytest.approx(kgps * work, rel=1e-12)


def test_the_constants_of_the_compiled_code_are_the_settings_in_its_words():
    c = ODD.constants()
    straight = 13.0 - 2 * 0.7
    loop = 2 * straight + 2 * math.pi * 0.7
    foot, head = 101_325.0 + 998.2 * 9.80665 * 12.3, 101_325.0 + 998.2 * 9.80665 * 0.7
    rt = 287.05 * 291.0
    expected = {
        "n": 10,
        "spacing": loop / 10,
        "loop": loop,
        "x_in": math.pi * 0.35,
        "x_out": math.pi * 0.35 + straight,
        "p_in": foot,
        "weight": 998.2 * 9.80665,
        "inertia": 10 * 21.0 + 1.35 * 0.3 * 998.2 * 10 + 310.0,
        "drag": 0.5 * 0.8 * 0.45 * 998.2 * 10,
        "shell": 0.0,
        "friction": 120.0,
        "viscous": 77.0,
        "ratio": 31.0 / 0.7,
        "flywheel": 1.7,
        "windage": 0.03,
        "efficiency": 0.9,
        "compression": 1.3
        / 0.3
        * rt
        * (((foot + 15_000.0) / 101_325.0) ** (0.3 / 1.3) - 1.0)
        / 0.65,
        "bubble": 0.0,
        "flow": 2.5,
        "air": 0.8 * head * 0.3 / rt,
        "volume": 0.3,
        "water": 291.0,
        "heat": 0.4,
        "pulse": 0.0,
        "coast": 0.0,
    }
    assert c._asdict() == pytest.approx(expected, rel=1e-12)


def test_h1_thins_the_water_of_the_descending_side_and_lets_its_shells_sink():
    c = replace(ODD, h1=True).constants()
    straight = 13.0 - 2 * 0.7
    falling = 10 * straight / (2 * straight + 2 * math.pi * 0.7)  # floaters on the descending side
    water = 998.2 * (10 - falling) + 0.9 * 998.2 * falling
    assert c.inertia == pytest.approx(10 * 21.0 + 1.35 * 0.3 * water + 310.0, rel=1e-12)
    assert c.drag == pytest.approx(0.5 * 0.8 * 0.45 * water, rel=1e-12)
    assert c.shell == pytest.approx(
        falling * 21.0 / 7850.0 * 0.1 * 998.2 * 9.80665, rel=1e-12
    )  # steel displaces less weight of water
    assert c.bubble == replace(ODD, h1=True).bubble_w > 0.0


def test_h2_exchanges_heat_fast_and_h3_pulses_and_coasts():
    assert replace(ODD, h2=True).constants()._asdict() == ODD.constants()._asdict() | {"heat": 6.0}
    assert replace(ODD, h3=True).constants()._asdict() == ODD.constants()._asdict() | {
        "pulse": 2.5,
        "coast": 0.75,
    }


@pytest.mark.parametrize("load", [0.0, 0.3, 1.0])
def test_an_order_loads_the_generator_between_nothing_and_all(load):
    assert (KppOrder(load=load).load, KppOrder(load=load).air) == (load, True)
    assert KppOrder(air=False) == KppOrder(1.0, False)


@pytest.mark.parametrize("load", [-1e-9, 1.0 + 1e-9, 2.0, math.nan, math.inf, -math.inf])
def test_an_order_beyond_is_refused(load):
    with pytest.raises(
        ValueError, match=exactly(f"load: {load!r} is not allowed: a number from 0 to 1.")
    ):
        KppOrder(load=load)
