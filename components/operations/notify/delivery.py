"""Webhook delivery with retries. Its address is a secret, so neither it nor an error that may hold it is printed."""

from __future__ import annotations

import html
import json
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPException, InvalidURL
from urllib.parse import urlsplit

ATTEMPTS = 4
TIMEOUT_SECONDS = 10.0
FIRST_WAIT_SECONDS = 1.0


class Undelivered(Exception):
    """The message was not taken; the text says why without the address."""


class TryAgain(Undelivered):
    """The receiver may take it later."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A message goes where the team said and nowhere else."""

    def redirect_request(self, *arguments: object) -> None:
        return None


def deliver(
    text: str,
    webhook_url: str,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    first_wait_seconds: float = FIRST_WAIT_SECONDS,
) -> bool:
    """Send a text, trying again where that may help.

    Args:
        text: The message.
        webhook_url: Where to; `http` or `https`.
        timeout_seconds: How long one attempt may wait for an answer.
        first_wait_seconds: Wait before the second attempt; each later wait is twice the one before.

    Returns:
        Whether the receiver took it. When not, the log says why.
    """
    # An exit handler has nothing but Python and kfp (`standalone`), so no library does this.
    for attempt in range(ATTEMPTS):
        try:
            _post(text, webhook_url, timeout_seconds)
        except Undelivered as failure:
            if isinstance(failure, TryAgain) and attempt + 1 < ATTEMPTS:
                time.sleep(first_wait_seconds * 2**attempt)
                continue
            print(f"The message was not delivered to the webhook: {failure}.", file=sys.stderr)
            return False
        return True
    return False


def _post(text: str, webhook_url: str, timeout_seconds: float) -> None:
    # In Slack <…> is a link or calls a whole channel; what a step said must do neither.
    body = json.dumps({"text": html.escape(text, quote=False)}).encode()
    opener = urllib.request.build_opener(_NoRedirect)
    # Errors are raised anew and not chained: their own words hold the address.
    try:
        if urlsplit(webhook_url).scheme not in ("http", "https"):
            raise Undelivered("webhook_url is no http or https address")
        request = urllib.request.Request(webhook_url, body, {"Content-Type": "application/json"})
        with opener.open(request, timeout=timeout_seconds):
            return
    except urllib.error.HTTPError as error:
        refusal = f"it answered {error.code}"
        if error.code == 429 or error.code >= 500:
            raise TryAgain(refusal) from None
        raise Undelivered(refusal) from None
    except (ValueError, InvalidURL):
        raise Undelivered("webhook_url is no valid address") from None
    except (OSError, HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            raise TryAgain(f"no answer within {timeout_seconds:g} s") from None
        raise TryAgain(f"it cannot be reached ({type(cause).__name__})") from None
