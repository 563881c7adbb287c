"""From a contact to the request for its call. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.campaign.hours import zones_of
from cluster.campaign.states import attempt_id
from cluster.dispatch.requests import agent_identity, call_id_of_request
from cluster.messages import CallRequest, Direction

if TYPE_CHECKING:
    from cluster.campaign.file import Campaign
    from cluster.campaign.store import Entry


def call_request(campaign: Campaign, entry: Entry, room_prefix: str) -> CallRequest:
    """The contact's next call, or the one that has begun and not ended: all its ids follow from which one it is."""
    file = campaign.file
    request_id = attempt_id(file.name, entry.contact, len(entry.outcomes) + 1)
    call_id = call_id_of_request(file.tenant, request_id)
    call = file.call
    return CallRequest(
        request_id=request_id,
        call_id=call_id,
        tenant=file.tenant,
        direction=Direction.OUTBOUND,
        profile=file.profile,
        room=room_prefix + call_id,
        identity=agent_identity(call_id),
        to=entry.number,
        from_=call.from_ or "",
        context=entry.context,
        campaign=file.name,
        # Who decides later has only the number to tell the time zone from.
        calling_hours=file.hours if entry.zones == zones_of(entry.number) else "",
        priority=call.priority,
        max_duration_s=call.max_duration_s,
        max_cost_usd_micros=campaign.max_cost_usd_micros,
    )
