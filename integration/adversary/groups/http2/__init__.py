"""HTTP/2 towards clients."""

from __future__ import annotations

from cases import Group
from groups.http2 import bodies, fields, floods, frames, windows

GROUP = Group("http2")
for part in (fields, bodies, frames, windows, floods):
    part.add_to(GROUP)
