"""Backends that lie, break off, or never answer."""

from __future__ import annotations

from cases import Group
from groups.upstreams import answers, once, races

GROUP = Group("upstreams")
for part in (answers, once, races):
    part.add_to(GROUP)
