"""A pod as it is kept."""

from __future__ import annotations

from kiptail.pods.pod import Pod, PodRef, in_steady_time

REF = PodRef("team-a", "a", "a")


def test_the_kubelets_times_are_by_its_clock_and_the_api_servers_by_its_own() -> None:
    pod = Pod(
        "a", REF, ("10.0.0.1",), 1, 2, 3, False, "here", (), running_us=4, ran_us=5, lost_us=6, stopped_us=7,
        asked_us=8, grace_us=9, alive_us=10,
    )  # fmt: skip
    steady = in_steady_time(pod, lambda us: us + 100, lambda us: us + 200)
    assert steady == pod._replace(
        ready_us=101, start_us=102, until_us=103, running_us=104, ran_us=105, lost_us=106, stopped_us=107,
        asked_us=208, alive_us=110,
    )  # fmt: skip


def test_a_time_that_is_not_known_stays_so() -> None:
    pod = Pod("a", REF, ("10.0.0.1",), None, None, None, False, "here", ())
    assert in_steady_time(pod, lambda us: us + 100, lambda us: us + 200) == pod
