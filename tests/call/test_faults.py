"""What is seen on the real services, and the answer to it."""

from __future__ import annotations

import pytest

from cluster.call.faults import NO_CONNECTION, WENT_MUTE, Fault, Remedy, Stage, diagnose

UPGRADE, SETUP, SESSION = Stage.UPGRADE, Stage.SETUP, Stage.SESSION

CASES = [
    (Fault(SESSION, 1000), "closed", Remedy.RESUME),
    (Fault(SESSION, 1001, "going away"), "closed", Remedy.RESUME),
    (Fault(SESSION, 1006), "connection-lost", Remedy.RESUME),
    (Fault(SESSION, 1007, "Request contains an invalid argument."), "invalid-argument", Remedy.RESUME_WITHOUT_AUDIO),
    (Fault(SETUP, 1007, "Request contains an invalid argument."), "setup-refused", Remedy.GIVE_UP),
    (Fault(SETUP, 1007, "Invalid session handle", with_handle=True), "handle-refused", Remedy.FRESH),
    (Fault(SETUP, 1007, "API key not valid. Please pass a valid API key."), "bad-key", Remedy.GIVE_UP),
    (Fault(SETUP, 1007, "User location is not supported for the API use."), "wrong-place", Remedy.GIVE_UP),
    (Fault(SETUP, 1008, "models/X is not found for API version v1beta, or …"), "no-such-model", Remedy.GIVE_UP),
    (Fault(SETUP, 1008, "Requested entity was not found.", with_handle=True), "handle-refused", Remedy.FRESH),
    (Fault(SESSION, 1008, "The operation was aborted"), "aborted", Remedy.RESUME),
    (
        Fault(SESSION, 1008, "Operation is not implemented, or supported, or enabled."),
        "not-now",
        Remedy.RESUME_WITHOUT_AUDIO,
    ),
    (Fault(SESSION, 1011, "Internal error encountered."), "closed", Remedy.RESUME),
    (Fault(SESSION, 1011, "Deadline expired before operation could complete."), "deadline", Remedy.RESUME),
    (Fault(SESSION, 1011, "You exceeded your current quota, please check"), "quota", Remedy.BACK_OFF),
    (Fault(SETUP, 1011, "Internal error encountered.", with_handle=True), "conflict", Remedy.RESUME),
    (Fault(SETUP, 1011, "The service is currently unavailable."), "provider-down", Remedy.BACK_OFF),
    (Fault(SETUP, 1006), "provider-down", Remedy.BACK_OFF),
    (Fault(SETUP, NO_CONNECTION, "no setup within 2.5 s"), "unreachable", Remedy.BACK_OFF),
    (Fault(SESSION, WENT_MUTE), "mute", Remedy.RESUME),
    (Fault(UPGRADE, 401), "unauthorized", Remedy.GIVE_UP),
    (Fault(UPGRADE, 403), "unauthorized", Remedy.GIVE_UP),
    (Fault(UPGRADE, 404), "unauthorized", Remedy.GIVE_UP),
    (Fault(UPGRADE, 409), "conflict", Remedy.BACK_OFF),
    (Fault(UPGRADE, 429), "quota", Remedy.BACK_OFF),
    (Fault(UPGRADE, 503), "provider-down", Remedy.BACK_OFF),
    (Fault(UPGRADE, NO_CONNECTION, "ConnectionRefusedError"), "unreachable", Remedy.BACK_OFF),
]


@pytest.mark.parametrize(("fault", "name", "remedy"), CASES, ids=[str(case[0]) for case in CASES])
def test_every_failure_has_its_answer(fault: Fault, name: str, remedy: Remedy) -> None:
    """The code alone does not tell; the reason and the stage do."""
    diagnosis = diagnose(fault)
    assert (diagnosis.name, diagnosis.remedy) == (name, remedy)
    assert diagnosis.blames_provider == (remedy is Remedy.BACK_OFF)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(SESSION, 1006), "closed with 1006: no reason given"),
        (Fault(SESSION, 1011, "Internal"), "closed with 1011: Internal"),
        (Fault(UPGRADE, 429), "the upgrade was refused with HTTP 429"),
        (Fault(SETUP, NO_CONNECTION, "nobody"), "no connection to the Live endpoint: nobody"),
        (Fault(SESSION, WENT_MUTE), "the Live session went mute"),
    ],
)
def test_a_fault_says_what_happened(fault: Fault, text: str) -> None:
    """For the record and for people."""
    assert str(fault) == text
