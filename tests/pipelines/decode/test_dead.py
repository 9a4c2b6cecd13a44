"""A dead event is found by its id."""

from __future__ import annotations

import json

from pipelines.decode import DuplicateWindow, decode


def test_the_id_of_a_dead_event_stays_whole_and_an_id_with_a_phone_number_in_it_does_not(books, batch):
    ids = ["0199f3a4-dddd-7000-8000-000000000003", "0199F3A4-1234-4567-8901-491701234567", "call of +49 170 1234567"]
    values = [json.dumps({"v": 1, "type": "call", "id": each, "app": "shop"}).encode() for each in ids]
    found = decode(batch(values), books, DuplicateWindow(), epoch=0, landed_at=0).dead["event_id"].to_pylist()
    assert found[:2] == ids[:2]
    assert "1234567" not in found[2]
