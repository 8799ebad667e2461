"""The SMSC of a comparison: the stack's simulator in a process of the bench, the same for every peer."""

from dataclasses import dataclass
from typing import Any

from bench.worker import Requests
from harkara_smsc_simulator.app import Running, Settings, running
from harkara_smsc_simulator.behaviour import Behaviour
from harkara_smsc_simulator.view import arrivals

RECEIPT_DELAY_S = 0.2
RECEIPT_WINDOW = 100
_KEPT = 200_000


@dataclass(frozen=True)
class Manner:
    """`quick_acks`: TCP acknowledges at once what the peer sends, which spares one with Nagle's algorithm its stalls."""

    quick_acks: bool = True
    response_delay_s: float = 0.0


async def serve(requests: Requests) -> None:
    """The SMSC's process: its first answer is its port.

    `be` takes a Manner and drops the connections, so that what TCP has learnt of one manner does not last into the
    next; `bound` gives the number of sessions, `arrivals` the (number, monotonic seconds) of every submit
    since a moment.
    """
    behaviour = Behaviour(receipt_delay_s=RECEIPT_DELAY_S)
    settings = Settings(
        port=0, http_port=0, keep=_KEPT, window=RECEIPT_WINDOW, quick_acks=True, behaviour=behaviour
    )  # fmt: skip
    async with running(settings) as simulator:
        requests.answer(simulator.port)
        while True:
            name, argument = await requests.next()
            requests.answer(_answer(simulator, name, argument))


def _answer(simulator: Running, name: str, argument: Any) -> Any:
    engine = simulator.engine
    if name == "be":
        engine.quick_acks = argument.quick_acks
        engine.behaviours.change({"response_delay_s": argument.response_delay_s})
        return engine.drop_connections()
    if name == "bound":
        return sum(session.receives for session in engine.smsc.sessions)
    return [(int(to), at) for to, at in arrivals(engine.store, argument, _KEPT) if to.isdigit()]
