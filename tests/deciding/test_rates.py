"""Buckets: never more than the burst at once and the rate in the long run; who waits as told gets through."""

from hypothesis import given
from hypothesis import strategies as st

from kasoku.tenants.bucket import Bucket
from kasoku.tenants.model import local, owner, qualify, reaches, shown


@given(st.floats(0.01, 100), st.integers(1, 50), st.lists(st.floats(0, 5), max_size=80))
def test_a_bucket_keeps_its_rate(rate: float, burst: int, pauses: list[float]) -> None:
    bucket, now, passed = Bucket(rate, burst, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        wait_s = bucket.take(now)
        assert wait_s >= 0
        if wait_s == 0:
            passed += 1
        assert passed <= burst + rate * now + 1e-6
    for _ in range(2 * burst):
        now += bucket.take(now) * (1 + 1e-9) + 1e-9
    assert bucket.take(now + 1 / rate + 1e-6) == 0, "whoever waits as told gets through"


@given(
    st.sampled_from(["", "a", "b-1"]),
    st.sampled_from(["", "a", "b-1"]),
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
)
def test_names_belong_to_one_tenant(tenant: str, caller: str, name: str) -> None:
    whole = qualify(tenant, name)
    assert owner(whole) == tenant and local(whole) == name
    assert reaches(caller, whole) == (caller in ("", tenant))
    assert shown(tenant, whole) == name
    if caller != tenant:
        assert qualify(caller, name) != whole
