"""Secrets are hidden wherever they stand, by hand."""

from __future__ import annotations

import pytest

from headway import telemetry
from headway.telemetry.masking import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://me:p@ss@cam/1", "rtsp://***@cam/1"),
        ("a http://cam/x?user=me&pwd=abc&n=1 b", "a http://cam/x?user=me&pwd=***&n=1 b"),
        ("http://cam/?password=a/b", "http://cam/?password=***"),
        ("http://cam/?api_key=a&b=1", "http://cam/?api_key=***&b=1"),
        ("http://cam/?access_token=abc", "http://cam/?access_token=***"),
        ("http://cam/password=abc", "http://cam/password=***"),
        ("rtsp://cam/user=admin&passwd=s&channel=1", "rtsp://cam/user=admin&passwd=***&channel=1"),
        ("rtsp://cam/live?channel=1", "rtsp://cam/live?channel=1"),
        ("DELETE /keys/hw_0a1b2c3d4e5f_" + "aB3_-" * 8, "DELETE /keys/hw_0a1b2c3d4e5f_***"),
        ("is hw_0a1b_short it", "is hw_0a1b_short it"),
        ("Bearer eyJhbGciOiJI.eyJzdWIiOiJh.Zm9v_-x, he said", "Bearer ***, he said"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_what_is_secret_is_hidden_and_nothing_else(text, shown):
    assert masked(text) == shown


def test_no_password_of_an_address_reaches_the_log(logged):
    error = ValueError("no answer of rtsp://me:S3CRET@north/1?token=T0KEN")
    try:
        raise error
    except ValueError:
        telemetry.log("sensing").exception("rtsp://a:S3CRET@b", why=str(error))
    (line,) = logged("sensing")
    assert "S3CRET" not in str(line)
    assert "T0KEN" not in str(line)
    assert line["why"] == "no answer of rtsp://***@north/1?token=***"
