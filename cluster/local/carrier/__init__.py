"""A simulated carrier: LiveKit's SIP API, and phones that join rooms as participants of kind SIP."""

from cluster.local.carrier.call import Call
from cluster.local.carrier.carrier import Carrier
from cluster.local.carrier.leg import Livekit
from cluster.local.carrier.phone import Phone
from cluster.local.carrier.record import CallLog, Direction, Ending
from cluster.local.carrier.routing import NoRoute
from cluster.local.carrier.server import serve

__all__ = ["Call", "CallLog", "Carrier", "Direction", "Ending", "Livekit", "NoRoute", "Phone", "serve"]
