"""Pages and pictures that `make docs` makes are those that are committed."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from scripts import pictures, reference_pages
from tests.tailrace.commands import every_command


@pytest.mark.parametrize("name", reference_pages.PAGES)
def test_the_page_is_up_to_date(name: str) -> None:
    kept = (reference_pages.FOLDER / name).read_text(encoding="utf-8")
    assert kept == reference_pages.PAGES[name](), f"run `make docs` and commit docs/reference/{name}"


def test_every_command_has_a_section() -> None:
    titles = set(re.findall(r"^#+ tailrace (.+)$", reference_pages.commands(), re.MULTILINE))
    assert {" ".join(path) for path, _ in every_command()} <= titles


def test_every_topic_states_its_key_and_its_value() -> None:
    assert all(topic.key and topic.holds for topic in reference_pages.TOPICS)


def test_every_metric_has_a_meaning() -> None:
    rows = re.findall(r"^\| `tailrace_(\w+)` \| (\w+) \| (.*?) \| (.*) \|$", reference_pages.metrics(), re.MULTILINE)
    assert len(rows) > 40
    assert {name for name, _, _, meaning in rows if not meaning} == set()


@pytest.mark.parametrize("name", pictures.pictures())
def test_the_picture_is_up_to_date_and_loads_nothing(name: str) -> None:
    text = (pictures.FOLDER / name).read_text(encoding="utf-8")
    assert text == pictures.pictures()[name], f"run `make docs` and commit docs/pictures/{name}"
    root = ElementTree.fromstring(text)
    assert not {"script", "image", "foreignObject", "style"} & {
        element.tag.rpartition("}")[2] for element in root.iter()
    }
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
