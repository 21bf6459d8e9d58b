"""Several tenants behind one router: what one may do to another, or to an engine."""

from __future__ import annotations

from cases import Group
from groups.tenancy import headers, identity, json_bodies, management, paths, removed

GROUP = Group("tenancy")
for part in (identity, headers, paths, management, json_bodies, removed):
    part.add_to(GROUP)
