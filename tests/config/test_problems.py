"""What is wrong is told all at once, each with its line, its path and a way out."""

from __future__ import annotations

import pytest

from proxy.config import ConfigError, Problem

from .samples import FILE, SMALL, found, problems, read


def test_every_error_at_once() -> None:
    """Wrong YAML values, unknown keys, unset names and broken references come in one list."""
    text = """\
server:
  port: 70000
  port: 8080
store: {url: "${REDIS_URL}"}
providers:
  openai:
    base_ur: https://api.openai.com/v1
    api_key: "${OPENAI_API_KEY}"
models:
  gpt-4o:
    targets:
      - {provider: openai}
      - provider: opnai
        weight: heavy
  local: {targets: [{provider: openai}]}
plans:
  gold:
    models: [gpt-4o, gpt-5o]
    limits:
      - 60 requests/minute
      - 5 usd/month
      - {limit: 1k tokens/fortnight,
         model: nobody}
images: {mode: inspect, max_byte: 1}
"""
    usd = "has no price, but plans.gold.limits[1] counts usd; a free model's is "
    unset = "environment variable {0} is not set; set it or write ${{{0}:-default}}"
    assert [str(problem).removeprefix(FILE) for problem in problems(text)] == [
        ":3: server.port: written twice, first on line 2",
        ":4: store.url: " + unset.format("REDIS_URL"),
        ":6: providers.openai.base_url: required",
        ":7: providers.openai.base_ur: unknown key; did you mean 'base_url'?",
        ":8: providers.openai.api_key: " + unset.format("OPENAI_API_KEY"),
        f":10: models.gpt-4o.price: model 'gpt-4o' {usd}{{input: 0, output: 0}}",
        ":13: models.gpt-4o.targets[1].provider: unknown provider 'opnai'; did you mean 'openai'?",
        ":14: models.gpt-4o.targets[1].weight: must be a number, without quotes",
        ":15: models.local.max_output: required, because this is not a well-known name; the most "
        "tokens that one answer can have",
        f":15: models.local.price: model 'local' {usd}{{input: 0, output: 0}}",
        ":18: plans.gold.models[1]: unknown model 'gpt-5o'; did you mean 'gpt-4o'?",
        ":22: plans.gold.limits[2]: unknown window 'fortnight'; known: minute, hour, day, month, "
        "total",
        ":23: plans.gold.limits[2].model: unknown model 'nobody'; known: gpt-4o, local",
        ":24: images.max_byte: unknown key; did you mean 'max_bytes'?",
    ]


def test_lines_in_flow_mappings() -> None:
    """A key of a flow mapping that spans lines is told on its own line."""
    text = (
        SMALL + "server: {\n  port: 1,\n  hots: x,\n  trusted_proxies: [\n    10.0.0.0/8,\n    y]}"
    )
    assert [(problem.line, problem.path) for problem in problems(text)] == [
        (9, "server.hots"),
        (12, "server.trusted_proxies[1]"),
    ]


def test_lines_through_anchors() -> None:
    """What an anchor brings in is told where it was written; what overrides it wins."""
    text = "x: &x {port: 1, hots: y}\n" + SMALL + "server: {<<: *x, port: z}\nadmin: *x"
    told = [(problem.line, problem.path) for problem in problems(text)]
    assert told == [(1, "server.hots"), (1, "admin.hots"), (1, "x"), (8, "server.port")]
    anchored = SMALL + "server: &x {port: 1, host: a.example}\nadmin: {<<: *x, port: 2}"
    admin = read(anchored).admin
    assert (admin.host, admin.port) == ("a.example", 2)


