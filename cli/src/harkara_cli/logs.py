"""What the processes say: one size-bounded file per process, and in the foreground all of them with coloured names."""

import asyncio
import contextlib
import json
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harkara_cli.errors import HarkaraError

MAX_FILE_BYTES = 8 * 1024 * 1024  # twice this a process: the file and the one before it
MAX_LINE_BYTES = 64 * 1024
_LAST_LINES = 5
_DRAIN_S = 1.0
_FOLLOW_EVERY_S = 0.2
_FRAME = frozenset({"service", "instance", "logger", "color_message"})
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")

LineSink = Callable[[str, str], None]


class BoundedFile:
    """Appends lines; a full file is kept once as `<name>.1` and begun anew."""

    def __init__(self, path: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file = self._open()

    def write(self, line: bytes) -> None:
        if self._file.tell() + len(line) > self._max_bytes:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._open()
        # Unbuffered: what a process said last is what one wants to read when it died.
        self._file.write(line)

    def close(self) -> None:
        self._file.close()

    def _open(self) -> FileIO:
        return FileIO(self._path, "ab", opener=lambda path, flags: os.open(path, flags, 0o600))


class ProcessLog:
    """The log of one process over all its restarts. It reads a pipe; the process writes to the other end."""

    def __init__(self, name: str, directory: Path, sink: LineSink | None) -> None:
        self.path = directory / f"{name}.log"
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._name = name
        self._file = BoundedFile(self.path)
        self._sink = sink
        self._pumps: set[asyncio.Task[None]] = set()

    async def attach(self) -> int:
        """Returns a file descriptor for the process to write to; the caller closes its copy after the start."""
        read_fd, write_fd = os.pipe()
        reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(read_fd, "rb"))
        pump = asyncio.create_task(self._read(reader, transport))
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)
        return write_fd

    async def close(self) -> None:
        """Takes what is still in the pipes. A stranger that holds one open is not waited for."""
        if self._pumps:
            _, held_open = await asyncio.wait(self._pumps, timeout=_DRAIN_S)
            for pump in held_open:
                pump.cancel()
            await asyncio.gather(*held_open, return_exceptions=True)
        self._file.close()

    def say(self, line: str) -> None:
        self._take(line.encode() + b"\n")

    async def _read(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        try:
            while True:
                try:
                    line = await reader.readline()
                except ValueError:  # a line beyond the limit: the reader has dropped what it held
                    line = b"(a line too long to keep)\n"
                if not line:
                    return
                self._take(line)
        finally:
            transport.close()

    def _take(self, line: bytes) -> None:
        # A line that a full disk does not take is lost; a pipe that nobody reads would end the process itself.
        with contextlib.suppress(OSError):
            self._file.write(line if line.endswith(b"\n") else line + b"\n")
        text = line.decode(errors="replace").rstrip()
        self.last_lines.append(text)
        if self._sink:
            self._sink(self._name, text)


class Terminal:
    """Prints the lines of many processes, each behind its name in a colour of its own."""

    def __init__(self, console: Console, width: int) -> None:
        self._console = console
        self._width = width

    def line(self, name: str, text: str) -> None:
        # The checksum, unlike hash(), gives a name the same colour in every run.
        colour = _COLOURS[zlib.crc32(name.encode()) % len(_COLOURS)]
        self._console.print(Text(f"{name:<{self._width}} │ ", style=colour) + Text(readable(text)), soft_wrap=True)


def readable(line: str) -> str:
    """A service's JSON line as words: time of day, level, message, then its other fields; any other line as it is."""
    if not line.startswith("{"):
        return line
    try:
        record = json.loads(line)
        words = [record.pop("time").partition("T")[2][:12], record.pop("level"), record.pop("message")]
    except (ValueError, KeyError, AttributeError):
        return line
    rest = [f"{key}={value}" for key, value in record.items() if key not in _FRAME]
    return " ".join([*words, *rest])


def log_files(directory: Path, name: str | None) -> dict[str, Path]:
    """The log files by process name: all, or one; HarkaraError names the choices when there is no such process."""
    files = {path.stem: path for path in sorted(directory.glob("*.log"))}
    if name is None:
        return files
    if name not in files:
        raise HarkaraError(
            f"There is no log of {name!r} in {directory}: choose one of {', '.join(files) or 'none yet'}."
        )
    return {name: files[name]}


class Tail:
    """The end of a log file, and then what is added to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._offset = 0

    def last(self, count: int) -> list[str]:
        text = self._read()
        return text.splitlines()[-count:] if count else []

    def added(self) -> Iterator[str]:
        stat = self._path.stat()
        if stat.st_ino != self._inode:  # begun anew
            self._offset = 0
        if stat.st_size > self._offset:
            yield from self._read().splitlines()

    def _read(self) -> str:
        with self._path.open("rb") as file:
            self._inode = os.fstat(file.fileno()).st_ino
            file.seek(self._offset)
            data = file.read()
        # Up to the last whole line; the rest is read when it is complete.
        data = data[: data.rfind(b"\n") + 1]
        self._offset += len(data)
        return data.decode(errors="replace")


async def show_logs(files: dict[str, Path], terminal: Terminal, *, lines: int, follow: bool) -> None:
    tails = {name: Tail(path) for name, path in files.items()}
    for name, tail in tails.items():
        for line in tail.last(lines):
            terminal.line(name, line)
    while follow:
        await asyncio.sleep(_FOLLOW_EVERY_S)
        for name, tail in tails.items():
            for line in tail.added():
                terminal.line(name, line)
