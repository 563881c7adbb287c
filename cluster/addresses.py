"""Which addresses of the network a tool may reach: those of the public internet. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

NAT64 = IPv6Network("64:ff9b::/96")
NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        "168.63.129.16/32",  # Azure's services to its own machines; other clouds have link-local addresses
        "192.0.0.0/24",  # IETF protocol assignments; Oracle's metadata service is in it
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b:1::/48",  # a network's own NAT64
        "2001::/32",  # Teredo, which holds another address
        "2002::/16",  # 6to4, which holds another address
        "fec0::/10",  # site-local
    )
)
"""What Python's own tables do not have, or do not have in every version that we run on."""


def is_public(text: str) -> bool:
    """True for a unicast address of the public internet; False for everything else, also for what is no address."""
    try:
        address = _meant(ip_address(text))
    except ValueError:
        return False
    special = address.is_multicast or address.is_reserved or address.is_private
    return address.is_global and not special and not any(address in network for network in NOT_PUBLIC)


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address that packets will reach: `::ffff:127.0.0.1` is 127.0.0.1."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address