VALUES = {
    "server: {port: -1}": ("server.port", "must be at least 0"),
    "server: {port: 65536}": ("server.port", "must be at most 65535"),
    "server: {port: '81'}": ("server.port", "must be a whole number, without quotes"),
    "server: {port: 8e3}": ("server.port", "must be a whole number, without quotes"),
    "server: {port: [1]}": ("server.port", "must be a whole number, without quotes"),
    "server: {host: 'a b'}": ("server.host", "'a b' is not a host"),
    "server: {host: 'a.example:80'}": ("server.host", "'a.example:80' is not a host"),
    "server: {host: [a]}": ("server.host", "must be text"),
    "server: {workers: 0}": ("server.workers", "must be 'auto' or a whole number"),
    "server: {workers: many}": ("server.workers", "must be 'auto' or a whole number"),
    "server: {max_body: 32 Mib}": ("server.max_body", "'32 Mib' is not a size"),
    "server: {max_body: 0}": ("server.max_body", "must be at least 1"),
    "server: {drain: 5}": ("server.drain", "'5' is not a duration"),
    "server: {drain: 0s}": ("server.drain", "must be above 0"),
    "server: {trusted_proxies: [nginx]}": ("server.trusted_proxies[0]", "'nginx' is not a netw"),
    "server: {trusted_proxies: [10.0.0.1/8]}": ("server.trusted_proxies[0]", "'10.0.0.1/8' has"),
    "server: {trusted_proxies: 10.0.0.0/8}": ("server.trusted_proxies", "must be a list"),
    "server: [1]": ("server", "must be a mapping"),
    "metrics: {max_keys: -1}": ("metrics.max_keys", "must be at least 0"),
    "plans: [x]": ("plans", "must be a mapping"),
    "plans: {a b: }": ("plans.a b", "a name is letters, digits"),
    "plans: {p: {require_stream: yes}}": ("plans.p.require_stream", "must be true or false"),
    "plans: {p: {enforce: 'true'}}": ("plans.p.enforce", "must be true or false"),
    "plans: {p: {limits: [x]}}": ("plans.p.limits[0]", "'x' is not a limit"),
    "plans: {p: {limits: [{model: '*'}]}}": ("plans.p.limits[0].limit", "required"),
    "plans: {p: {limits: [{limt: x, limit: 1 images}]}, q: }": (
        "plans.p.limits[0].limt",
        "unknown key; did you mean 'limit'?",
    ),
    "plans: {p: {limits: 1 images}}": ("plans.p.limits", "must be a list"),
    "plans: {p: {max_tokens: {default: 9, cap: 8}}}": (
        "plans.p.max_tokens.default",
        "is above the cap, 8",
    ),
    "plans: {p: {max_tokens: {cap: 0}}}": ("plans.p.max_tokens.cap", "must be at least 1"),
    "plans: {p: {max_tokens: {over: warn}}}": (
        "plans.p.max_tokens.over",
        "must be 'clamp' or 'reject'",
    ),
    "plans: {p: {images: {max_cont: 1}}}": (
        "plans.p.images.max_cont",
        "unknown key; did you mean 'max_count'?",
    ),
    "plans: {p: {images: {max_count: 11}}}": ("plans.p.images.max_count", "is above images.max_"),
    "plans: {p: {images: {ports: [80]}}}": ("plans.p.images.ports", "'80' is not in images.ports"),
    "plans: {p: {images: {hosts: {internal: [a]}}}}": (
        "plans.p.images.hosts.internal",
        "'a' is not in images.hosts.internal",
    ),
    "plans: {p: {images: {hosts: {deny: []}}}}\nimages: {hosts: {deny: [a]}}": (
        "plans.p.images.hosts.deny",
        "'a' of images.hosts.deny is missing",
    ),
    "plans: {p: {images: {hosts: {allow: [b.c]}}}}\nimages: {hosts: {allow: ['*.b']}}": (
        "plans.p.images.hosts.allow",
        "'b.c' is not in images.hosts.allow",
    ),
    "plans: {p: {images: {hosts: {allow: [8.9.0.0/16]}}}}\nimages: {hosts: {allow: [8.8.0.1]}}": (
        "plans.p.images.hosts.allow",
        "'8.9.0.0/16' is not in images.hosts.allow",
    ),
    "plans: {p: {images: {detail: {cap: auto}}}}\nimages: {detail: {cap: high}}": (
        "plans.p.images.detail.cap",
        "is above images.detail.cap, high",
    ),
    "images: {hosts: {deny: [a..b]}}": ("images.hosts.deny[0]", "'a..b' is not a host pattern; wr"),
    "images: {hosts: {internal: ['*']}}": ("images.hosts.internal[0]", "'*' would open every inn"),
    "images: {rewrite: [{from: 'https://a/', to: 'http://'}]}": (
        "images.rewrite[0]",
        "cannot rewrite 'https://a/' to 'http://': either both name a host or neither does",
    ),
    "images: {ports: [0]}": ("images.ports[0]", "must be at least 1"),
    "images: {formats: [bmp]}": ("images.formats[0]", "must be 'png', 'jpeg', 'gif' or 'webp'"),
    "images: {max_pixels: many}": ("images.max_pixels", "'many' is not a count"),
    "images: {hosts: {allow: ['https://a']}}": ("images.hosts.allow[0]", "'https://a' is not a h"),
    "images: {hosts: {internal: [10.0.0.1/8]}}": ("images.hosts.internal[0]", "'10.0.0.1/8' has"),
    "images: {detail: {cap: lo}}": ("images.detail.cap", "must be 'low', 'high', 'auto' or"),
    "images: {rewrite: [{from: 'http://'}]}": ("images.rewrite[0].to", "required"),
    "images: {rewrite: [{from: 'a', to: 'https://'}]}": ("images.rewrite[0].from", "'a' must beg"),
    "nonsense: 1": ("nonsense", "unknown key; known: admin, images, keys, metrics, models, plans"),
}


