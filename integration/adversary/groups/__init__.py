"""All cases, by group."""

from __future__ import annotations

from cases import Group
from groups import faults, floods, framing, http2, resources, tenancy, upstreams

GROUPS: list[Group] = [
    framing.GROUP,
    http2.GROUP,
    upstreams.GROUP,
    resources.GROUP,
    tenancy.GROUP,
    faults.GROUP,
    floods.GROUP,
]
