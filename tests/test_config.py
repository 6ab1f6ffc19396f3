"""metering.toml: every wrong key and value is refused by name and line; the template shows the defaults."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from homes import Home

from metering.config import Config, load_config, parse_config
from metering.errors import UsageError
from metering.shipped import shipped
from metering.values import Month

HEAD = "# line 1\n\n"

WRONG = [
    ("[billing]\ntimezone = 'Mars/Olympus'", "billing.timezone", 4),
    ("[billing]\ntimezone = 1", "billing.timezone", 4),
    ("[billing]\ntimezone = '../etc/passwd'", "billing.timezone", 4),
    ("[billing]\ngigabyte = 'gb'", "billing.gigabyte", 4),
    ("[billing]\nstart = '2026-13'", "billing.start", 4),
    ("[billing]\nstart = 2026-05-01", "billing.start", 4),
    ("[billing]\nzone = 'UTC'", "billing.zone", 4),
    ("[bill]\ntimezone = 'UTC'", "bill", 3),
    ("colour = 'red'", "colour", 3),
    ("[issuer]\nname = 5", "issuer.name", 4),
    ("[issuer]\nphone = '1'", "issuer.phone", 4),
    ("[lake]\nurl = ''", "lake.url", 4),
    ("[lake]\nurl = ['a']", "lake.url", 4),
    ("[ledger]\nurl = 'mysql://x'", "ledger.url", 4),
    ("[ledger]\nurl = 'ledger.db'", "ledger.url", 4),
    ("[ledger]\nurl = 'postgresql+psycopg://me:secret@host/db'", "ledger.url", 4),  # pragma: allowlist secret; none
    ("[ledger]\nurl = 'postgresql+psycopg://me@host/db?sslmode=require&password=secret'", "ledger.url", 4),
    ("[engine]\nname = 'polars'", "engine.name", 4),
    ("[engine]\nmemory_limit = 'much'", "engine.memory_limit", 4),
    ("[engine]\nmemory_limit = 4", "engine.memory_limit", 4),
    ("[engine]\nname = 'spark'", "engine.name", 4),
    ("[engine]\nname = 'spark'\nmaster = 'local[*]'\nremote = 'sc://here'", "engine.name", 4),
    ("[engine]\nname = 'spark'\nmaster = 'host:7077'", "engine.master", 5),
    ("[engine]\nname = 'spark'\nremote = 'spark://host:7077'", "engine.remote", 5),
    ("[engine]\nmasters = 'local'", "engine.masters", 4),
    ("[engine]\nconf = { memory = '4g' }", "engine.conf", 4),
    ("[engine]\nconf = { 'spark.memory.fraction' = 0.5 }", "engine.conf.spark.memory.fraction", 4),
    ("[engine]\nconf = { 'spark.hadoop.fs.s3a.secret.key' = 'x' }", "engine.conf", 4),
    ("[close]\nrequire_sources = '/compute'", "close.require_sources", 4),
    ("[close]\nrequire_sources = [1]", "close.require_sources", 4),
    ("[close]\nmax_invoice = { USD = 10000 }", "close.max_invoice", 4),
    ("[close]\nmax_invoice = { USD = '-1' }", "close.max_invoice", 4),
    ("[close]\nmax_invoice = { QQQ = '1' }", "close.max_invoice", 4),
    ("[close]\nmax_change_percent = -1", "close.max_change_percent", 4),
    ("[close]\nmax_change_percent = 12.5", "close.max_change_percent: a bare fraction is no value here; whole", 4),
    ("[payments]\ngateway = 'paypal'", "payments.gateway", 4),
    ("[payments]\nminimum_charge = { USD = 0.50 }", "payments.minimum_charge", 4),
    ("[payments]\nminimum_charge = { USD = '0.505' }", "payments.minimum_charge", 4),
    ("[payments.minimum_charge]\nEUR = '0.50'\nJPY = '0.5'", "payments.minimum_charge", 3),
    ("[payments]\nretry_after_days = [3, 1]", "payments.retry_after_days", 4),
    ("[payments]\nretry_after_days = [0]", "payments.retry_after_days", 4),
    ("[payments]\nretry_after_days = [1, 1]", "payments.retry_after_days", 4),
    ("[payments]\nretry_after_days = ['1']", "payments.retry_after_days", 4),
    ("[payments]\nrequests_per_second = 0", "payments.requests_per_second", 4),
    ("[payments]\nrequests_per_second = true", "payments.requests_per_second", 4),
    ("[payments]\nrequests_per_second = 1e3", "payments.requests_per_second", 4),
    ("[payments.stripe]\nkey = 'sk_live_1'", "payments.stripe.key", 4),
    ("[payments.airwallex]\napi_base = 5", "payments.airwallex.api_base", 4),
]


@pytest.mark.parametrize(("text", "key", "line"), WRONG, ids=[text.replace("\n", " ") for text, _, _ in WRONG])
def test_a_wrong_key_or_value_is_refused_by_name_and_line(tmp_path: Path, text: str, key: str, line: int) -> None:
    path = tmp_path / "metering.toml"
    path.write_text(HEAD + text + "\n")
    with pytest.raises(UsageError) as error:
        load_config(path)
    assert f"line {line}: {key}" in error.value.message
    assert error.value.exit_code == 2


def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "metering.toml"
    path.write_text("[billing]\ntimezone = UTC\n")
    with pytest.raises(UsageError, match="line 2"):
        load_config(path)
    path.write_bytes(b"[issuer]\nname = '\xff'\n")
    with pytest.raises(UsageError, match="UTF-8"):
        load_config(path)


def test_the_commands_refuse_a_wrong_configuration(home: Home) -> None:
    home.file("metering.toml", "[billing]\ntimezone = 'UTC'\nfiscal = true\n")
    for command in (["status"], ["close"], ["nightly"], ["report", "invoices"], ["ingest"]):
        assert "line 3: billing.fiscal: unknown key" in home.run(*command, exit_code=2).stderr


def test_an_empty_file_means_the_defaults() -> None:
    assert parse_config("") == Config()
    assert Config().payments.minimum_charge == {"USD": "0.50", "EUR": "0.50", "GBP": "0.30"}
    assert Config().payments.minimum_minor("USD") == 50
    assert Config().payments.minimum_minor("KWD") is None


def test_the_template_says_every_default() -> None:
    """The values in the template are the defaults, and it names every key that there is."""
    template = shipped("schemas/home/metering.toml").read_text("utf-8")
    assert parse_config(template) == Config()
    for section, keys in _keys(Config()):
        body = re.search(rf"^\[{re.escape(section)}\][^\n]*\n(.*?)(?=^\[|\Z)", template, re.M | re.S)
        assert body, section
        for key in keys:
            assert re.search(rf"^(# )?{key} = ", body[1], re.M), f"[{section}] {key}"


def test_every_line_that_is_commented_out_is_valid_too() -> None:
    template = shipped("schemas/home/metering.toml").read_text("utf-8")
    live = parse_config(re.sub(r"^# (\w+ = )", r"\1", template, flags=re.M))
    assert live.billing.start_month == Month(2026, 5)
    assert live.engine.memory_limit == "4GB"
    assert live.close.max_invoice == {"USD": "10000"}
    assert live.close.max_change_percent == 50


def test_the_values_mean_what_they_say() -> None:
    config = parse_config("[billing]\ngigabyte = 'GiB'\nstart = '2026-05'\n[payments]\nminimum_charge = { JPY = '50' }")
    assert config.billing.gigabyte_bytes == 2**30
    assert config.billing.start_month == Month(2026, 5)
    assert config.payments.minimum_minor("JPY") == 50
    assert config.payments.minimum_minor("USD") is None
    assert not isinstance(config.payments.requests_per_second, Decimal)


def test_settings_of_spark_are_handed_on_as_it_writes_them() -> None:
    """What only says where a secret is to be had is none."""
    config = parse_config(
        "[engine]\nconf = { 'spark.hadoop.fs.s3a.aws.credentials.provider' = 'x.Y', 'spark.a' = true, 'spark.b' = 2 }"
    )
    assert config.engine.conf_text == {
        "spark.hadoop.fs.s3a.aws.credentials.provider": "x.Y",
        "spark.a": "true",
        "spark.b": "2",
    }


def _keys(config: object, path: str = "") -> list[tuple[str, list[str]]]:
    """Every section with its plain keys."""
    found: list[tuple[str, list[str]]] = []
    plain = []
    for name in config.__struct_fields__:  # type: ignore[attr-defined]
        value = getattr(config, name)
        here = f"{path}.{name}" if path else name
        if hasattr(value, "__struct_fields__"):
            found += _keys(value, here)
        else:
            plain.append(name)
    return [(path, plain), *found] if path else found
