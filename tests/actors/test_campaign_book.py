"""`CampaignBook` without Ray: what the store says, and a database that is opened with the first message."""

from __future__ import annotations

from pathlib import Path

from actors.campaign_book import CampaignBook
from cluster.campaign.contacts import Contact
from cluster.campaign.states import Step, attempt_id, contact_id
from cluster.campaign.store import Begun, Move
from cluster.settings import load_settings

ENVIRON = {"LIVEKIT_URL": "ws://x", "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s", "GEMINI_API_KEY": "g"}


async def test_a_campaign_is_remembered(tmp_path: Path) -> None:
    """By the next process too."""
    settings = load_settings(ENVIRON | {"RINGMASTER_STATE_DIR": str(tmp_path)})
    book = CampaignBook(settings)
    assert await book.open("c", "default", "d", 1.0) == "running"
    await book.add("c", "d", [(Contact(line=2, number="+14155550101", zones=("Europe/Berlin",), context={}), 1.0)])
    assert await book.left_out("c", "d", 5) == []
    (sam,) = await book.waiting("c", 5)
    assert sam.contact == contact_id("c", "+14155550101")
    move = Move(campaign="c", contact=sam.contact, step=Step.BEGIN, attempt=attempt_id("c", sam.contact, 1), at=2.0)
    assert await book.begin("d", move) is Begun.YES
    again = CampaignBook(settings)
    assert [entry.contact for entry in await again.unfinished("c")] == [sam.contact]
    await again.move([Move(campaign="c", contact=sam.contact, step=Step.PUT_OFF, attempt=move.attempt, at=3.0)])
    assert (await again.tally("c")).waiting == 1
    await again.close("c", "d", "done", "")
    assert await again.state("c") == ("done", "")
