"""Starting, watching and stopping a whole stack, from outside."""

import json
import os
import shlex
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from harkara_cli.ports import OFFSETS
from harkara_cli.stack import SERVERS, SERVICES, SIMULATORS

if TYPE_CHECKING:
    from cli.tests.conftest import Machine

NAMES = [row.name for row in (*SERVERS, *SIMULATORS, *SERVICES)]


def entry_named(machine: "Machine", name: str) -> dict[str, Any]:
    return next(entry for entry in machine.status()["processes"] if entry["name"] == name)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_starts_and_stops(machine_of_each_user: "Machine") -> None:
    machine = machine_of_each_user
    code, output = machine.up()
    assert code == 0, output
    demo = json.loads((machine.home / "demo.json").read_text())
    assert demo["base_url"] in output
    assert "curl -s" in output
    assert demo["api_key"] in output

    code, output = machine.run("down")
    assert code == 0, output
    machine.assert_nothing_runs()
    assert not (machine.home / "run.json").exists()

    # The same data, the same account.
    code, output = machine.up()
    assert code == 0, output
    assert json.loads((machine.home / "demo.json").read_text()) == demo
    machine.run("down")
    machine.assert_nothing_runs()


def test_foreground_shows_all_logs_and_stops_on_ctrl_c(machine: "Machine") -> None:
    process = machine.popen("up", "--port-base", str(machine.base))
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C stops" in line:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0, rest
    machine.assert_nothing_runs()
    # Every process' lines stand behind its name.
    assert any(line.startswith("billing") and "billing starts" in line for line in lines)


def test_second_interrupt_kills_what_does_not_stop(machine: "Machine") -> None:
    (machine.directory / "billing.deaf").touch()
    process = machine.popen("up", "--port-base", str(machine.base))
    assert process.stdout is not None
    assert any("Ctrl-C stops" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    machine.eventually(lambda: json.loads((machine.home / "run.json").read_text())["state"] == "stopping")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)  # the grace of a service is longer
    machine.assert_nothing_runs()


def test_nothing_outlives_a_killed_supervisor(machine: "Machine") -> None:
    code, output = machine.up()
    assert code == 0, output
    os.kill(machine.status()["pid"], signal.SIGKILL)
    machine.assert_nothing_runs()
    # Its run.json is stale now, and no hindrance.
    code, output = machine.run("status")
    assert (code, "No stack is running" in output) == (1, True)
    code, output = machine.up()
    assert code == 0, output


def test_a_home_with_an_awkward_name(machine_in: "Callable[[Path], Machine]", tmp_path: Path) -> None:
    awkward = tmp_path / "it's [a] *home*"
    awkward.mkdir()
    machine = machine_in(awkward)
    code, output = machine.up()
    assert code == 0, output
    assert shlex.quote(str(machine.home)) in output


def test_dead_processes_come_back(machine: "Machine") -> None:
    code, output = machine.up()
    assert code == 0, output
    for name in ("routing", "nats", "postgres"):
        before = entry_named(machine, name)
        pid = before["pid"]
        os.kill(pid, signal.SIGKILL)

        def is_back(name: str = name, pid: int = pid) -> bool:
            now = entry_named(machine, name)
            return bool(now["ready"]) and now["pid"] != pid and now["restarts"] == 1

        machine.eventually(is_back)
    assert "ended (signal SIGKILL)" in (machine.home / "logs" / "routing.log").read_text()


def test_several_processes_of_a_service(machine: "Machine") -> None:
    code, output = machine.up("--scale", "routing=2", "--scale", "billing=3")
    assert code == 0, output
    names = [entry["name"] for entry in machine.status()["processes"]]
    assert [name for name in names if name.startswith(("routing", "billing"))] == [
        "billing", "billing-2", "billing-3", "routing", "routing-2",
    ]  # fmt: skip
    code, output = machine.run("logs", "billing-3")
    assert (code, "billing starts" in output) == (0, True)
    before = {name: entry_named(machine, name)["pid"] for name in ("billing", "billing-2")}
    os.kill(before["billing-2"], signal.SIGKILL)

    def is_back() -> bool:
        now = entry_named(machine, "billing-2")
        return bool(now["ready"]) and now["restarts"] == 1

    machine.eventually(is_back)
    assert entry_named(machine, "billing")["pid"] == before["billing"]
    # How far behind a service is, is told once.
    assert [entry_named(machine, name)["lag"] for name in ("billing", "billing-2")] == [0, None]
    code, output = machine.run("down")
    assert code == 0, output
    machine.assert_nothing_runs()


def test_services_come_back_after_the_zygote_died(machine: "Machine") -> None:
    code, output = machine.up()
    assert code == 0, output
    before = {entry["name"]: entry["pid"] for entry in machine.status()["processes"]}
    os.kill(parent_of(before["billing"]), signal.SIGKILL)
    machine.eventually(lambda: machine.status()["ready"])
    after = {entry["name"]: entry["pid"] for entry in machine.status()["processes"]}
    assert all(after[row.name] != before[row.name] for row in (*SIMULATORS, *SERVICES))
    assert all(after[row.name] == before[row.name] for row in SERVERS)


