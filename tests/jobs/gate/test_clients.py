"""Who answers: a real HTTP server that speaks the chat form, and real commands; failures are answers with a cause."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from jobs.gate.answers import Answer, Cache, Question
from jobs.gate.clients import Paced, answerer
from jobs.gate.cost import priced
from jobs.gate.golden_file import GoldenCase
from jobs.gate.runner import GIVE_UP_AFTER, NoAnswerError, Side, failures, run
from jobs.gate.settings import GateInputError
from jobs.gate.targets import Target
from jobs.gate.template import Template
from pipelines.pricing import PriceBooks, default_book
from pipelines.pricing.book import COMPONENTS
from tests.jobs.gate.chat_server import serving

CASES = [GoldenCase(f"c{i}", f"say {i}") for i in range(8)]
ASKED = Question(CASES[0], ({"role": "user", "content": "say a b c"},), 0)
AT = 1_795_000_000_000_000


def target(url: str, **changes: object) -> Target:
    return Target(**{"name": "t", "model": "gpt-4o", "base_url": url, "retries": 0, **changes})  # type: ignore[arg-type]


def ask(one: Target, question: Question = ASKED, **environment: str) -> Answer:
    return answerer(one, environment=environment, folder=Path.cwd())(question)


def test_a_whole_answer_has_text_usage_and_latency():
    with serving(lambda r: "one two") as chat:
        found = ask(target(chat.url, parameters={"temperature": 0.3}), OPENAI_API_KEY="k-1")
    assert (found.text, found.finish_reason, found.model) == ("one two", "stop", "gpt-4o")
    assert (found.input_tokens, found.output_tokens) == (4, 2)
    assert found.latency_ms is not None
    assert found.ttft_ms is None
    assert chat.requests[0]["temperature"] == 0.3
    assert chat.keys == ["Bearer k-1"]


def test_a_streamed_answer_has_a_time_to_first_token():
    with serving(lambda r: "one two three") as chat:
        found = ask(target(chat.url, stream=True))
    assert (found.text, found.finish_reason, found.output_tokens) == ("one two three", "stop", 3)
    assert found.ttft_ms is not None
    assert 0 < found.ttft_ms <= (found.latency_ms or 0)


@pytest.mark.parametrize(
    ("reply", "said"),
    [(401, "refused with status 401"), (500, "refused with status 500"), (1.5, "timed out after 0.3 s")],
)
def test_a_failure_says_its_cause(reply, said):
    with serving(lambda r: reply) as chat:
        assert ask(target(chat.url, timeout_s=0.3)) == Answer(error=said)


def test_a_busy_endpoint_is_asked_again():
    replies = iter([429, "fine"])
    with serving(lambda r: next(replies)) as chat:
        assert ask(target(chat.url, retries=1)).text == "fine"


def test_an_endpoint_that_is_away_is_unreachable():
    with serving(lambda r: "x") as chat:
        url = chat.url
    assert ask(target(url)).error.startswith("unreachable")


def test_openais_own_endpoint_needs_its_key():
    with pytest.raises(GateInputError, match="OPENAI_API_KEY is not set"):
        answerer(target(""), environment={}, folder=Path.cwd())


def script(folder: Path, code: str) -> Target:
    (folder / "answer.py").write_text(code)
    return Target("cmd", command=(sys.executable, "answer.py"), timeout_s=20)


def test_a_command_reads_the_case_and_prints_the_answer(tmp_path):
    code = "import json, sys\ncase = json.load(sys.stdin)\nprint(case['input'], sorted(case), sep='|')\n"
    case = GoldenCase("c", "what?", reference="secret", variables={"x": 1})
    found = answerer(script(tmp_path, code), environment={}, folder=tmp_path)(Question(case, (), 2))
    assert found.text is not None
    assert found.text.startswith("what?|")
    assert "reference" not in found.text
    assert "secret" not in found.text
    assert "variables" in found.text


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys\nprint('half')\nsys.exit('out of memory')", "exit code 1: out of memory"),
        ("import time\ntime.sleep(60)", "timed out after 0.5 s"),
    ],
)
def test_a_command_that_fails_or_hangs_says_so(tmp_path, code, said):
    made = script(tmp_path, code)
    limit = 0.5 if "sleep" in code else 20.0
    made = Target("cmd", command=made.command, timeout_s=limit)
    assert answerer(made, environment={}, folder=tmp_path)(ASKED) == Answer(error=said)


def test_a_command_that_is_not_there_is_unreachable(tmp_path):
    found = answerer(Target("cmd", command=("no-such-program",)), environment={}, folder=tmp_path)(ASKED)
    assert found.error == "unreachable: No such file or directory"


def test_answers_cost_what_the_price_book_says_and_unknown_stays_unknown():
    known = Answer(text="x", model="gpt-4o", input_tokens=1_000_000, output_tokens=1_000_000)
    unknown = Answer(text="x", model="in-house-3")
    rate = default_book([]).rates(("openai", "gpt-4o", None, None), *default_book([]).moment(AT))
    assert rate is not None
    found = priced(
        [known, unknown, Answer(error="e")], target("", provider="openai"), PriceBooks((default_book([]),)), at=AT
    )
    assert found[0].cost_usd is not None
    per_million = [rate.bands[0][COMPONENTS.index(name)] / 1e18 for name in ("input", "output")]
    assert float(found[0].cost_usd) == pytest.approx(sum(per_million), rel=1e-9)
    assert [answer.cost_usd for answer in found[1:]] == [None, None]


def test_a_second_run_pays_nothing_and_failures_are_asked_again(tmp_path):
    broken = {"say 3"}

    def reply(request):
        text = request["messages"][-1]["content"]
        return 500 if text in broken else f"said {text}"

    with serving(reply) as chat:
        one = target(chat.url)
        for expected in (16, 16 + 2):
            side = Side("candidate", one, answerer(one, environment={}, folder=tmp_path))
            run([side], CASES, samples=2, cache=Cache(tmp_path / "cache"))
            assert len(chat.requests) == expected
            broken.clear()
    assert all(answer.ok for samples in side.answers.values() for answer in samples)
    assert sum(answer.cached for samples in side.answers.values() for answer in samples) == 14
    assert [a.text for a in side.answers["c0"]] == ["said say 0"] * 2


def test_another_prompt_another_parameter_and_another_sample_are_asked(tmp_path):
    cache = Cache(tmp_path)
    one = target("http://h/v1")
    cache.put(one, ASKED, Answer(text="kept"))
    assert cache.get(one, ASKED) == Answer(text="kept", cached=True)
    others = [
        (target("http://h/v1", parameters={"temperature": 1}), ASKED),
        (target("http://other/v1"), ASKED),
        (one, msgspec.structs.replace(ASKED, sample=1)),
        (one, msgspec.structs.replace(ASKED, messages=({"role": "user", "content": "else"},))),
    ]
    assert [cache.get(*each) for each in others] == [None] * 4
    assert Cache(None).get(one, ASKED) is None


def test_a_damaged_file_of_the_cache_is_asked_again(tmp_path):
    cache, one = Cache(tmp_path), target("http://h/v1")
    cache.put(one, ASKED, Answer(text="kept"))
    next(tmp_path.glob("*/*.json")).write_text("{half")
    assert cache.get(one, ASKED) is None


def test_a_side_that_answers_nothing_ends_the_run_early(tmp_path):
    with serving(lambda r: 401) as chat:
        side = Side(
            "candidate", target(chat.url, concurrency=1), answerer(target(chat.url), environment={}, folder=tmp_path)
        )
        with pytest.raises(NoAnswerError, match="refused with status 401"):
            run([side], CASES, samples=3, cache=Cache(None))
        assert GIVE_UP_AFTER <= len(chat.requests) <= GIVE_UP_AFTER + 1


def test_a_candidate_that_times_out_on_some_cases_fails_these_and_the_rest_goes_on(tmp_path):
    slow = {"say 1", "say 5"}
    with serving(lambda r: 1.0 if r["messages"][-1]["content"] in slow else "fine") as chat:
        one = target(chat.url, timeout_s=0.3, concurrency=2)
        side = Side("candidate", one, answerer(one, environment={}, folder=tmp_path))
        run([side], CASES, samples=1, cache=Cache(None))
    assert failures(side) == {"timed out after 0.3 s": 2}
    assert [case for case, (answer,) in side.answers.items() if not answer.ok] == ["c1", "c5"]


def test_a_case_whose_variables_do_not_fit_the_template_fails_on_that_side_alone(tmp_path):
    cases = [GoldenCase("a", "x", variables={"p": 1}), GoldenCase("b", "y", variables={"q": 2}), GoldenCase("c", "z")]
    with serving(lambda r: r["messages"][-1]["content"]) as chat:
        one = target(chat.url, template=Template(user="about {{p}}"))
        side = Side("candidate", one, answerer(one, environment={}, folder=tmp_path))
        run([side], cases, samples=2, cache=Cache(None))
    assert [[a.text for a in side.answers[c]] for c in "abc"] == [["about 1"] * 2, [None] * 2, ["z"] * 2]
    assert failures(side) == {"the template needs p, which the case does not have": 2}
    assert side.rendered == 1


def test_the_pace_is_kept():
    waits: list[float] = []
    paced = Paced(lambda q: Answer(text="x"), 120, clock=lambda: 10.0, wait=waits.append)
    for _ in range(4):
        paced(ASKED)
    assert waits == pytest.approx([0.5, 1.0, 1.5])
