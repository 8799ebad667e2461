"""The small things everybody relies on: ids, money, subjects, and that every event has a home and a reader."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_contracts import catalogue, consumers, money
from harkara_contracts.carriers import CarrierSettings, load_carriers
from harkara_contracts.commands import Command
from harkara_contracts.errors import ErrorCode, http_status
from harkara_contracts.ids import attempt_id, day_of, is_message_id, new_batch_id, new_message_id
from harkara_contracts.streams import STREAMS, stream_of
from harkara_contracts.subjects import Category, Lane, key_token, lane_of, subject


def test_a_message_id_tells_its_day_and_is_recognised() -> None:
    one = new_message_id()
    assert is_message_id(one)
    assert day_of(one) == datetime.now(UTC).date()
    assert day_of(attempt_id(one, 2)) == day_of(one)
    assert new_batch_id().startswith("BATCH2")
    assert not is_message_id("TN2026")


def test_ids_of_one_moment_lie_together_and_later_ones_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
    midnight = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    heads = []
    for now in (noon, noon + 0.01, noon + 0.1, noon + 1, midnight - 0.01, midnight, midnight + 0.1):
        monkeypatch.setattr("harkara_contracts.ids.time.time", lambda now=now: now)
        heads.append(new_message_id()[:14])
    assert heads[0] == heads[1] == "TN20260301G000"
    assert heads[4] == "TN20260301ZZZZ"
    assert heads[1:] == sorted(set(heads))


def test_ten_thousand_ids_differ() -> None:
    assert len({new_message_id() for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    ("amount_mp", "paise", "rupees"),
    [
        (2_500, "2.5", "0.025"),
        (22_000, "22", "0.22"),
        (100_000, "100", "1.00"),
        (-1, "-0.001", "-0.00001"),
        (0, "0", "0.00"),
    ],
)
def test_money_is_written_exactly(amount_mp: int, paise: str, rupees: str) -> None:
    assert money.to_paise(amount_mp) == paise
    assert money.to_rupees(amount_mp) == rupees


@given(st.integers(-(10**15), 10**15))
def test_no_milli_paisa_is_lost_in_writing(amount_mp: int) -> None:
    whole, _, fraction = money.to_paise(amount_mp).lstrip("-").partition(".")
    assert int(whole) * 1000 + int(fraction.ljust(3, "0") or 0) == abs(amount_mp)


@given(st.text(min_size=1, max_size=40))
def test_any_key_becomes_one_token_and_no_two_the_same(key: str) -> None:
    assert subject("fact", "template", key_token(key)).count(".") == 3
    assert key_token(key) != key_token(key + "x")


@pytest.mark.parametrize("token", ["", "a.b", "*", ">", "a b", "x" * 401])
def test_a_token_that_would_be_read_otherwise_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        subject("message", "accepted", token)


def test_categories_go_by_their_lanes() -> None:
    assert lane_of(Category.OTP) is Lane.OTP
    assert lane_of(Category.SERVICE_IMPLICIT) is Lane.TRANSACTIONAL
    assert lane_of(Category.SERVICE_EXPLICIT) is Lane.PROMOTIONAL


def test_every_event_has_a_stream_and_a_reader() -> None:
    read = {event for spec in consumers.CONSUMERS for event in spec.events} | set(consumers.READ_ALONG)
    for event in catalogue.EVENTS:
        assert stream_of(f"{event.domain}.v1.x").name
        assert event in read, f"nobody reads {event.type_name()}"


def test_every_command_goes_to_a_service_that_answers_commands() -> None:
    answering = {spec.service for spec in consumers.COMMAND_CONSUMERS}
    assert {command.service for command in catalogue.COMMANDS if issubclass(command, Command)} == answering
    assert all(issubclass(command, Command) for command in catalogue.COMMANDS)


def test_durables_are_unique_and_filters_lie_in_their_stream() -> None:
    names = [spec.durable(lane) for spec in consumers.CONSUMERS for lane in spec.lanes]
    assert len(names) == len(set(names))
    for spec in consumers.CONSUMERS:
        for lane in spec.lanes:
            assert {stream_of(one).name for one in spec.filters(lane)} == {spec.stream.name}


def test_no_two_streams_take_the_same_subject() -> None:
    heads = [pattern.split(".")[0] for stream in STREAMS for pattern in stream.subjects]
    assert len(heads) == len(set(heads))


@pytest.mark.parametrize(
    ("code", "status"),
    [("ERR_INVALID_MOBILE", 400), ("ERR_DLT_TEMPLATE_MISMATCH", 422), ("ERR_INSUFFICIENT_CREDITS", 402)],
)
def test_codes_have_their_status(code: str, status: int) -> None:
    assert http_status(ErrorCode(code)) == status


def test_a_carriers_file_says_where_it_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "carriers.yaml"
    file.write_text("carriers: [{name: jio, host: h, port: 1, system_id: s, windw: 5}]")
    with pytest.raises(ValueError, match="windw"):
        load_carriers(file)
    with pytest.raises(ValueError, match="cannot be read"):
        load_carriers(tmp_path / "absent.yaml")


def test_a_carriers_password_comes_from_a_file_or_the_entry_not_both(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("open sesame\n")
    entry = {"name": "jio", "host": "h", "port": 1, "system_id": "s", "password_file": str(secret)}
    (carrier,) = CarrierSettings.model_validate({"carriers": [entry]}).carriers
    assert carrier.read_password() == "open sesame"
    with pytest.raises(ValueError, match="not both"):
        CarrierSettings.model_validate({"carriers": [{**entry, "password": "x"}]})
