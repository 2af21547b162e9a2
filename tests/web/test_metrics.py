"""The metrics as a scrape sees them: the contract's names, and labels from closed lists."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.metrics import STAGES
from tests.gateway import HELLO, Gateway, open_gateway, until
from tests.scripted import ScriptedUpstream, chat_json, chat_stream, error_json

USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 3,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
}
WHOSE = ("team", "key", "model")
SERVED = ("model", "provider")

#: Of the contract's names those that there are, and their labels.
CONTRACT: dict[str, tuple[str, ...]] = {
    "requests": (*WHOSE, "provider", "status"),
    "tokens": (*WHOSE, "kind", "source"),
    "cached_tokens": WHOSE,
    "image_tokens": WHOSE,
    "cost_usd": WHOSE,
    "limit_amount": ("team", "unit", "window"),
    "limit_used": ("team", "unit", "window"),
    "rejections": ("team", "reason"),
    "images": ("verdict", "reason", "format"),
    "image_bytes": (),
    "image_fetch_seconds": (),
    "image_cache": ("result",),
    "request_seconds": SERVED,
    "time_to_first_token_seconds": SERVED,
    "chunk_gap_seconds": SERVED,
    "overhead_seconds": ("stage",),
    "streams_active": (),
    "streams_ended": ("reason",),
    "tokens_reserved": (),
    "journal_entries": (),
    "upstream_attempts": ("provider", "outcome"),
    "target_available": ("provider", "model"),
    "store_seconds": ("op",),
    "store_errors": (),
    "workers": (),
    "config_info": ("hash",),
    "build_info": ("version",),
    "alarms": ("event",),  # ours: what an operator must look into
    "start_time_seconds": (),  # ours: since when the counters count
}


async def families(gate: Gateway) -> dict[str, Any]:
    async with gate.session.get(f"{gate.admin}/metrics") as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=")
        found = text_string_to_metric_families(await answer.text())
        return {f.name.removeprefix("visiongate_"): f for f in found}


async def send(gate: Gateway, key: str | None, body: Any = HELLO, **headers: str) -> int:
    async with gate.post(key, body, headers=headers) as answer:
        await answer.read()
        return int(answer.status)


@pytest.fixture
async def busy(gateway: Gateway, upstream: ScriptedUpstream) -> Gateway:
    """A gateway that has served and refused some requests."""
    upstream.script(chat_stream(["one", "two"], USAGE))
    upstream.script(chat_json("Hi", USAGE))
    upstream.script(error_json(500, "boom"))
    key = await gateway.key("1M tokens/day", team_limits=("5 usd/month",))
    assert await send(gateway, key) == 200
    assert await send(gateway, key, {**HELLO, "stream": False}) == 200
    assert await send(gateway, key) == 502
    assert await send(gateway, key, {**HELLO, "model": "x"}) == 404
    assert await send(gateway, None) == 401
    await gateway.settled()
    return gateway


async def test_the_names_and_labels_are_the_contracts(busy: Gateway) -> None:
    """Every series but two of ours is one that the contract names, and none is missing."""
    found = await families(busy)
    assert found.keys() == CONTRACT.keys()
    for name, family in found.items():
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(CONTRACT[name]), sample


async def test_requests_are_counted_by_what_was_answered(busy: Gateway) -> None:
    """Each answer counts once, under its status, and with what was known of it."""
    samples = (await families(busy))["requests"].samples
    counted = {
        (s.labels["team"], s.labels["model"], s.labels["provider"], s.labels["status"]): s.value
        for s in samples
        if s.name.endswith("_total")
    }
    assert counted == {
        ("vision", "gpt-4o", "openai", "200"): 2,
        ("vision", "gpt-4o", "openai", "502"): 1,
        ("vision", "", "", "404"): 1,
        ("", "", "", "401"): 1,
    }


async def test_a_charge_is_counted_in_all_its_parts(busy: Gateway) -> None:
    """Tokens, cached tokens and cost are those of the ledger."""
    samples = await busy.metrics()
    whose = 'key="ci",{}model="gpt-4o",{}team="vision"'
    kinds = {
        kind: samples[
            "visiongate_tokens_total{" + whose.format(f'kind="{kind}",', 'source="upstream",') + "}"
        ]
        for kind in ("input", "output")
    }
    assert kinds == {"input": 24, "output": 6}
    assert samples["visiongate_cached_tokens_total{" + whose.format("", "") + "}"] == 8
    month = (await busy.usage(await key_again(busy)))["team"]["limits"][0]
    cost = samples["visiongate_cost_usd_total{" + whose.format("", "") + "}"]
    assert cost == pytest.approx(month["used"])


async def key_again(gate: Gateway) -> str:
    return await gate.key(name="another")


async def test_streams_are_measured_and_whole_answers_are_not(busy: Gateway) -> None:
    """The first byte, the gaps and the end are a stream's: one stream, six pieces, five gaps."""
    samples = await busy.metrics()
    served = '{model="gpt-4o",provider="openai"}'
    assert samples["visiongate_time_to_first_token_seconds_count" + served] == 1
    assert samples["visiongate_chunk_gap_seconds_count" + served] == 5
    assert samples['visiongate_streams_ended_total{reason="complete"}'] == 1
    assert samples["visiongate_request_seconds_count" + served] == 3
    attempts = "visiongate_upstream_attempts_total"
    assert samples[attempts + '{outcome="complete",provider="openai"}'] == 2
    assert samples[attempts + '{outcome="upstream_failed",provider="openai"}'] == 1


