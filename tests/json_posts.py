"""Clients of tests say that what they post is JSON, as every client of a node must, and that they want no parts."""

from __future__ import annotations

import httpx


def say_json(request: httpx.Request) -> None:
    """Add the media type to a POST that names none, and the wish for JSON to a request that accepts anything."""
    if request.headers.get("accept") == "*/*":
        request.headers["accept"] = "application/json"
    if request.method == "POST":
        request.headers.setdefault("content-type", "application/json")


async def say_json_too(request: httpx.Request) -> None:
    """The same for clients that are asynchronous."""
    say_json(request)


HOOKS = {"request": [say_json]}
ASYNC_HOOKS = {"request": [say_json_too]}
