"""Identity and permissions: who makes a request, and what they may do."""

from crdtdb.security.permissions import (
    ACCESS,
    ADMINISTRATORS_ONLY,
    KINDS,
    NOBODY_NAMED,
    REPLICATOR,
    SECURITY,
    USERS,
    Level,
    Permissions,
    Principal,
    check_security,
    level_of,
)

__all__ = [
    "ACCESS",
    "ADMINISTRATORS_ONLY",
    "KINDS",
    "NOBODY_NAMED",
    "REPLICATOR",
    "SECURITY",
    "USERS",
    "Level",
    "Permissions",
    "Principal",
    "check_security",
    "level_of",
]