async def test_the_store_is_measured_by_script(busy: Gateway) -> None:
    """Each script's calls are timed under its name."""
    found = (await families(busy))["store_seconds"].samples
    calls = {s.labels["op"]: s.value for s in found if s.name.endswith("_count")}
    assert calls["reserve"] == 3
    assert 1 <= calls["settle"] <= 3
    assert calls.keys() <= {"reserve", "settle", "renew", "sweep", "peek", "replace", "alive"}


async def test_each_stage_is_measured(busy: Gateway) -> None:
    """The time in the gateway is told stage by stage, and is a part of that of the requests that
    got through.
    """
    found = await families(busy)
    stages = found["overhead_seconds"].samples
    calls = {s.labels["stage"]: s.value for s in stages if s.name.endswith("_count")}
    assert calls == dict.fromkeys(STAGES, 3)
    spent = [s.value for s in stages if s.name.endswith("_sum")]
    (whole,) = [s.value for s in found["request_seconds"].samples if s.name.endswith("_sum")]
    assert min(spent) > 0
    assert sum(spent) < whole


async def test_no_label_comes_from_a_request(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """Whatever a request says, no word of it becomes a label."""
    upstream.script(error_json(418, "zebra", code="zebra"))
    key = await gateway.key()
    hostile = {"X-Request-Id": "zebra", "User-Agent": "zebra", "X-Forwarded-For": "zebra"}
    image = {"type": "image_url", "image_url": {"url": "data:image/zebra;base64,AAAA"}}
    bodies: list[Any] = [
        HELLO,
        {**HELLO, "model": "zebra"},
        {**HELLO, "zebra": 1, "detail": "zebra"},
        {**HELLO, "messages": [{"role": "user", "content": [image]}]},
        {**HELLO, "service_tier": "zebra"},
    ]
    for body in bodies:
        await send(gateway, key, body, **hostile)
        await send(gateway, "zebra", body, **hostile)
    for path in ("/v1/zebra", "/zebra?zebra"):
        async with gateway.get(path) as answer:
            assert answer.status == 404
    async with gateway.session.get(f"{gateway.admin}/metrics") as answer:
        text = await answer.text()
    assert "zebra" not in text
    reasons = set(re.findall(r'rejections_total\{reason="(\w+)"', text))
    assert reasons == {"unauthorized", "model_not_found", "invalid_request", "format", "not_found"}


async def test_scrapes_and_probes_are_not_counted(gateway: Gateway) -> None:
    """Neither the operators' listener nor /healthz makes a line in the log or a sample."""
    for url in (gateway.url + "/healthz", gateway.admin + "/readyz", gateway.admin + "/nowhere"):
        async with gateway.session.get(url) as answer:
            await answer.read()
    samples = await gateway.metrics()
    assert not [name for name in samples if name.startswith("visiongate_requests_total")]
    assert gateway.log.getvalue() == ""


async def test_the_operators_listener_names_what_it_serves(gateway: Gateway) -> None:
    """A path that it does not have is a 404 with its own list."""
    async with gateway.session.get(gateway.admin + "/v1/chat/completions") as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (404, "not_found")
    assert "GET /metrics" in error["message"]
    assert "/v1/models" not in error["message"]


async def test_keys_beyond_the_limit_are_counted_together(
    store_url: str, upstream: ScriptedUpstream
) -> None:
    """`metrics.max_keys` bounds the series; the rest is key="other"."""
    upstream.script(chat_stream(["Hi"], USAGE))
    async with open_gateway(store_url, upstream.url, metrics={"max_keys": 1}) as gate:
        for name in ("first", "second", "third"):
            assert await send(gate, await gate.key(name=name)) == 200
        await gate.settled()
        found = (await families(gate))["requests"].samples
    counted = {s.labels["key"]: s.value for s in found if s.name.endswith("_total")}
    assert counted == {"first": 1, "other": 2}


async def test_a_limits_use_is_shown_within_a_second(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """What a team used of its limits is in the metrics soon after the request."""
    upstream.script(chat_stream(["Hi"], usage=USAGE))
    key = await gateway.key(team_limits=("1000 tokens/day",))
    async with gateway.post(key) as answer:
        await answer.read()
    labels = {"team": "vision", "unit": "tokens", "window": "day"}
    sample = gateway.door.metrics.registry.get_sample_value
    await until(lambda: sample("visiongate_limit_used", labels) == 15, seconds=2)
