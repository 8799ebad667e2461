"""What a killed process wrote is told from what it did not, and in doubt nothing is claimed."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harkara_sms_sender import journal as journals
from harkara_sms_sender.journal import Journal

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = BEGAN + timedelta(seconds=1)


def opened(directory: Path, owner: str, **more: Any) -> Journal:
    journal = Journal(directory, owner, lambda: BEGAN, **more)
    journal.open()
    return journal


def killed(journal: Journal) -> None:
    """Let go of its files as the kernel does."""
    for fd in (journal._fd, journal._lock_fd):
        os.close(fd)


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Journal]:
    journal = opened(tmp_path, "mine")
    yield journal
    journal.close()


def test_what_a_dead_process_did_not_write_is_known(tmp_path: Path, mine: Journal) -> None:
    dead = opened(tmp_path, "dead")
    dead.written(["TN1-1", "TN2-1"])
    dead.written(["TN3-1"])
    killed(dead)
    assert mine.never_written("dead", "TN4-1", LATER)
    assert not any(mine.never_written("dead", one, LATER) for one in ("TN1-1", "TN2-1", "TN3-1"))


def test_of_a_living_process_nothing_is_claimed(tmp_path: Path, mine: Journal) -> None:
    living = opened(tmp_path, "living")
    assert not mine.never_written("living", "TN1-1", LATER)
    living.close()


def test_an_intent_older_than_the_file_may_have_been_written(tmp_path: Path, mine: Journal) -> None:
    killed(opened(tmp_path, "dead"))
    assert not mine.never_written("dead", "TN1-1", BEGAN - timedelta(seconds=1))


def test_without_a_file_nothing_is_claimed(mine: Journal) -> None:
    assert not mine.never_written("stranger", "TN1-1", LATER)


def test_after_a_restart_of_the_machine_the_file_is_not_believed(
    tmp_path: Path, mine: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "boot_id", lambda: "an earlier start")
    killed(opened(tmp_path, "dead"))
    assert not mine.never_written("dead", "TN1-1", LATER)


def test_a_line_that_the_kill_cut_off_was_not_followed_by_a_write(tmp_path: Path, mine: Journal) -> None:
    dead = opened(tmp_path, "dead")
    os.write(dead._fd, b"TN1-1\nTN2")
    killed(dead)
    assert mine.never_written("dead", "TN2-1", LATER)


def test_old_segments_go_and_what_they_covered_is_not_claimed(tmp_path: Path, mine: Journal) -> None:
    times = iter(BEGAN + timedelta(minutes=minute) for minute in range(9))
    dead = Journal(tmp_path, "dead", lambda: next(times), segment_bytes=200)
    dead.open()
    for number in range(30):
        dead.written([f"TN{number}-1"])
    killed(dead)
    assert len(list(tmp_path.glob("dead.*.log"))) == 2
    assert not mine.never_written("dead", "TN0-1", BEGAN + timedelta(seconds=30))
    assert not mine.never_written("dead", "TN29-1", BEGAN + timedelta(hours=1))
    assert mine.never_written("dead", "TN99-1", BEGAN + timedelta(hours=1))


def test_a_disk_that_fails_leaves_no_file_with_gaps(tmp_path: Path, mine: Journal) -> None:
    dead = opened(tmp_path, "dead")
    os.close(dead._fd)
    dead._fd = os.open(os.devnull, os.O_RDONLY)
    dead.written(["TN1-1"])
    assert list(tmp_path.glob("dead.*")) == []
    assert not mine.never_written("dead", "TN2-1", LATER)


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = opened(tmp_path / "file", "mine")
    journal.written(["TN1-1"])
    journal.close()


def test_files_of_long_ago_are_removed(tmp_path: Path) -> None:
    killed(opened(tmp_path, "dead"))
    for file in tmp_path.iterdir():
        os.utime(file, (0, 0))
    opened(tmp_path, "mine").close()
    assert {file.name.split(".")[0] for file in tmp_path.iterdir()} == {"mine"}


def test_a_process_that_dies_after_it_was_asked_for_is_believed_then(tmp_path: Path, mine: Journal) -> None:
    other = opened(tmp_path, "other")
    assert not mine.never_written("other", "TN1-1", LATER)
    killed(other)
    assert mine.never_written("other", "TN1-1", LATER)


def test_a_line_that_found_no_room_leaves_no_file_that_says_never_written(
    tmp_path: Path, mine: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = opened(tmp_path, "dead")
    real = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda fd, line: real(fd, line[:7]))
        dead.written(["TN1-1", "TN2-1"])
    dead.close()
    assert not mine.never_written("dead", "TN2-1", LATER)


def test_files_of_long_ago_go_unless_their_process_lives(tmp_path: Path) -> None:
    living, dead = opened(tmp_path, "living"), opened(tmp_path, "dead")
    dead.close()
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    opened(tmp_path, "new").close()
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"living", "new"}
    living.close()
