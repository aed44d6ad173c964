"""Delivery of a message by Apprise. Addresses are secrets: neither they nor what a receiver says of them is printed."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import apprise
import tenacity

ATTEMPTS = 3
# How the reason begins where another attempt would change nothing.
FINAL = "it refuses"
FIRST_WAIT_SECONDS = 2.0
# What would call people or whole channels where a chat reads it, and be markup elsewhere; with looks of its own.
HARMLESS = str.maketrans({"<": "‹", ">": "›", "@": "@\N{ZERO WIDTH SPACE}"})
# A status of HTTP or SMTP in Apprise's own words: all of them that is worth telling and no secret.
_STATUS = re.compile(r"\berror=(\d{3})\b|\((\d{3}),")


@dataclass(frozen=True)
class Receiver:
    """Somebody who is told, by an address of Apprise."""

    url: str
    name: str
    """What a log may call it: the variable that the address is from, and which of it."""


@dataclass(frozen=True)
class Delivery:
    """What became of a message to one receiver."""

    receiver: Receiver
    failure: str
    """Why it was not delivered; empty where it was."""


def receivers(variable: str, value: str) -> list[Receiver]:
    """The receivers that a variable names, by addresses with spaces, commas or lines between them."""
    urls = [part for part in re.split(r"[\s,]+(?=[a-z][a-z0-9+.-]*://)|\s+", value) if part]
    return [
        Receiver(url.rstrip(","), variable if len(urls) == 1 else f"{variable} ({number} of {len(urls)})")
        for number, url in enumerate(urls, 1)
    ]


def deliver(
    title: str,
    body: str,
    kind: apprise.NotifyType,
    to: Sequence[Receiver],
    *,
    first_wait_seconds: float = FIRST_WAIT_SECONDS,
) -> list[Delivery]:
    """Send a message to every receiver at once, trying again where one does not take it.

    Args:
        title: Its first line.
        body: The rest.
        kind: What it is: receivers show failures otherwise than successes.
        to: Who is told.
        first_wait_seconds: Wait before the second attempt; each later wait is twice the one before.

    Returns:
        What became of each. What was not delivered is also said in the log.
    """
    # Apprise's own words hold addresses.
    logging.getLogger("apprise").propagate = False
    title, body = title.translate(HARMLESS), body.translate(HARMLESS)

    def send(receiver: Receiver) -> Delivery:
        return Delivery(receiver, _send(receiver.url, title, body, kind, first_wait_seconds))

    with ThreadPoolExecutor(max(1, len(to))) as pool:
        done = list(pool.map(send, to))
    for each in done:
        if each.failure:
            print(f"The message was not delivered to {each.receiver.name}: {each.failure}.", file=sys.stderr)
    return done


def _send(url: str, title: str, body: str, kind: apprise.NotifyType, first_wait_seconds: float) -> str:
    # A message goes where the team said and nowhere else.
    asset = apprise.AppriseAsset(app_id="kfp-lifecycle", app_desc="kfp-lifecycle", app_url="", http_redirects=False)
    try:
        service = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    except Exception:
        # Whatever one of Apprise's services raises holds the address.
        service = None
    if service is None:
        return "it is no address that Apprise knows"
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=first_wait_seconds),
        retry=tenacity.retry_if_result(lambda failure: bool(failure) and not failure.startswith(FINAL)),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else "",
    )
    return str(attempts(_attempt, service, title, body, kind))


def _attempt(service: apprise.NotifyBase, title: str, body: str, kind: apprise.NotifyType) -> str:
    """Why one attempt failed; empty where it did not."""
    said = _Said()
    service.logger = said
    try:
        if service.notify(body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT):
            return ""
    except Exception as error:
        # As above: its name alone is told.
        return f"it cannot be reached ({type(error).__name__})"
    return said.reason


class _Said(logging.Logger):
    """What a service says while it tries, as far as it is no secret."""

    def __init__(self) -> None:
        super().__init__("delivery", logging.WARNING)
        self.reason = "it does not answer, or did not take it"

    def handle(self, record: logging.LogRecord) -> None:
        found = _STATUS.search(record.getMessage())
        if found:
            status = int(found[1] or found[2])
            final = 300 <= status < 500 and status != 429
            self.reason = f"{FINAL} it ({status})" if final else f"it answered {status}"
