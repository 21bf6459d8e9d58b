"""All cases, by group."""

from __future__ import annotations

from cases import Group
from groups import framing, http2, tenancy, upstreams

GROUPS: list[Group] = [
    framing.GROUP,
    http2.GROUP,
    upstreams.GROUP,
    tenancy.GROUP,
]
