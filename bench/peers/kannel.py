"""Kannel: bearerbox, which speaks SMPP and keeps the queue, and smsbox, which speaks HTTP.

What the configuration does not name is Kannel's default, the window of ten unanswered submits among it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.load import TO, LoadPlan
from bench.peers.install import install_packages
from bench.peers.peer import (
    CONNECTIONS,
    HOST,
    PASSWORD,
    SENDER,
    TEXT,
    USER,
    Peer,
    Processes,
    Running,
    Wiring,
    free_ports,
    get_request,
)

_BEARERBOX, _SMSBOX = Path("/usr/sbin/bearerbox"), Path("/usr/sbin/smsbox")
_ACCEPTED = 202
_DELIVERED, _EACH_STEP = 1, 31
"""dlr-mask, and the kind of a single receipt: 1 delivered, 2 not deliverable, 4 queued, 8 taken by the SMSC, 16 refused."""

_CONFIGURATION = """\
group = core
admin-port = {admin}
admin-password = {password}
admin-deny-ip = "*.*.*.*"
admin-allow-ip = "{host}"
admin-interface = {host}
smsbox-port = {boxes}
box-deny-ip = "*.*.*.*"
box-allow-ip = "{host}"
log-file = "{folder}/bearerbox.log"
log-level = 1
access-log = "{folder}/access.log"
dlr-storage = internal
{store}
group = smsc
smsc = smpp
smsc-id = bench
host = {host}
port = {carrier}
transceiver-mode = true
smsc-username = {user}
smsc-password = {password}
system-type = ""
reconnect-delay = 1

group = smsbox
bearerbox-host = {host}
sendsms-port = {http}
sendsms-interface = {host}
log-file = "{folder}/smsbox.log"
log-level = 1
access-log = "{folder}/smsbox-access.log"

group = sendsms-user
username = {user}
password = {password}
"""


def final_receipt(head: bytes, _body: bytes) -> int:
    """`GET /<number>/<kind of receipt>`."""
    _, number, kind = head.split(b" ", 2)[1].split(b"/")
    return int(number) if int(kind) == _DELIVERED else 0


def _install(_cache: Path) -> None:
    install_packages({"kannel": _BEARERBOX})


@contextmanager
def _running(wiring: Wiring, store: str) -> Iterator[Running]:
    admin, boxes, http = free_ports(3)
    folder = wiring.folder
    configuration = folder / "kannel.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            admin=admin, boxes=boxes, http=http, host=HOST, user=USER, password=PASSWORD, folder=folder,
            carrier=wiring.carrier_port, store=store.format(folder=folder),
        )
    )  # fmt: skip
    request = get_request(
        http,
        "/cgi-bin/sendsms",
        {
            "username": USER,
            "password": PASSWORD,
            "from": SENDER,
            "to": TO,
            "text": TEXT,
            "dlr-mask": str(_EACH_STEP if wiring.each_step else _DELIVERED),
            "dlr-url": wiring.callback_url(f"/{TO}/%d"),
        },
    )
    plan = LoadPlan(
        host=HOST, port=http, request=request, success=_ACCEPTED, first_number=0, count=0, connections=CONNECTIONS
    )
    with Processes(folder) as processes:
        processes.start("bearerbox", [str(_BEARERBOX), "-v", "4", "--", str(configuration)])
        processes.wait_for_port(boxes, "bearerbox")
        processes.start("smsbox", [str(_SMSBOX), "-v", "4", "--", str(configuration)])
        processes.wait_for_port(http, "smsbox")
        yield Running(plan, processes.pids, processes.check)


_WINDOW = 10
_MESSAGES = {"main": 20_000, "acks": 10_000, "slow": 5_000}
KANNEL = Peer("kannel", "Kannel, memory", _MESSAGES, _WINDOW, final_receipt, _install, partial(_running, store=""))
KANNEL_FILE = Peer(
    "kannel-file", "Kannel, file", _MESSAGES, _WINDOW, final_receipt, _install,
    partial(_running, store='store-type = file\nstore-location = "{folder}/kannel.store"\n'),
)  # fmt: skip
