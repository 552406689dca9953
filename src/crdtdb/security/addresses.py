"""Network addresses as those who count by them see them."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network


def block_of(host: str) -> str:
    """Return what counts as one address: of IPv6 the first 64 bits, since one machine has all that begin with them."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(ip_network((int(address) >> 64 << 64, 64)))
