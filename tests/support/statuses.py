"""A status as a device says it, to be changed by tests."""

from msgspec.structs import replace

from agent.dock.messages import Clock, Evidence, Policy, SinceDock, Status, Storage


def status(**changes: object) -> Status:
    plain = Status(
        agency="city",
        device="cam-1",
        session="0" * 16,
        version="0.1.0",
        mode="standby",
        contact=True,
        docked=False,
        nonce="A" * 22,
        policy=Policy(name="built-in", version=0, digest="0" * 64),
        clock=Clock(source="ntp", within_ms=3),
        storage=Storage(free_bytes=10**9, time_left_s=3600, failing=False),
        evidence=Evidence(recordings=1, segments=2, bytes=3, pending_segments=2),
        since_dock=SinceDock(refused=0, tampered=0),
        self_test=None,
        checkpoint=None,
        confirms=[],
        battery_pct=None,
        temperature_c=None,
        uptime_s=1,
        boots=1,
    )
    return replace(plain, **changes)
