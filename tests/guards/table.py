"""Every guard against a trap of the bus, and how to take it out.

JetStream and its client lose, double or hang messages in ways that only a real server shows; each has a guard in the
platform. A guard whose loss no test notices is no guard: so each entry here takes one out, and names the tests of which
one has to fail then. The traps are numbered as in the names of the chassis' tests.
"""

from dataclasses import dataclass

_CHASSIS = "libs/chassis/src/harkara_chassis"
_TRAPS = "libs/chassis/tests/test_traps.py"
_DRAIN = "libs/chassis/tests/test_drain.py"
_LOST = "libs/chassis/tests/test_lost.py"
_IN_HAND = "libs/chassis/tests/test_in_hand.py"
_PARTS = "libs/chassis/tests/test_parts.py"
_ORDERED = "libs/chassis/tests/test_ordered.py"


@dataclass(frozen=True, kw_only=True)
class Guard:
    """One guard.

    Args:
        trap: what happens without it.
        number: of the trap; 0 for what building the chassis found besides.
        file: where the guard is.
        text: the guard, which stands there exactly once.
        without: what to put in its place.
        tests: pytest's ids, of which one fails without the guard.
    """

    trap: str
    number: int
    file: str
    text: str
    without: str
    tests: tuple[str, ...]


GUARDS = (
    Guard(
        number=1,
        trap="an exception in a handler destroys the message",
        file=f"{_CHASSIS}/consumer.py",
        text="            await self._one_by_one(items)\n            return\n        await self.pull.ack(",
        without="            pass\n        await self.pull.ack(",
        tests=(f"{_TRAPS}::test_1_a_handlers_exception_does_not_destroy_the_message",),
    ),
    Guard(
        number=2,
        trap="the result cannot be published, and its cause is taken for done",
        file=f"{_CHASSIS}/consumer.py",
        text="                    await self._publisher.publish(results, onward)\n",
        without=(
            "                    try:\n"
            "                        await self._publisher.publish(results, onward)\n"
            "                    except Exception: pass\n"
        ),
        tests=(f"{_TRAPS}::test_2_a_failed_publish_of_the_result_leaves_the_input_to_be_handled_again",),
    ),
    Guard(
        number=3,
        trap="a publish whose acknowledgement is lost is not repeated",
        file=f"{_CHASSIS}/publisher.py",
        text="            return False\n        if answer.headers",
        without="            return True\n        if answer.headers",
        tests=(f"{_TRAPS}::test_3_a_publish_whose_ack_is_lost_is_repeated_and_stored_once",),
    ),
    Guard(
        number=3,
        trap="a repeated publish is stored twice",
        file=f"{_CHASSIS}/publisher.py",
        text='        "Nats-Msg-Id": deduplication_id,\n',
        without="",
        tests=(f"{_TRAPS}::test_3_a_publish_whose_ack_is_lost_is_repeated_and_stored_once",),
    ),
    Guard(
        number=4,
        trap="a stream whose configuration was rewritten stays so",
        file=f"{_CHASSIS}/provisioner.py",
        text='            await _call(client, f"STREAM.UPDATE.{spec.name}", live | wanted)\n',
        without="",
        tests=(f"{_TRAPS}::test_4_services_declare_nothing_and_the_provisioner_puts_right_what_differs",),
    ),
    Guard(
        number=4,
        trap="a service works on a stream that differs from its declaration",
        file=f"{_CHASSIS}/provisioner.py",
        text='            found.extend(f"stream {spec.name} differs in {field}" for field in _lacking(wanted, live))\n',
        without="            pass\n",
        tests=(f"{_TRAPS}::test_4_services_declare_nothing_and_the_provisioner_puts_right_what_differs",),
    ),
    Guard(
        number=5,
        trap="more is fetched than is worked on",
        file=f"{_CHASSIS}/pull.py",
        text="        room = self._batch - in_hand - self._outstanding\n",
        without="        room = self._batch - self._outstanding\n",
        tests=(f"{_TRAPS}::test_5_no_more_is_fetched_than_can_be_worked_on",),
    ),
    Guard(
        number=5,
        trap="work that takes long is given to somebody else as well",
        file=f"{_CHASSIS}/pull.py",
        text='                    await self._tell(message.reply, b"+WPI")\n',
        without="                    pass\n",
        tests=(f"{_DRAIN}::test_work_that_takes_longer_than_the_ack_wait_is_given_to_nobody_else",),
    ),
    Guard(
        number=6,
        trap="what was fetched lies until its ack_wait when the service stops",
        file=f"{_CHASSIS}/pull.py",
        text="            await self.nak(messages, delay_s=0.01)\n",
        without="            pass\n",
        tests=(f"{_TRAPS}::test_6_at_the_drain_work_is_finished_and_the_rest_given_back_at_once",),
    ),
    Guard(
        number=6,
        trap="what is on its way when the service stops lies until its ack_wait",
        file=f"{_CHASSIS}/pull.py",
        text="                    await self._subscription.drain()",
        without="                    await asyncio.sleep(0)",
        tests=(f"{_DRAIN}::test_what_is_on_its_way_when_the_pull_stops_comes_again_at_once",),
    ),
    Guard(
        number=7,
        trap="a durable that differs is never updated",
        file=f"{_CHASSIS}/provisioner.py",
        text="        if live is not None and not (different := _different(wanted, live)):\n",
        without="        different: list[str] = []\n        if live is not None:\n",
        tests=(f"{_TRAPS}::test_7_a_durable_that_differs_is_told_and_mended",),
    ),
    Guard(
        number=8,
        trap="a deleted consumer looks like an idle one",
        file=f"{_CHASSIS}/pull.py",
        text='        if status == "503" or "Deleted" in description:\n',
        without='        if status == "nothing":\n',
        tests=(
            f"{_TRAPS}::test_8_a_deleted_consumer_is_told_from_an_idle_one_and_comes_back",
            f"{_LOST}::test_a_missing_consumer_is_asked_for_slowly",
            f"{_LOST}::test_a_view_whose_consumer_is_gone_reads_on_by_a_new_one",
        ),
    ),
    Guard(
        number=9,
        trap="what failed is given back without a delay and comes in a hot loop",
        file=f"{_CHASSIS}/faults.py",
        text="    return min(FIRST_RETRY_S * 2.0 ** max(0, deliveries - 1), MAX_RETRY_S)\n",
        without="    return 0.0\n",
        tests=(f"{_TRAPS}::test_9_a_retry_waits_longer_each_time_and_the_last_goes_to_dead",),
    ),
    Guard(
        number=9,
        trap="what fails for good is dropped without a dead letter",
        file=f"{_CHASSIS}/consumer.py",
        text="                await self._bury(item.message, one.id, deliveries)\n",
        without="                pass\n",
        tests=(f"{_TRAPS}::test_9_a_retry_waits_longer_each_time_and_the_last_goes_to_dead",),
    ),
    Guard(
        number=10,
        trap="a publish that no stream takes is taken for stored",
        file=f"{_CHASSIS}/publisher.py",
        text='        if answer.headers and answer.headers.get("Status") == "503":\n',
        without='        if answer.headers and answer.headers.get("Status") == "503" and not message.headers:\n',
        tests=(
            f"{_TRAPS}::test_10_publishing_where_no_stream_listens_is_never_taken_for_done",
            f"{_LOST}::test_a_passing_trouble_of_the_server_is_waited_out",
        ),
    ),
    Guard(
        number=10,
        trap="a service speaks to the bus past the chassis",
        file="services/routing/src/harkara_routing/app.py",
        text="from harkara_chassis",
        without="import nats\nfrom harkara_chassis",
        tests=(f"{_TRAPS}::test_10_nothing_but_the_chassis_speaks_to_the_bus",),
    ),
    Guard(
        number=11,
        trap="the client gives up reconnecting",
        file=f"{_CHASSIS}/connection.py",
        text="                max_reconnect_attempts=-1,\n",
        without="                max_reconnect_attempts=3,\n",
        tests=(f"{_LOST}::test_reconnecting_never_gives_up",),
    ),
    Guard(
        number=11,
        trap="a half-open link is noticed after minutes",
        file=f"{_CHASSIS}/connection.py",
        text="                ping_interval=PING_INTERVAL_S,\n",
        without="                ping_interval=120,\n",
        tests=(f"{_LOST}::test_a_link_that_is_half_open_is_noticed",),
    ),
    Guard(
        number=11,
        trap="a process whose connection is closed for good lives on without one",
        file=f"{_CHASSIS}/connection.py",
        text="            bus.lost.set()\n",
        without="            pass\n",
        tests=(f"{_TRAPS}::test_11_a_connection_closed_for_good_ends_the_service",),
    ),
    Guard(
        number=11,
        trap="after a reconnect nobody asks for messages until the silence is noticed",
        file=f"{_CHASSIS}/service.py",
        text="            await pull.restart()\n",
        without="            pass\n",
        tests=(f"{_LOST}::test_after_a_reconnect_everything_is_asked_for_anew_at_once",),
    ),
    Guard(
        number=12,
        trap="what is acknowledged is not yet on the disk",
        file="cli/src/harkara_cli/servers.py",
        text='            "sync_interval": "always",\n',
        without="",
        tests=(f"{_TRAPS}::test_12_what_is_acknowledged_is_on_the_disk",),
    ),
    Guard(
        number=13,
        trap="a repeat after two minutes is stored twice",
        file="libs/contracts/src/harkara_contracts/streams.py",
        text="_SAGA_WINDOW_S = 600.0\n",
        without="_SAGA_WINDOW_S = 120.0\n",
        tests=(f"{_TRAPS}::test_13_the_window_for_doubles_is_ten_minutes_on_the_sagas_streams",),
    ),
    Guard(
        number=14,
        trap="a request for messages runs out and is not renewed",
        file=f"{_CHASSIS}/pull.py",
        text="        self._outstanding = max(0, self._outstanding - ",
        without="        _ = max(0, self._outstanding - ",
        tests=(f"{_TRAPS}::test_14_requests_that_ran_out_are_renewed",),
    ),
    Guard(
        number=14,
        trap="a lost acknowledgement keeps its permit for ever",
        file=f"{_CHASSIS}/publisher.py",
        text="        deadline = loop.call_later(ACK_TIMEOUT_S, ack.cancel)\n",
        without="        deadline = loop.call_later(9_999, ack.cancel)\n",
        tests=(f"{_LOST}::test_a_lost_acknowledgement_does_not_keep_its_room",),
    ),
    Guard(
        number=15,
        trap="a view stands still after the server was restarted",
        file=f"{_CHASSIS}/service.py",
        text="        await self.facts.restart()\n",
        without="",
        tests=(
            f"{_LOST}::test_after_a_reconnect_everything_is_asked_for_anew_at_once",
            f"{_TRAPS}::test_11_and_15_a_restarted_server_is_found_again_and_views_go_on",
        ),
    ),
    Guard(
        number=15,
        trap="timers cannot be switched on in a stream that lives",
        file=f"{_CHASSIS}/provisioner.py",
        text='        config["allow_msg_schedules"] = True\n',
        without="",
        tests=(f"{_TRAPS}::test_15_timers_and_ttls_are_allowed_from_the_first_day",),
    ),
    Guard(
        number=16,
        trap="the spans of a saga are siblings",
        file=f"{_CHASSIS}/tracing.py",
        text='            onward[key] = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"\n',
        without="            onward[key] = traceparent\n",
        tests=(f"{_TRAPS}::test_16_a_step_is_the_child_of_the_step_before_it",),
    ),
    Guard(
        number=17,
        trap="a body without a type is guessed",
        file=f"{_CHASSIS}/publisher.py",
        text='        "Content-Type": envelope.CONTENT_TYPE,\n',
        without="",
        tests=(f"{_TRAPS}::test_17_what_cannot_be_read_goes_to_dead_on_first_sight_and_alone",),
    ),
    Guard(
        number=17,
        trap="one bad record spoils its batch",
        file=f"{_CHASSIS}/envelope.py",
        text="        return decode_one_by_one(payload, partial(_decode_one, event))\n    good",
        without='        return [], [Bad(payload, "unreadable")]\n    good',
        tests=(f"{_TRAPS}::test_17_what_cannot_be_read_goes_to_dead_on_first_sight_and_alone",),
    ),
    Guard(
        number=17,
        trap="what cannot be read is dropped without a dead letter",
        file=f"{_CHASSIS}/consumer.py",
        text="        if bad:\n            await self._bury_unreadable(message, bad)\n",
        without="",
        tests=(f"{_TRAPS}::test_17_what_cannot_be_read_goes_to_dead_on_first_sight_and_alone",),
    ),
    Guard(
        number=18,
        trap="a consumer filters by so many subjects that the server is slow",
        file="libs/contracts/src/harkara_contracts/consumers.py",
        text="        return tuple(self._filter(event, lane) for event in self.events)\n",
        without='        return tuple(f"{self._filter(event, lane)}.{n}" for event in self.events for n in range(20))\n',
        tests=(f"{_TRAPS}::test_18_the_server_is_a_sound_one_and_filters_are_few",),
    ),
    Guard(
        number=0,
        trap="what a service has in hand is handled a second time beside the first",
        file=f"{_CHASSIS}/pull.py",
        text="            if key in self._held:\n                return True\n",
        without="",
        tests=(f"{_IN_HAND}::test_a_copy_of_what_is_in_hand_or_was_done_a_moment_ago_is_not_handed_over",),
    ),
    Guard(
        number=0,
        trap="a passing trouble counts against the event, until it is dead",
        file=f"{_CHASSIS}/consumer.py",
        text="                if not is_passing(error):\n",
        without="                if error:\n",
        tests=("libs/chassis/tests/test_one_way.py::test_a_passing_trouble_is_waited_out_and_counts_against_nobody",),
    ),
    Guard(
        number=0,
        trap="a repeat of a batch has another id, and is stored twice",
        file=f"{_CHASSIS}/envelope.py",
        text="        digest.update(event.event_id().encode())\n",
        without="        digest.update(str(id(event)).encode())\n",
        tests=(f"{_PARTS}::test_the_same_batch_has_the_same_id_and_another_another",),
    ),
    Guard(
        number=0,
        trap="a busy loop takes turns of one event each",
        file=f"{_CHASSIS}/consumer.py",
        text="                await asyncio.sleep(wait_s)\n",
        without="                pass\n",
        tests=("libs/chassis/tests/test_pace.py::test_the_loop_gathers_what_comes_while_it_pauses",),
    ),
    Guard(
        number=0,
        trap="a message that a lost connection took along is passed over by who reads along",
        file=f"{_CHASSIS}/ordered.py",
        text="            if count != self._taken + 1:\n",
        without="            if count < 0:\n",
        tests=(f"{_ORDERED}::test_a_message_that_went_another_way_is_asked_for_again",),
    ),
    Guard(
        number=0,
        trap="for a reader that takes nothing more and more is fetched, a request's time-out at a time",
        file=f"{_CHASSIS}/pull.py",
        text="        in_hand = len(self._arrived) if self._ack_wait_s is None else len(self._held)\n",
        without="        in_hand = len(self._held)\n",
        tests=(f"{_ORDERED}::test_a_reader_that_does_not_take_makes_nobody_fetch",),
    ),
)
