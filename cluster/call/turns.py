"""Who said what, how much of it was heard, and how long each side waited.

Rules of this file: time comes in as `now` (seconds, any clock that does not jump), text and durations come in as they
arrive from the model, and nothing here waits. Transcriptions are unordered relative to the audio (the Live API
documents this), so a line is closed by a turn's end, not by the next text.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cluster.messages import Line

MAX_LINES = 2_000
"""Bounds the memory of a call that never ends; a line every 3 s fills it in 100 minutes."""


RECALLED_CHARS = 12_000
"""Of a long conversation, a new session is told the newest part: about 3,000 tokens, 15 minutes of talk."""


def heard_words(text: str, heard_ms: float, spoken_ms: float) -> str:
    """The part of `text` that was heard when `heard_ms` of its `spoken_ms` were played, in whole words."""
    words = text.split()
    if spoken_ms <= 0 or heard_ms >= spoken_ms:
        return text
    return " ".join(words[: round(len(words) * max(heard_ms, 0.0) / spoken_ms)])


@dataclass(slots=True)
class Turns:
    """The transcript of one call as it grows."""

    started_at: float
    lines: list[Line] = field(default_factory=list)
    _caller: str = ""
    _caller_at: float = 0.0
    _agent: str = ""
    _agent_at: float = 0.0
    _spoken_ms: float = 0.0
    marked: int = 0
    """How many lines there were at the newest mark."""
    _added: int = 0

    @property
    def agent_has_spoken(self) -> bool:
        """Whether the caller has heard anything of the agent."""
        return bool(self._agent.strip()) or any(line.who == "agent" for line in self.lines)

    def mark(self) -> None:
        """The server can restore the conversation up to here."""
        self.marked = self._added

    def so_far(self, unheard_ms: float) -> tuple[Line, ...]:
        """Every line, and the turn that goes on as it was heard: `unheard_ms` of the agent's is still queued."""
        return (*self.lines, *self._heard(self._spoken_ms - unheard_ms))

    def restore(self, lines: tuple[Line, ...], unknown: int) -> None:
        """Go on after `lines`, of which the server can't restore the newest `unknown`."""
        self.lines = list(lines)
        self._added = len(lines)
        self.marked = len(lines) - unknown

    def since(self, mark: int) -> tuple[Line, ...]:
        """What was said since there were so many lines, with the turn that is not complete yet."""
        unknown = min(len(self.lines), self._added - mark)
        return (*self.lines[len(self.lines) - unknown :], *self._open())

    def everything(self) -> tuple[Line, ...]:
        """The newest `RECALLED_CHARS` of the whole conversation, with the turn that is not complete yet."""
        kept: list[Line] = []
        chars = 0
        for line in reversed((*self.lines, *self._open())):
            chars += len(line.text)
            if chars > RECALLED_CHARS:
                break
            kept.append(line)
        return tuple(reversed(kept))

    def caller_text(self, text: str, now: float) -> None:
        """A piece of the caller's words."""
        self._caller_at = self._caller_at if self._caller else now
        self._caller += text

    def agent_text(self, text: str, now: float) -> None:
        """A piece of the agent's words."""
        self._agent_at = self._agent_at if self._agent else now
        self._agent += text

    def agent_audio(self, ms: float) -> None:
        """Agent audio of that length was generated in this turn."""
        self._spoken_ms += ms

    def close(self) -> list[Line]:
        """The turn is complete: returns the lines it added, the caller's first."""
        return self._flush(cut=False, heard_ms=self._spoken_ms)

    def cut(self, unheard_ms: float) -> list[Line]:
        """The caller spoke over the agent, who had `unheard_ms` still to say: keeps what was heard.

        The caller's words of an interrupting turn arrive later and open the next one.
        """
        return self._flush(cut=True, heard_ms=self._spoken_ms - unheard_ms)

    def _open(self) -> list[Line]:
        """The lines of the turn so far, the caller's first."""
        found: list[Line] = []
        if self._caller.strip():
            found.append(Line(who="caller", text=self._caller.strip(), at_s=self._caller_at - self.started_at))
        if self._agent.strip():
            found.append(Line(who="agent", text=self._agent.strip(), at_s=self._agent_at - self.started_at))
        return found

    def _heard(self, heard_ms: float) -> list[Line]:
        """The lines of the turn so far, should it end now."""
        found = self._open()
        if found and found[-1].who == "agent":
            said = found.pop()
            if text := heard_words(said.text, heard_ms, self._spoken_ms):
                found.append(replace(said, text=text, heard=False))
        return found

    def _flush(self, *, cut: bool, heard_ms: float) -> list[Line]:
        added = self._heard(heard_ms) if cut else self._open()
        self._caller = self._agent = ""
        self._spoken_ms = 0.0
        self.lines = (self.lines + added)[-MAX_LINES:]
        self._added += len(added)
        return added


class SpeechMeter:
    """Tells from the energy of the caller's frames when speech begins and ends.

    Used for measuring and for noticing silence, never for turn taking, which is the model's. The floor follows the
    line's own noise, so that hiss is not speech; the hangover bridges the gaps between words.
    """

    HANGOVER_S = 0.3
    MIN_LEVEL = 150.0
    """RMS of 16-bit samples: about -47 dBFS, below any voice on a phone line and above its comfort noise."""
    ABOVE_FLOOR = 3.0
    """Speech is 10 dB over the noise floor."""

    def __init__(self) -> None:
        self._floor = self.MIN_LEVEL / self.ABOVE_FLOOR
        self._loud_at: float | None = None
        self.speaking = False

    def feed(self, rms: float, now: float) -> float | None:
        """One frame's level. Returns when the speech ended if this frame shows that it has, else None."""
        if rms > max(self.MIN_LEVEL, self._floor * self.ABOVE_FLOOR):
            self.speaking = True
            self._loud_at = now
            return None
        self._floor = 0.95 * self._floor + 0.05 * rms
        if self.speaking and self._loud_at is not None and now - self._loud_at >= self.HANGOVER_S:
            self.speaking = False
            return self._loud_at
        return None
