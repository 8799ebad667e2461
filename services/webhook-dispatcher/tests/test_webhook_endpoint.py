from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from yarl import URL

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_webhook_dispatcher.endpoint import Endpoint, checked_events, checked_status, checked_url
from harkara_webhook_dispatcher.signature import SigningKey, new_secret

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hooks",
        "https://example.com:8443/hooks?source=harkara&x=%20",
        "https://8.8.8.8/hooks",
        "https://[2001:4860:4860::8888]/hooks",
        "HTTPS://Example.com",
        "https://example.com/%E2%82%B9@here",
    ],
)
def test_a_public_https_url_is_taken_as_it_is(url: str) -> None:
    assert checked_url(url, sandbox=False) == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.com/hooks", "https"),
        ("ftp://example.com/", "https"),
        ("example.com/hooks", "https"),
        ("", "https"),
        ("https://", "host"),
        ("https:///path", "host"),
        ("https://user:pass@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://example.com/hooks#part", "fragment"),
        ("https://example.com/hooks#", "fragment"),
        ("https://example.com/" + "a" * 2048, "longer"),
        ("https://example.com/a b", "space"),
        ("https://example.com\\@evil.example/", "backslash"),
        ("https://example.com/\n", "ASCII"),
        ("https://exämple.com/", "ASCII"),
        ("https://example.com:22/", "port"),
        ("https://example.com:99999/", "read"),
        ("https://localhost/hooks", "domain"),
        ("https://2130706433/", "domain"),
        ("https://127.0.0.1/hooks", "loopback"),
        ("https://169.254.169.254/latest/meta-data", "link-local"),
        ("https://[::1]/hooks", "loopback"),
        ("https://[::ffff:10.0.0.1]/hooks", "disguise"),
    ],
)
def test_a_url_that_may_not_be_is_refused_in_plain_words(url: str, words: str) -> None:
    with pytest.raises(HarkaraError, match=words) as caught:
        checked_url(url, sandbox=False)
    assert caught.value.code == ErrorCode.INVALID_REQUEST
    assert "pass" not in caught.value.message.replace("password", "")


def test_the_sandbox_lets_this_machine_through_but_no_oddities() -> None:
    assert checked_url("http://127.0.0.1:9000/hooks", sandbox=True)
    assert checked_url("http://localhost:80/hooks", sandbox=True)
    with pytest.raises(HarkaraError, match="user name"):
        checked_url("http://user@127.0.0.1/", sandbox=True)


def test_events_are_chosen_from_those_offered() -> None:
    assert checked_events([]) == []
    assert checked_events(["message.read", "message.failed", "message.read"]) == ["message.failed", "message.read"]
    with pytest.raises(HarkaraError, match=r"offered are: .*message\.delivered"):
        checked_events(["message.exploded"])


def test_a_status_is_one_of_two() -> None:
    assert checked_status("disabled") == "disabled"
    with pytest.raises(HarkaraError):
        checked_status("paused")


def test_two_keys_live_until_the_overlap_ends() -> None:
    newer, older = SigningKey.of(new_secret()), SigningKey.of(new_secret())
    endpoint = Endpoint(
        webhook_id="WH1",
        account_id="ACC1",
        url=URL("https://example.com"),
        events=frozenset({"message.read"}),
        description="",
        status="active",
        reason=None,
        created_at=NOW,
        key=newer,
        previous_key=older,
        overlap_ends_at=NOW + timedelta(hours=1),
        failing_since=None,
    )
    assert endpoint.living_keys(NOW) == [newer, older]
    assert endpoint.living_keys(NOW + timedelta(hours=1)) == [newer]
    assert endpoint.wants("message.read")
    assert not endpoint.wants("message.sent")
    unchosen = replace(endpoint, events=frozenset())
    assert unchosen.wants("message.sent")
    assert not unchosen.wants("message.cancelled")
    assert replace(endpoint, events=frozenset({"message.cancelled"})).wants("message.cancelled")
