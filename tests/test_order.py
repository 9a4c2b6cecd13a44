"""Which file is run when, where several processes share a run."""

import json
from types import SimpleNamespace

from tests.order import WHOLE_SYSTEMS, long_files_first, mark_extended, mark_long, scope, write_seconds


def items(*names):
    return [SimpleNamespace(nodeid=name) for name in names]


def test_long_files_come_first_and_the_tests_of_a_file_stay_together_in_their_order():
    tests = items("tests/a.py::one", "tests/b.py::one", "tests/a.py::two", "tests/c.py::b", "tests/c.py::a")
    long_files_first(tests, {"tests/a.py": 3.0, "tests/b.py": 40.0})
    assert [test.nodeid[6:] for test in tests] == ["b.py::one", "a.py::one", "a.py::two", "c.py::b", "c.py::a"]


def test_whole_systems_are_run_by_one_process_and_their_times_add_up():
    one, other = f"{WHOLE_SYSTEMS[0]}x.py::t", f"{WHOLE_SYSTEMS[1]}::t"
    tests = items("tests/b.py::t", one, other)
    long_files_first(tests, {"tests/b.py": 50.0, one[:-3]: 30.0, other[:-3]: 30.0})
    assert [test.nodeid for test in tests] == [one, other, "tests/b.py::t"]
    assert len({scope(test.nodeid) for test in tests}) == 2


def test_only_the_tests_of_long_files_are_marked():
    marked = []
    tests = [
        SimpleNamespace(nodeid=f"tests/{file}.py::t", add_marker=lambda mark, file=file: marked.append((file, mark)))
        for file in ("long", "short", "unknown")
    ]
    mark_long(tests, {"tests/long.py": 9.0, "tests/short.py": 3.0})
    assert marked == [("long", "long")]


def test_the_first_cases_of_a_test_stay_and_the_others_are_extended():
    marked = []
    tests = [
        SimpleNamespace(
            nodeid=f"tests/a.py::{name}",
            get_closest_marker=lambda _, number=number: number and SimpleNamespace(args=(number,)),
            add_marker=lambda mark, name=name: marked.append((name, mark)),
        )
        for name, number in (("x[1]", 2), ("x[2]", 2), ("x[3]", 2), ("y[1]", 1), ("y[2]", 1), ("z[1]", None))
    ]
    mark_extended(tests)
    assert marked == [("x[3]", "extended"), ("y[2]", "extended")]


def test_the_seconds_of_a_file_are_those_of_all_its_reports(tmp_path):
    reports = [
        SimpleNamespace(nodeid="tests/a.py::one", duration=1.0),
        SimpleNamespace(nodeid="tests/a.py::two", duration=0.75),
        SimpleNamespace(nodeid="tests/b.py::one", duration=0.5),
        SimpleNamespace(nodeid="tests/b.py"),  # of its collection
    ]
    write_seconds(reports, tmp_path / "seconds.json")
    assert json.loads((tmp_path / "seconds.json").read_text()) == {"tests/a.py": 1.8}
