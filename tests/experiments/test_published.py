"""`python -m bench published`: the delays that RESCO's authors logged, by hand."""

import pytest
from bench.published import Curve, published, read_curves, table

LOG = """delays = {
'FIXED cologne1 0 x x': [39.9, 37.5],
'IDQN cologne1 0 drq_norm wait_norm': [90.0, 20.0,
    30.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0, 50.0],
'IDQN cologne1 0 drq_norm wait_norm_yerr': [1.0, 2.0],
'MPLight cologne3 0 mplight pressure': [700.25],
'FMA2C cologne3 0 fma2c fma2c': [],
}
"""


def test_of_each_training_the_best_episode_and_the_mean_of_the_last_ten():
    found = read_curves(LOG)
    assert set(found) == {("IDQN", "cologne1"), ("MPLight", "cologne3")}
    of_dqn = found["IDQN", "cologne1"]
    assert of_dqn.best_s == 20.0  # the second of twelve: not among the last ten
    assert of_dqn.last_s == pytest.approx((9 * 30.0 + 50.0) / 10)
    assert found["MPLight", "cologne3"] == Curve((700.25,))


def test_agents_without_an_episode_have_an_empty_cell():
    lines = table(read_curves(LOG)).splitlines()
    assert lines[2] == "| cologne1 | 20.0, 32.0 |  |  |  |"
    assert lines[3] == "| cologne3 |  |  | 700.2, 700.2 |  |"


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "delays = open('/etc/passwd')",
        "delays = [1, 2]",
        "delays = {'IDQN': [1.0]}",
        "delays = {'IDQN cologne1': ['fast']}",
        "delays = {",
        "a = {}; b = {}",
    ],
)
def test_another_text_is_refused_and_never_run(text):
    with pytest.raises(ValueError, match="no delays as RESCO writes them"):
        read_curves(text)


def test_without_a_file_it_says_which_one_to_give(capsys):
    published()
    assert "--log FILE" in capsys.readouterr().out
