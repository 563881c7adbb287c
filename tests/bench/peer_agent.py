"""The same agent on LiveKit Agents, as its documentation writes it: the peer that `make bench` measures beside ours.

Runs in a virtual environment of its own (`livekit-agents`, `livekit-plugins-google`), with the same LiveKit server and
the same Live endpoint, by the same environment variables. As many processes are idle as ours are parked.
"""

from __future__ import annotations

import os
import ssl

from google.genai import types
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, RunContext, cli, function_tool, room_io
from livekit.plugins import google

server = AgentServer(
    num_idle_processes=int(os.environ.get("PEER_IDLE", "12")),
    load_threshold=float("inf"),
    # Its own is the CPU of the whole machine, and LiveKit drops what it would offer to a worker whose load is 1.
    load_fnc=lambda: 0.0,
    port=0,
)
TRUST = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])


class Receptionist(Agent):
    """Greets, answers, ends the call."""

    def __init__(self) -> None:
        super().__init__(instructions=os.environ.get("PEER_INSTRUCTIONS", "You are the receptionist of a bakery."))

    @function_tool
    async def end_call(self, _context: RunContext) -> str:
        """Hang up."""
        return "ok"


@server.rtc_session(agent_name=os.environ.get("PEER_AGENT_NAME", "peer"))
async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    model = google.realtime.RealtimeModel(
        model="gemini-3.8-live",
        voice="Kore",
        http_options=types.HttpOptions(
            base_url=os.environ["GOOGLE_GEMINI_BASE_URL"],
            api_version="v1beta",
            async_client_args={"ssl": TRUST, "verify": TRUST},
            client_args={"verify": TRUST},
        ),
    )
    session: AgentSession[None] = AgentSession(llm=model)
    await session.start(
        agent=Receptionist(), room=ctx.room, room_options=room_io.RoomOptions(audio_input=room_io.AudioInputOptions())
    )
    await session.generate_reply(instructions="Greet the caller.")


if __name__ == "__main__":
    cli.run_app(server)
