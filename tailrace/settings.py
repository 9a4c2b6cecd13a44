"""What the environment and ``tailrace.toml`` may say. Read once, in ``__main__``; handed down as plain arguments."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from schemas.errors import SettingsError
from tailrace_emitter.config import user_key_of

FILE_NAME = "tailrace.toml"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Section):
    """How to reach Kafka. Without ``bootstrap_servers`` the embedded broker is used."""

    bootstrap_servers: str | None = None
    prefix: str = ""
    partitions: int = Field(4, ge=1, le=1024)
    replication: int = Field(1, ge=1)
    heap_mb: int = Field(512, ge=256)
    client: dict[str, str] = Field({}, repr=False)
    """Any librdkafka setting: security.protocol, sasl.*, ssl.*; mapped for Faust as well."""


class LakeSettings(_Section):
    """Where the lake is. Default: SQLite catalog and a folder under the home."""

    catalog: str | None = None
    data_path: str | None = None
    memory_limit: str = "1GB"
    query_memory_limit: str = "2GB"
    query_timeout_s: float = Field(300, gt=0)
    s3_endpoint: str = Field("", pattern=r"^[^/]*$")
    """host:port of a bucket (``data_path = "s3://..."``) that is not Amazon's."""
    s3_region: str = ""
    s3_url_style: Literal["vhost", "path"] = "vhost"
    """Most servers that are not Amazon's want ``path``."""
    s3_use_ssl: bool = True
    s3_access_key_id: SecretStr | None = None
    """Without it AWS_ACCESS_KEY_ID and its kin count. No session token: it would end before the stages do."""
    s3_secret_access_key: SecretStr | None = None


class LandSettings(_Section):
    """When land commits: by rows, bytes or time, whichever comes first."""

    batch_rows: int = Field(50_000, ge=1)
    batch_mb: int = Field(64, ge=1)
    batch_wait_s: float = Field(1.0, gt=0)
    dead_ratio_limit: float = Field(0.5, gt=0, le=1)


class MaintainSettings(_Section):
    """How long the lake keeps what, and how hard maintain may press."""

    retention_days: dict[str, int] = {}
    """Table -> days; of rollups (90), ticks (14), embeddings (30), dead_bytes (7). The tables raw_calls, raw_feedback,
    raw_evals and dead stay for ever unless they are named."""
    snapshots_h: float = Field(0.5, ge=0.25)
    """More hours of time travel cost every commit time; no view needs any."""
    files_days: int = Field(2, ge=2)
    """Merged and expired files, and orphans, stay so many days: no transaction in flight may lose its files."""
    slice_s: float = Field(0.2, gt=0)
    memory_limit: str = "512MiB"


class MeterSettings(_Section):
    """How meter batches and how many texts it samples for drift."""

    batch_rows: int = Field(20_000, ge=1)
    batch_wait_s: float = Field(0.25, gt=0)
    samples_per_s: float = Field(20.0, ge=0)


class DriftSettings(_Section):
    """Drift of the texts."""

    model: str = ""
    """Folder of a sentence-transformers model; empty = all-MiniLM-L6-v2, which comes with the set-up."""
    threads: int = Field(1, ge=1)


class GoldenSettings(_Section):
    """How the golden set is made out of what failed in production."""

    days: int = Field(7, ge=1, le=90)
    """Failures of so many days at least are looked at; what nobody looked at yet is made up for, up to 35 days."""
    size: int = Field(200, ge=1, le=2000)
    """Cases that a set aims at."""
    turnover: float = Field(0.3, ge=0, le=1)
    """Share of ``size`` that may give way to new cases within half of ``days``."""
    similarity: float = Field(0.8, ge=0.3, le=1)
    """Jaccard index of word 3-shingles from which on two cases say nearly the same."""
    seed: int = 1
    """Draws among failures that are equally grave."""
    keep_versions: int = Field(12, ge=1)
    """The newest versions; what is older is dropped when a set is refreshed."""
    envs: tuple[str, ...] = ()
    """Environments whose failures count. Empty: all but those that are named test, dev, local, staging or the like, and
    calls that name none; ``["*"]``: all."""
    low_scores: dict[str, float] = {}
    """Scorer -> below what a score of its is a failure, on whatever scale. Others': below 0.5 where it lies in 0..1."""
    lower_is_better: tuple[str, ...] | None = None
    """Words in the names of scorers whose scores are no failure by themselves; default: toxic, bias, risk, ..."""


