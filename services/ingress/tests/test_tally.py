"""What is counted in plain numbers reads like any other metric."""

from prometheus_client import CollectorRegistry, generate_latest

from harkara_ingress.http.tally import Tally


def test_requests_become_a_counter_and_a_histogram() -> None:
    tally, registry = Tally(), CollectorRegistry()
    registry.register(tally)
    for status, seconds in ((202, 0.0004), (202, 0.0005), (202, 0.003), (429, 0.0001), (202, 60.0)):
        tally.add("/v1/sms/send", status, seconds)
    tally.add("/v1/keys", 200, 0.02)
    told = generate_latest(registry).decode()
    for line in (
        'harkara_http_requests_total{route="/v1/sms/send",status="202"} 4.0',
        'harkara_http_requests_total{route="/v1/sms/send",status="429"} 1.0',
        'harkara_http_seconds_bucket{le="0.0005",route="/v1/sms/send"} 3.0',
        'harkara_http_seconds_bucket{le="0.002",route="/v1/sms/send"} 3.0',
        'harkara_http_seconds_bucket{le="0.005",route="/v1/sms/send"} 4.0',
        'harkara_http_seconds_bucket{le="10.0",route="/v1/sms/send"} 4.0',
        'harkara_http_seconds_bucket{le="+Inf",route="/v1/sms/send"} 5.0',
        'harkara_http_seconds_count{route="/v1/sms/send"} 5.0',
        'harkara_http_seconds_sum{route="/v1/sms/send"} 60.004',
        'harkara_http_seconds_count{route="/v1/keys"} 1.0',
    ):
        assert line in told, (line, told)
