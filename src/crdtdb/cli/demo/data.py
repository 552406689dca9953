"""The demo's documents: subdivisions of countries, languages and currencies, as ISO lists them."""

from __future__ import annotations

from typing import Any

import pycountry


def documents() -> dict[str, list[dict[str, Any]]]:
    """Return the documents of each collection: over 13,000 in all."""
    return {
        "subdivisions": [
            {
                "_id": one.code,
                "name": one.name,
                "type": one.type,
                "country": one.country_code,
                "parent": getattr(one, "parent_code", None),
            }
            for one in pycountry.subdivisions
        ],
        "languages": [
            {"_id": one.alpha_3, "name": one.name, "scope": one.scope, "type": one.type} for one in pycountry.languages
        ],
        "currencies": [
            {"_id": one.alpha_3, "name": one.name, "numeric": getattr(one, "numeric", None)}
            for one in pycountry.currencies
        ],
    }
