"""The bookshop: a front page that asks for details and reviews; reviews ask for ratings.

One process is one pod: `python -m policies.demo.app.services SERVICE VERSION POD ADDRESS PORT`. Services find
each other as in Kubernetes, by `SERVICE_SERVICE_HOST` and `SERVICE_SERVICE_PORT` in the environment.
"""

from __future__ import annotations

import asyncio
import os
import sys

from policies.demo.app.http import Client, Handler, Request, Response, serve

PASSED_ON = ("x-user", "x-request-id", "traceparent")
BOOKS = {0: ("The Sea Around Us", "Rachel Carson", 1951), 1: ("Orlando", "Virginia Woolf", 1928)}
STARS = {0: {"first": 5, "second": 4}, 1: {"first": 4, "second": 5}}
OPINIONS = ("A voyage without a dull page.", "Read it twice.")


def _client(service: str) -> Client:
    name = service.upper()
    return Client(service, os.environ[f"{name}_SERVICE_HOST"], int(os.environ[f"{name}_SERVICE_PORT"]))


def _passed_on(request: Request) -> dict[str, str]:
    return {name: request.headers[name] for name in PASSED_ON if name in request.headers}


def _number(path: str) -> int | None:
    last = path.partition("?")[0].rpartition("/")[2]
    return int(last) if last.isdecimal() and int(last) in BOOKS else None


def productpage(pod: str) -> Handler:
    """`/productpage` and `/products/N`: one book, from the other services."""
    details, reviews = _client("details"), _client("reviews")

    async def handle(request: Request) -> Response:
        number = _number(request.path) or 0
        headers = _passed_on(request)
        parts = (details.get(f"/details/{number}", headers), reviews.get(f"/reviews/{number}", headers))
        (_, detail), (_, review) = await asyncio.gather(*parts)
        value = {"pod": pod, "front": request.headers.get("x-front"), "details": detail, "reviews": review}
        return Response(200, value, {"x-pod": pod})

    return handle


def details(pod: str) -> Handler:
    """`/details/N`: title, author, year."""

    async def handle(request: Request) -> Response:
        number = _number(request.path)
        if number is None:
            return Response(404, {"pod": pod, "error": f"no book at {request.path}"}, {"x-pod": pod})
        title, author, year = BOOKS[number]
        value = {"pod": pod, "path": request.path, "title": title, "author": author, "year": year}
        return Response(200, value, {"x-pod": pod, "x-internal": "shelf 7"})

    return handle


def reviews(pod: str, version: str) -> Handler:
    """`/reviews/N`: v1 has opinions only, v2 and v3 ask `ratings` for stars."""
    ratings = None if version == "v1" else _client("ratings")

    async def handle(request: Request) -> Response:
        number = _number(request.path) or 0
        value: dict[str, object] = {"pod": pod, "opinions": OPINIONS}
        if ratings is not None:
            status, stars = await ratings.get(f"/ratings/{number}", _passed_on(request))
            value["stars"] = stars if status == 200 else f"unavailable ({status})"
        return Response(200, value, {"x-pod": pod})

    return handle


def ratings(pod: str) -> Handler:
    """`/ratings/N`: stars by reviewer; POST would change them."""

    async def handle(request: Request) -> Response:
        return Response(200, {"pod": pod, **STARS.get(_number(request.path) or 0, {})}, {"x-pod": pod})

    return handle


def main() -> None:
    service, version, pod, address, port = sys.argv[1:]
    if service == "reviews":
        handler = reviews(pod, version)
    else:
        handler = {"productpage": productpage, "details": details, "ratings": ratings}[service](pod)
    try:
        asyncio.run(serve(address, int(port), handler))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
