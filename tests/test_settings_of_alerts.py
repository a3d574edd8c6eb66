"""Rules of alerts: what the street makes of their settings."""

import pytest
from pydantic import ValidationError

from headway.settings import MailSettings, Settings, WebhookSettings
from headway.street.alerts import alert_rules


def test_an_alert_on_a_figure_that_no_street_has_is_refused_before_anything_starts():
    rule = {"name": "r", "threshold": 1.0}
    for path in (
        "junctions.*.queue",
        r"junctions.A\.1.queue",
        "junctions.A1.longest_wait_s",
        "vehicles",
        "loop.fps",
    ):
        alert_rules(Settings(alerts={"rules": (rule | {"path": path},)}))
    with pytest.raises(ValueError, match="queues"):
        alert_rules(Settings(alerts={"rules": (rule | {"path": "junctions.*.queues"},)}))
    with pytest.raises(ValueError, match="already"):
        alert_rules(
            Settings(alerts={"rules": (rule | {"path": "vehicles"}, rule | {"path": "halted"})})
        )


@pytest.mark.parametrize(
    "address", ["a@b", "root@localhost", "Dr. X <a.b+c@d.org>", "o'k@b-c.de", "<a@b.org>"]
)
def test_an_address_of_mail_is_taken(address):
    MailSettings(host="h", port=25, sender=address, to=(address,))


@pytest.mark.parametrize(
    "address",
    [
        "a@",
        "<",
        "a@[",
        "a",
        "@b",
        "a..b@c",
        "a@b..c",
        "a b <c@d",
        "a@b>",
        "a@b, c@d",
        "a@b\nBcc: x@y",
    ],
)
def test_an_address_that_is_none_is_refused_by_its_place(address):
    for sender, to, place in ((address, ("a@b",), ("sender",)), ("a@b", (address,), ("to",))):
        with pytest.raises(ValidationError, match="no e-mail address") as refused:
            MailSettings(host="h", port=25, sender=sender, to=to)
        assert [fault["loc"] for fault in refused.value.errors()] == [place]


@pytest.mark.parametrize(
    "url", ["https://", "https:///x", "https://a b/", "https://u:p@h/", "ftp://h"]
)
def test_an_address_of_a_webhook_that_is_none_is_refused(url):
    with pytest.raises(ValidationError):
        WebhookSettings(url=url, secret="0123456789abcdef")
