import itertools

import msgspec
import pytest

from tailrace.events.replay import NotEventsError, Texts, read_json_lines, read_traffic, rebased, time_of
from tailrace_emitter.event import AnyEvent

START = 1_790_000_000_000_000
FILES = ["azure_llm_2023", "mooncake_fast25", "servegen_realised_14d"]


@pytest.mark.parametrize("name", FILES)
def test_traffic_keeps_its_times_and_token_counts_and_passes_the_schema(test_data, name):
    texts = Texts.read(test_data / "texts")
    calls = list(read_traffic(test_data / "traffic" / f"{name}.parquet", texts=texts, seed=1, start=START, limit=500))
    decoder = msgspec.json.Decoder(AnyEvent)
    decoded = [decoder.decode(msgspec.json.encode(c.event)) for c in calls]
    assert len({d.id for d in decoded}) == 500
    assert all(a.after <= b.after for a, b in itertools.pairwise(calls))
    assert all(d.tokens.input > 0 and d.content.output for d in decoded)
    assert decoded[9].ts.timestamp() * 1e6 == pytest.approx(START + calls[9].after, abs=1)


def test_a_replay_is_a_function_of_its_seed(test_data):
    path = test_data / "traffic" / "azure_llm_2023.parquet"
    one, two = (list(read_traffic(path, texts=None, seed=s, start=START, limit=50)) for s in (1, 2))
    assert one == list(read_traffic(path, texts=None, seed=1, start=START, limit=50))
    assert one != two


def test_a_parquet_file_of_something_else_is_refused_by_its_columns(test_data):
    with pytest.raises(NotEventsError, match="instruction_id"):
        list(read_traffic(test_data / "texts/alpaca_eval_instructions.parquet", texts=None, seed=1, start=START))


def test_json_lines_are_replayed_byte_for_byte(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"a": 1}\n\nnot json\r\n')
    assert list(read_json_lines(path)) == [b'{"a": 1}', b"not json"]


def test_rebasing_moves_the_time_and_nothing_else():
    line = b'{"id":"x","ts":"2026-11-21T07:00:00Z"}'
    moved = rebased(line, 90_000_000)
    assert msgspec.json.decode(moved) == {"id": "x", "ts": "2026-11-21T07:01:30.000000Z"}
    assert time_of(moved) - time_of(line) == 90_000_000
    assert rebased(b"not json", 5) == b"not json"
    assert time_of(b'{"ts": 1000}') == 1_000_000
