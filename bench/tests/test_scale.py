"""Which runs there are, and how their rows read."""

from bench.scale import Plan, Row, runs, table

from harkara_cli.stack import SERVICES


def test_each_service_in_turn_and_then_all() -> None:
    found = runs(Plan(most=3))
    assert found[0] == ("", 1, {})
    assert found[1:3] == [("compliance", 2, {"compliance": 2}), ("compliance", 3, {"compliance": 3})]
    assert found[-1] == ("every service", 2, {service.name: 2 for service in SERVICES})
    assert len(found) == 2 + 2 * len(SERVICES)
    assert runs(Plan(services=["billing"], most=2)) == [("", 1, {}), ("billing", 2, {"billing": 2})]


def test_a_row_is_compared_with_one_process() -> None:
    def row(scaled: str, processes: int, own_ms: float) -> Row:
        return Row(
            scaled=scaled, processes=processes, end_to_end=1234.4, cpu_ms=0.9, cpu_ms_of={"billing": own_ms},
            p50_ms=5.0, p99_ms=9.96, lost=0, doubled=0, problems=[],
        )  # fmt: skip

    lines = table([row("", 1, 0.1), row("billing", 2, 0.125)]).splitlines()
    assert lines[2] == "| one each | 1,234 | 0.900 |  | 5.0 / 10.0 | 0 | 0 |"
    assert lines[3] == "| 2 of billing | 1,234 | 0.900 | 0.125, 0.100 | 5.0 / 10.0 | 0 | 0 |"
