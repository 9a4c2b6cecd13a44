import threading

from pipelines.busy import busy
from schemas.stage_facts import StageFacts, StageState


def test_a_long_call_is_reported_while_it_lasts_and_not_after():
    reports, thrice = [], threading.Event()

    def beat(facts):
        reports.append(facts)
        if len(reports) == 3:
            thrice.set()

    with busy(beat, "committing", every_s=0.01):
        assert thrice.wait(30)
    count = len(reports)
    assert reports[0] == StageFacts(state=StageState.COMMITTING)
    threading.Event().wait(0.1)
    assert len(reports) == count


def test_a_call_without_end_is_reported_for_so_long_and_no_longer():
    reports = []
    with busy(reports.append, "committing", every_s=0.01, at_most_s=0.0):
        while any(thread.name == "busy" for thread in threading.enumerate()):
            threading.Event().wait(0.01)
    assert reports == []