class Rules(_Section):
    """Detection settings that people change; everything else is a detector's default."""

    single_call_usd: float | None = Field(None, gt=0)
    """A single call above this alerts at once."""
    detectors: dict[str, dict[str, float | int | str | bool]] = {}


class WebSettings(_Section):
    """Metrics and pages."""

    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)
    token: SecretStr | None = None


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
    kafka: KafkaSettings = KafkaSettings()
    lake: LakeSettings = LakeSettings()
    land: LandSettings = LandSettings()
    maintain: MaintainSettings = MaintainSettings()
    meter: MeterSettings = MeterSettings()
    drift: DriftSettings = DriftSettings()
    golden: GoldenSettings = GoldenSettings()
    rules: Rules = Rules()
    web: WebSettings = WebSettings()
    alert_channels: list[str | dict[str, Any]] = Field([], repr=False)
    webhook_allow_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    webhook_secret: SecretStr | None = None
    """whsec_...; several, separated by a space, while one is being rotated out."""
    webhook_ca_file: str | None = None
    """More certificate authorities, PEM: for receivers inside the house."""
    deadman_url: SecretStr | None = None
    """A URL that is called every minute while all is well; whoever watches it notices when we fall silent."""
    prices: list[dict[str, Any]] = []
    """Overrides of the price book."""
    user_key: SecretStr | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _toml_file())

    def model_post_init(self, _context: Any) -> None:
        """Make the home absolute, so that every process means the same folder."""
        object.__setattr__(self, "home", self.home.expanduser().resolve())


def _toml_file() -> Path | None:
    home = Path(os.environ.get("TAILRACE_HOME", ".tailrace"))
    return next((p for p in (home / FILE_NAME, Path(FILE_NAME)) if p.is_file()), None)


def user_key(settings: Settings) -> str | None:
    """Return the key of pseudonyms: where the emitters look, in their order, and then what ``tailrace.toml`` says.

    Raises:
        SettingsError: the file of TAILRACE_USER_KEY_FILE cannot be read.
    """
    try:
        found = user_key_of(os.environ)
    except (OSError, UnicodeDecodeError) as error:
        problem = (isinstance(error, OSError) and error.strerror) or "not UTF-8"
        path = os.environ["TAILRACE_USER_KEY_FILE"]
        raise SettingsError("user_key", f"{path}: {problem}", "mend TAILRACE_USER_KEY_FILE") from None
    return found or (settings.user_key.get_secret_value() if settings.user_key else "") or None


def load(home: Path | None = None) -> Settings:
    """Read environment and file.

    Raises:
        SettingsError: names the setting, what is wrong and what would be right.
    """
    if home is not None:
        os.environ["TAILRACE_HOME"] = str(home.expanduser().resolve())
    if isinstance(hosts := os.environ.get("TAILRACE_WEBHOOK_ALLOW_HOSTS"), str):
        allowed = tuple(h.strip() for h in hosts.strip("[] ").replace('"', "").split(",") if h.strip())
    else:
        allowed = None
    try:
        return Settings() if allowed is None else Settings(webhook_allow_hosts=allowed)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(str(_toml_file()), f"not TOML: {error}", "mend the file") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        env = "TAILRACE_" + "__".join(str(p).upper() for p in first["loc"])
        raise SettingsError(name, first["msg"], f"see {FILE_NAME} or the variable {env}") from None
    except ValueError as error:  # an environment variable that should be JSON and is not
        raise SettingsError("environment", str(error).split("\n")[0], "lists and tables are JSON") from None
