"""The rtc SDK hands libwebrtc's every debug line to Python and drops it there: a third of the CPU of 12 phones."""

from __future__ import annotations

import os

from livekit.rtc import _ffi_client as ffi
from livekit.rtc.version import __version__


def silence_rtc_logs() -> None:
    """Keep the SDK's native log out of this process, errors included: they hold whole tokens."""
    os.environ.setdefault("RUST_LOG", "off")
    # The SDK has no switch for this; starting its native part again only replaces the settings it was started with.
    native = ffi.FfiClient.instance._ffi_lib  # noqa: SLF001
    capture_logs = False
    native.livekit_ffi_initialize(ffi.ffi_event_callback, capture_logs, b"python", __version__.encode("ascii"))