@pytest.mark.parametrize(("text", "problem"), VALUES.items())
def test_value(text: str, problem: tuple[str, str]) -> None:
    """A value that its field cannot take is the only thing told, and why."""
    path, message = problem
    told = found(SMALL + text)
    assert list(told) == [path]
    assert told[path].startswith(message)


REPLACED = [
    ("url: embedded", "url: mysql://h", "store.url", "must begin with redis://"),
    ("url: embedded", "url: 'redis://'", "store.url", "must name a host"),
    ("url: embedded", "url: 'redis://a,b'", "store.url", "must name a host"),
    ("url: embedded", "url: 'redis://a:99999'", "store.url", "must name a host"),
    ("url: embedded", "url: 'redis://:p#w@a'", "store.url", "must name a host"),
    ("url: embedded", "url: 'unix://run/x'", "store.url", "must name an absolute path"),
    ("embedded", "embedded, grace: 101%", "store.grace", "must be at most 1"),
    ("embedded", "embedded, grace: 5", "store.grace", "'5' is not a percentage"),
    ("embedded", "embedded, retention: 2y", "store.retention", "'2y' is not a number of months"),
    ("https://", "ftp://", "providers.openai.base_url", "must be an absolute http(s) URL"),
    ("https://", "/", "providers.openai.base_url", "must be an absolute http(s) URL"),
    (
        "https://api.openai.com/v1",
        "'https://a/v1?b=c'",
        "providers.openai.base_url",
        "must be an absolute http(s) URL",
    ),
    ("com/v1", "com:x/v1", "providers.openai.base_url", "must be an absolute http(s) URL"),
    ("sk-test", "''", "providers.openai.api_key", "is empty"),
    ("sk-test", "'a b'", "providers.openai.api_key", "holds a space"),
    ("sk-test", "a, api_keys: [b]", "providers.openai.api_keys", "write api_key or api_keys"),
    ("api_key:", "api_keys:", "providers.openai.api_keys", "must be a list"),
    ("provider: openai", "provider: openai, weight: 0", "models.gpt-4o.targets[0].weight", "must"),
    ("provider: openai", "provider: openai, priority: 0", "models.gpt-4o.targets[0].priority", ""),
    ("openai}]", "openai}]\n    price: {input: 1}", "models.gpt-4o.price.output", "required"),
    (
        "openai}]",
        "openai}]\n    price: {input: -1, output: 1}",
        "models.gpt-4o.price.input",
        "must be at least 0",
    ),
    (
        "openai}]",
        "openai}]\n    output_param: max_token",
        "models.gpt-4o.output_param",
        "must be 'max_tokens' or 'max_completion_tokens'",
    ),
]


