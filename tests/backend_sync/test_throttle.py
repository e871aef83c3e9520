from backend_sync.throttle import LogThrottle


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
