"""The documents are true: what is generated is fresh, what is linked exists, what is named is there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harkara_cli.ports import DEFAULT_BASE, OFFSETS
from harkara_contracts import asyncapi
from harkara_contracts.catalogue import EVENTS
from harkara_contracts.errors import ErrorCode
from harkara_smsc_simulator.magic import MAGIC_NUMBERS

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
README = (REPOSITORY / "README.md").read_text()
API = (REPOSITORY / "docs/api.md").read_text()


def test_asyncapi_is_what_the_declarations_say() -> None:
    assert json.loads((REPOSITORY / "docs/asyncapi.json").read_text()) == asyncapi.document(), "run `make docs`"


def test_the_reference_of_the_command_line_is_fresh(tmp_path: Path) -> None:
    fresh = tmp_path / "cli.md"
    command = [
        "-m",
        "typer",
        "harkara_cli.main",
        "utils",
        "docs",
        "--name",
        "harkara",
        "--title",
        "The harkara command",
    ]
    subprocess.run([sys.executable, *command, "--output", str(fresh)], check=True, capture_output=True, cwd=REPOSITORY)  # noqa: S603
    assert (REPOSITORY / "docs/cli.md").read_text() == fresh.read_text(), "run `make docs`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_folders_and_files_that_are_named_exist(document: Path) -> None:
    named = re.findall(r"`((?:libs|services|simulators|cli|bench|tests|docs|deploy)/[\w./-]+)`", document.read_text())
    for path in named:
        assert path == "services/x-sender" or (REPOSITORY / path).exists(), path


def test_every_code_that_the_guide_names_exists() -> None:
    named = set(re.findall(r"ERR_[A-Z_]+", API))
    assert named <= {code.value for code in ErrorCode}
    assert len(named) > 25


def test_the_magic_numbers_of_the_guide_are_the_simulators() -> None:
    assert set(re.findall(r"^\| (9\d{11}) \|", API, re.MULTILINE)) == set(MAGIC_NUMBERS.values())


def test_the_readme_names_the_ports_that_are_used() -> None:
    assert f"http://127.0.0.1:{DEFAULT_BASE + OFFSETS['ingress.http']}/v1/sms/send" in README
    assert f"http://127.0.0.1:{DEFAULT_BASE + OFFSETS['smsc.http']}" in README


def test_the_picture_and_the_table_show_the_events_that_run() -> None:
    table = (REPOSITORY / "docs/events.md").read_text()
    for event in EVENTS:
        if event.domain in {"message", "attempt", "batch", "inbound", "client"}:
            shown = f"{event.domain}.{event.event}" in table or f".{event.event}`" in table
            assert shown, event.type_name()
