import structlog
from structlog.testing import capture_logs

from backend_sync.throttle import Complaints, LogThrottle, first_cause


def test_one_line_for_each_source_and_minute() -> None:
    throttle = LogThrottle()
    assert throttle.allows("a", 0.0) == 0
    assert throttle.allows("b", 1.0) == 0
    assert [throttle.allows("a", second) for second in (1.0, 30.0, 59.9)] == [None, None, None]
    assert throttle.allows("a", 60.0) == 3
    assert throttle.allows("a", 61.0) is None


def test_a_thousand_sources_fill_it_for_a_minute_and_no_longer() -> None:
    throttle = LogThrottle()
    assert all(throttle.allows(f"source {n}", 0.0) == 0 for n in range(1000))
    assert throttle.allows("one more", 59.0) is None
    assert throttle.allows("one more", 60.0) == 0


def test_a_complaint_says_how_many_like_it_were_held_back() -> None:
    moments = iter((0.0, 1.0, 2.0, 60.0))
    complaints = Complaints(structlog.get_logger("test"), lambda: next(moments))
    with capture_logs() as said:
        for _ in range(4):
            complaints.warn("broker", "lost", why="no route")
    assert [(each["event"], each["held_back"], each["why"]) for each in said] == [
        ("lost", 0, "no route"),
        ("lost", 2, "no route"),
    ]


def test_the_first_cause_is_found_however_deep() -> None:
    deep = ExceptionGroup("a", [ExceptionGroup("b", [OSError("no route"), ValueError("else")]), KeyError("later")])
    assert first_cause(deep) == "no route"
