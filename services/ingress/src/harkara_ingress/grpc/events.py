"""The service `Events`: the open event log as a stream of messages."""

import orjson

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access.accounts import Scope
from harkara_ingress.access.admission import Admission
from harkara_ingress.grpc.calls import Calls, GrpcService, Teller
from harkara_ingress.grpc.conversion import fields_of, made
from harkara_ingress.grpc.gen.harkara.v1 import events_pb2 as pb
from harkara_ingress.http.context import RequestContext, caller_with
from harkara_ingress.refusals import BusyError
from harkara_ingress.status.event_log import EventLog, LoggedEvent

_NAME = pb.DESCRIPTOR.services_by_name["Events"].full_name


class Events:
    def __init__(self, log: EventLog, admission: Admission) -> None:
        self._log = log
        self._admission = admission

    def service(self, calls: Calls) -> GrpcService:
        return GrpcService(
            _NAME, {"Subscribe": calls.telling(f"/{_NAME}/Subscribe", pb.SubscribeRequest, self._subscribe)}
        )

    async def _subscribe(self, context: RequestContext, request: pb.SubscribeRequest, teller: Teller) -> None:
        caller = caller_with(context, Scope.READ)
        wanted = fields_of(request)
        types = wanted.get("types")
        following = self._log.follow(
            caller.account_id,
            wanted.get("after"),
            frozenset(types) if types else None,
            lambda: self._admission.still_admits(context, Scope.READ),
        )
        async with following:
            await teller.begin()
            while events := await following.take():
                for event in events:
                    await teller.tell(_told(event))
        if not self._admission.still_admits(context, Scope.READ):
            raise HarkaraError(ErrorCode.UNAUTHORIZED, "The key or its right to read is no more.")
        raise BusyError("The stream ends here. Subscribe again, behind the last event you have.")


def _told(event: LoggedEvent) -> pb.SubscribeResponse:
    told = made(pb.SubscribeResponse, orjson.loads(event.body))
    told.id, told.event, told.body = event.id, event.event, event.body
    return told
