"""The stages meter, detect and drift over a file of events, in one process: without a broker, without a lake."""

from pipelines.backtest.events import EventsConfig, Replay

__all__ = ["EventsConfig", "Replay"]
