"""All cases, by group."""

from __future__ import annotations

from cases import Group
from groups import framing

GROUPS: list[Group] = [
    framing.GROUP,
]
