"""Between protocol buffers and JSON: nothing is lost, and no bytes do more harm than to be refused."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harkara_contracts.errors import HarkaraError
from harkara_ingress.grpc.conversion import decoded, fields_of, made
from harkara_ingress.grpc.gen.harkara.v1 import messages_pb2 as pb
from harkara_ingress.sending.request import AnySend
from harkara_ingress.status.message_queries import MessageStatus

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50)
SENDS = st.fixed_dictionaries(
    {"to": TEXT.filter(bool)},
    optional={
        "message": TEXT.filter(bool),
        "variables": st.dictionaries(TEXT, TEXT, max_size=5),
        "unicode": st.booleans(),
        "validity_seconds": st.integers(30, 86_400),
        "channels": st.just(["sms", "voice"]),
    },
)


@given(SENDS)
def test_a_send_means_the_same_as_in_json(fields: dict[str, Any]) -> None:
    raw = pb.SendRequest(**fields).SerializeToString()
    assert AnySend.model_validate(fields_of(decoded(pb.SendRequest, raw))) == AnySend.model_validate(fields)


def test_objects_of_json_arrive_as_such() -> None:
    said: dict[str, Any] = {"text": {"body": "hi", "preview_url": True}, "numbers": [1, 2.5, None]}
    request = pb.SendRequest(to="1")
    request.whatsapp.update(said)
    assert fields_of(request)["whatsapp"] == said


@given(
    st.binary(max_size=200), st.sampled_from([pb.SendRequest, pb.SendBulkRequest, pb.ListRequest, pb.ValidateRequest])
)
@settings(max_examples=300)
def test_any_bytes_are_read_or_refused(raw: bytes, kind: Any) -> None:
    with suppress(HarkaraError):
        assert isinstance(fields_of(decoded(kind, raw)), dict)


def test_deeply_nested_bytes_are_refused() -> None:
    nested = pb.SendRequest()
    place = nested.rcs
    for _ in range(90):
        place = place.get_or_create_struct("a")
    raw = nested.SerializeToString()
    with pytest.raises(HarkaraError, match="cannot be read"):
        decoded(pb.SendRequest, raw)


def test_an_answer_is_told_whole() -> None:
    names = dict.fromkeys(MessageStatus.model_fields)
    at = datetime(2026, 11, 22, 10, 0, 0, 250_000, tzinfo=UTC)
    status = MessageStatus(
        **names
        | {
            "message_id": "TN1",
            "state": "delivered",
            "channels": ["sms"],
            "test_mode": False,
            "cost_paise": 22.5,
            "delivered_at": at,
            "latency_ms": 1_200,
            "attempts": [],
        }
    )
    message = made(pb.Message, status.model_dump(mode="json"))
    assert (message.state, message.cost_paise, message.latency_ms) == ("delivered", 22.5, 1_200)
    assert message.delivered_at.ToDatetime(UTC) == at
    assert not message.HasField("carrier")
