"""Backends that lie, break off, or never answer."""

from __future__ import annotations

from cases import Group
from groups.upstreams import answers, lies, once, races, sessions, sharing

GROUP = Group("upstreams")
for part in (answers, lies, once, races, sessions, sharing):
    part.add_to(GROUP)
