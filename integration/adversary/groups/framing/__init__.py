"""HTTP/1.1 messages that two readers may understand differently."""

from __future__ import annotations

from cases import Group
from groups.framing import hosts, lengths, limits, pipelines

GROUP = Group("framing")
for part in (lengths, pipelines, hosts, limits):
    part.add_to(GROUP)
