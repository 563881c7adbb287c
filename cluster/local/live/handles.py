"""Resumption handles: each restores a conversation as it stood when the handle was given out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from cluster.local.live import wire
from cluster.local.live.setup import SessionSetup
from cluster.local.live.turn import Conversation, Link
from cluster.local.live.usage import text_tokens

_LIVES_S: Final = 2 * 3600.0


@dataclass(frozen=True, slots=True)
class _Kept:
    model: str
    talk: Conversation
    expires_at: float


class Handles:
    """The handles of all sessions of one endpoint; ``while_open`` allows two connections of one conversation."""

    def __init__(self, *, while_open: bool) -> None:
        self._while_open = while_open
        self._kept: dict[str, _Kept] = {}

    def keep(self, handle: str, link: Link, now: float) -> None:
        """Remembers the conversation of ``link`` as it is now under ``handle``, for two hours."""
        talk = replace(link.talk, context=link.talk.context.copy())
        self._kept[handle] = _Kept(link.setup.rules.name, talk, now + _LIVES_S)

    def resume(self, setup: SessionSetup, still_open: Collection[int], now: float) -> Conversation:
        """The conversation of ``setup.handle`` under this setup's instructions: without what came after the handle.

        ``still_open`` are the conversations that are connected. Raises Refusal: 1008 for a handle that is unknown or
        too old, 1007 for another model, 1011 while the conversation is still connected.
        """
        kept = self._kept.get(setup.handle)
        if kept is None or kept.expires_at <= now:
            raise wire.Refusal(wire.POLICY, "Requested entity was not found.")
        if kept.model != setup.rules.name:
            raise wire.invalid("sessionResumption: the model can't change.")
        if kept.talk.number in still_open and not self._while_open:
            raise wire.Refusal(wire.INTERNAL, "Internal error encountered.")
        context = kept.talk.context.copy(text_tokens(setup.setup_characters), setup.compression)
        return replace(kept.talk, context=context)