@pytest.mark.parametrize(("old", "new", "path", "message"), REPLACED)
def test_required_value(old: str, new: str, path: str, message: str) -> None:
    """A wrong value among the required ones is told too."""
    env = {"VISIONGATE_KEY_PEPPER": "0123456789abcdef"}
    told = found(SMALL.replace(old, new, 1), env)
    assert list(told) == [path]
    assert told[path].startswith(message)


@pytest.mark.parametrize(
    "url",
    [
        "embedded",
        "redis://localhost",
        "rediss://user:pw@valkey.example:6380/1",
        "redis://[::1]:6379",
        "unix:///run/valkey.sock?db=1",
        "redis+cluster://user:pw@a,b:7001,[::1]:7002/0",
        "rediss+cluster://a:7000?ssl_ca_certs=/ca.pem",
    ],
)
def test_store_urls(url: str) -> None:
    """Every scheme that can be used is taken."""
    env = {"VISIONGATE_KEY_PEPPER": "0123456789abcdef"}
    store = read(SMALL.replace("embedded", f'"{url}"'), env).store
    assert store.url.get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+cluster://a:7000,b:x", "must name hosts with a comma between them"),
        ("redis+cluster://a:7000,", "must name hosts with a comma between them"),
        ("rediss+cluster://a:7000/3", "must not name a database"),
        ("redis://a:7000?socket_timeout=9", "has an option that is not known; there are db, "),
        ("redis://user:12?34@host", "has an option that is not known; there are db, "),
    ],
)
def test_store_url_problems(url: str, words: str) -> None:
    """What a store's URL cannot say is told without repeating it."""
    env = {"VISIONGATE_KEY_PEPPER": "0123456789abcdef"}
    told = found(SMALL.replace("embedded", f'"{url}"'), env)
    assert told["store.url"].startswith(words)
    assert "34@" not in told["store.url"]


def test_pepper_is_required_of_a_shared_store() -> None:
    """A store that others can reach needs a pepper, from the file or from the environment."""
    text = SMALL.replace("embedded", "redis://localhost")
    assert found(text)["keys.pepper"].startswith("required unless store.url is 'embedded'")
    assert set(found(text + "keys: {pepper: ''}")) == {"keys.pepper"}
    assert set(found(text, {"VISIONGATE_KEY_PEPPER": "short"})) == {"keys.pepper"}
    (pepper,) = read(text, {"VISIONGATE_KEY_PEPPER": "0123456789abcdef"}).keys.pepper
    assert pepper.get_secret_value() == "0123456789abcdef"


def test_pepper_in_the_file_wins() -> None:
    """The environment's pepper is a default: one that the file names is used instead."""
    text = SMALL + "keys: {pepper: fedcba9876543210}"
    (pepper,) = read(text, {"VISIONGATE_KEY_PEPPER": "0123456789abcdef"}).keys.pepper
    assert pepper.get_secret_value() == "fedcba9876543210"


def test_each_pepper_is_long_enough() -> None:
    """One short pepper among long ones is refused."""
    told = found(SMALL + "keys: {pepper: '0123456789abcdef,short'}")
    assert set(told) == {"keys.pepper"}


def test_target_prices_stand_in_for_the_models() -> None:
    """A usd limit is content where every target has a price of its own."""
    text = SMALL.replace("openai}", "openai, price: {input: 1, output: 1}}")
    assert read(text + "plans: {p: {limits: [1 usd/day]}}").models["gpt-4o"].price is None


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("f", 2, "a.b", "bad"), "f:2: a.b: bad"),
        (Problem("f", None, "", "bad"), "f: bad"),
    ],
)
def test_rendering(problem: Problem, text: str) -> None:
    """A problem without line or path renders without them."""
    assert str(problem) == text


def test_error_reads_as_its_problems() -> None:
    """The exception's own text is all problems, one a line."""
    with pytest.raises(ConfigError, match=r"^f:1: b\nf:2: a$"):
        raise ConfigError([Problem("f", 2, "", "a"), Problem("f", 1, "", "b")])
