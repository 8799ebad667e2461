"""What was promised in proto/: well formed, never broken, generated freshly, and the same as the HTTP API promises."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from pydantic import BaseModel

from harkara_ingress.bulk.view import BatchStatus
from harkara_ingress.grpc.gen.harkara.v1 import messages_pb2 as pb
from harkara_ingress.http.routes.bulk import BulkAccepted
from harkara_ingress.http.routes.sending import Accepted
from harkara_ingress.sending.request import AnySend
from harkara_ingress.sending.validation import GsmAlternative, Mismatch, Verdict
from harkara_ingress.status.message_queries import AttemptStatus, MessageFilter, MessagePage, MessageStatus

ROOT = Path(__file__).parents[3]
PROTO = ROOT / "proto"
GENERATED = ROOT / "services/ingress/src/harkara_ingress/grpc/gen"
TOOLS = Path(sys.executable).parent


def buf(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([TOOLS / "buf", *words], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  # our own tool


def changed(tmp_path: Path, changes: Mapping[str, str]) -> Path:
    """Return a copy of proto/ with something replaced in messages.proto."""
    copy = tmp_path / "proto"
    shutil.copytree(PROTO, copy)
    file = copy / "harkara/v1/messages.proto"
    text = file.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return copy


def test_the_files_are_well_formed() -> None:
    done = buf("lint", PROTO)
    assert (done.returncode, done.stdout) == (0, "")


def test_nothing_that_was_promised_is_broken() -> None:
    done = buf("breaking", PROTO, "--against", PROTO / "baseline.binpb")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"  string batch_id = 2;\n  int32 total_recipients = 3;": "  int32 total_recipients = 3;"}, "was deleted"),
        ({"  string to = 1;\n  // `sms`": "  string to = 20;\n  // `sms`"}, "Previously present field"),
        ({"int32 credits_debited = 5": "string credits_debited = 5"}, "changed type"),
        ({"rpc Cancel(CancelRequest)": "rpc Withdraw(CancelRequest)"}, 'RPC "Cancel"'),
    ],
)
def test_a_break_would_be_noticed(tmp_path: Path, changes: Mapping[str, str], words: str) -> None:
    done = buf("breaking", changed(tmp_path, changes), "--against", PROTO / "baseline.binpb")
    assert done.returncode != 0
    assert words in done.stdout


def test_what_is_added_is_in_the_baseline_too(tmp_path: Path) -> None:
    """Else a field could be taken back again, after a client has used it."""
    now = tmp_path / "now.binpb"
    assert buf("build", PROTO, "--exclude-source-info", "-o", now).returncode == 0
    is_known = now.read_bytes() == (PROTO / "baseline.binpb").read_bytes()
    assert is_known, "run: buf build proto --exclude-source-info -o proto/baseline.binpb"


def test_the_generated_code_is_fresh(tmp_path: Path) -> None:
    files = sorted(str(file.relative_to(PROTO)) for file in PROTO.rglob("*.proto"))
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTO)),
        f"--plugin=protoc-gen-mypy={TOOLS / 'protoc-gen-mypy'}",
        *(f"--python_out={tmp_path}", f"--mypy_out=quiet:{tmp_path}", *files),
    ]
    subprocess.run(command, check=True, timeout=60)  # noqa: S603  # our own tool
    fresh = {file.relative_to(tmp_path): file.read_text() for file in tmp_path.rglob("*_pb2.py*")}
    kept = {file.relative_to(GENERATED): file.read_text() for file in GENERATED.rglob("*_pb2.py*")}
    assert len(fresh) == 4
    assert fresh == kept, "run make docs"


@pytest.mark.parametrize(
    ("described", "model", "only_here", "only_there"),
    [
        (pb.SendRequest, AnySend, set(), set()),
        (pb.BulkHeader, AnySend, set(), {"to"}),
        (pb.SendResponse, Accepted, set(), set()),
        (pb.SendBulkResponse, BulkAccepted, set(), set()),
        (pb.ValidateResponse, Verdict, set(), set()),
        (pb.GsmAlternative, GsmAlternative, set(), set()),
        (pb.Mismatch, Mismatch, set(), set()),
        (pb.Message, MessageStatus, set(), set()),
        (pb.Attempt, AttemptStatus, set(), set()),
        (pb.ListRequest, MessageFilter, set(), set()),
        (pb.ListResponse, MessagePage, set(), set()),
        (pb.Batch, BatchStatus, set(), set()),
    ],
)
def test_it_says_what_the_http_api_says(
    described: Any, model: type[BaseModel], only_here: set[str], only_there: set[str]
) -> None:
    """A field that comes to one edge comes to the other."""
    descriptor: Descriptor = described.DESCRIPTOR
    here = {field.name for field in descriptor.fields}
    there = {field.alias or name for name, field in model.model_fields.items()}
    assert (here - there, there - here) == (only_here, only_there)