def test_detached_start_returns_at_once_and_goes_on(machine: "Machine") -> None:
    code, output = machine.run("up", "--detach", "--port-base", str(machine.base))
    assert (code, "background" in output) == (0, True), output
    machine.eventually((machine.home / "demo.json").exists)
    machine.eventually(lambda: machine.status()["ready"])


def test_postgres_data_of_root_may_lie_in_a_closed_folder(
    tmp_path: Path, machine_in: "Callable[[Path], Machine]"
) -> None:
    closed = tmp_path / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    machine = machine_in(closed / "inner")
    code, output = machine.up()
    assert code == 0, output
    # Only for root is there another user, who cannot come here.
    assert (machine.home / "postgres").is_symlink() == (os.geteuid() == 0)
    machine.run("down")
    code, output = machine.up()
    assert code == 0, output


# -- a stack that runs ---------------------------------------------------------------------------------------------------


def test_status_tells_of_every_process(running: "Machine") -> None:
    status = running.status()
    assert (status["state"], status["ready"], status["port_base"]) == ("ready", True, running.base)
    assert [entry["name"] for entry in status["processes"]] == NAMES
    assert all(entry["ready"] and entry["restarts"] == 0 and entry["pid"] for entry in status["processes"])
    assert {entry["name"] for entry in status["processes"] if entry["lag"] == 0} == {row.name for row in SERVICES}
    code, output = running.run("status")
    assert code == 0
    assert all(name in output for name in NAMES)


def test_secrets_stay_with_their_owner(running: "Machine") -> None:
    for name in ("secrets.json", "run.json", "demo.json", "carriers.yaml", "nats/nats.conf", "valkey/valkey.conf"):
        assert stat.S_IMODE((running.home / name).stat().st_mode) == 0o600, name
    secrets = json.loads((running.home / "secrets.json").read_text()).values()
    for pid in running.pids():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        assert not any(secret in words for secret in secrets)


def test_everything_listens_on_loopback_only(running: "Machine") -> None:
    ours = {f"{running.base + offset:04X}" for offset in OFFSETS.values()}
    sockets = Path("/proc/net/tcp").read_text().splitlines() + Path("/proc/net/tcp6").read_text().splitlines()
    listening = [line.split()[1].split(":") for line in sockets if line.split()[3] == "0A"]
    addresses = {address for address, port in listening if port in ours}
    assert addresses == {"0100007F"}


def test_an_operator_makes_accounts_and_tops_them_up(running: "Machine") -> None:
    code, output = running.run("account", "create", "A client", "--plan", "business")
    assert code == 0, output
    account = json.loads(output)
    assert set(account) == {"account_id", "api_key", "signing_secret"}
    code, output = running.run("account", "show", account["account_id"])
    assert json.loads(output)["account_id"] == account["account_id"]
    code, output = running.run("topup", "1,250.50", account["account_id"])
    assert json.loads(output) == {"balance_paise": 125_050}
    code, output = running.run("topup", "a lot")
    assert (code, "is not a sum in rupees" in output) == (1, True)


def test_logs_show_one_process_or_all(running: "Machine") -> None:
    code, output = running.run("logs", "billing")
    assert (code, "billing starts" in output, "routing" in output) == (0, True, False)
    code, output = running.run("logs")
    assert all(f"{service.name} starts" in output for service in SERVICES)
    code, output = running.run("logs", "nobody-knows")
    assert (code, "billing" in output) == (1, True)


def test_dead_events_are_told(running: "Machine") -> None:
    code, output = running.run("dead", "list")
    assert (code, "There are no dead events" in output) == (0, True), output
    code, output = running.run("dead", "show", "7")
    assert (code, "There is no dead event 7" in output) == (1, True), output
    code, output = running.run("dead", "replay")
    assert (code, "--all" in output) == (1, True), output
    code, output = running.run("dead", "replay", "--all")
    assert (code, "Replayed: 0" in output) == (0, True), output


def test_provision_and_migrate_may_be_repeated(running: "Machine") -> None:
    for command in ("provision", "migrate"):
        code, output = running.run(command)
        assert code == 0, output


def test_a_second_stack_of_the_same_home_is_refused(running: "Machine") -> None:
    code, output = running.up()
    assert (code, "already running" in output) == (1, True), output
    assert running.status()["ready"]


def test_two_stacks_run_side_by_side(running: "Machine", machine: "Machine") -> None:
    code, output = machine.up()
    assert code == 0, output
    assert machine.base != running.base
    assert machine.status()["ready"]
    assert running.status()["ready"]


def test_the_bus_answers_on_its_monitoring_port(running: "Machine") -> None:
    with urlopen(f"http://127.0.0.1:{running.base + OFFSETS['nats.monitoring']}/varz") as answer:
        variables = json.load(answer)
    assert variables["max_payload"] == 8 * 1024 * 1024
    assert variables["jetstream"]["config"]["sync_always"] is True
    with socket.create_connection(("127.0.0.1", running.base + OFFSETS["nats"])) as client:
        assert b'"auth_required":true' in client.recv(4096)
