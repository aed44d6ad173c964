"""Who asks a Kubeflow: a token, a browser's session, a login at Dex, or the account of a pod."""

from __future__ import annotations

import http.cookiejar
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

from kfp_lifecycle.backends.backend import BackendError, Unreachable

# A token, or a file that somebody else renews; the cookies of a session that a browser has, or a user of Dex's own.
TOKEN_VARIABLE, TOKEN_FILE_VARIABLE = "LIFECYCLE_KUBEFLOW_TOKEN", "LIFECYCLE_KUBEFLOW_TOKEN_FILE"
COOKIES_VARIABLE = "LIFECYCLE_KUBEFLOW_COOKIES"
USER_VARIABLE, PASSWORD_VARIABLE = "LIFECYCLE_KUBEFLOW_USER", "LIFECYCLE_KUBEFLOW_PASSWORD"
REMEDY = (
    f"log in, and give the token in {TOKEN_VARIABLE}, a file with it in {TOKEN_FILE_VARIABLE}, the session's cookies "
    f"in {COOKIES_VARIABLE}, or a user of Dex in {USER_VARIABLE} and {PASSWORD_VARIABLE}"
)
TIMEOUT = 30


@dataclass(frozen=True)
class Credentials:
    """What a client of Kubeflow Pipelines is made with."""

    token: str | None = None
    cookies: str | None = None
    file: ServiceAccountTokenVolumeCredentials | None = None
    """A file that is read again for each request: its token is renewed by whoever writes it."""


def who_asks(endpoint: str) -> Credentials:
    """The credentials that this machine has for a Kubeflow, the most particular first.

    Args:
        endpoint: Its address; empty where it is reached through the cluster's API server, by the kubeconfig's own.

    Raises:
        BackendError: a file is named that is not there, or Dex refuses the user.
        Unreachable: nobody answers where to log in.
    """
    if token := os.environ.get(TOKEN_VARIABLE):
        return Credentials(token=token)
    if named := os.environ.get(TOKEN_FILE_VARIABLE):
        if not Path(named).is_file():
            raise BackendError(f"{TOKEN_FILE_VARIABLE} names {named}, and there is no such file: write the token there")
        return Credentials(file=ServiceAccountTokenVolumeCredentials(named))
    if cookies := os.environ.get(COOKIES_VARIABLE):
        return Credentials(cookies=cookies)
    user, password = os.environ.get(USER_VARIABLE), os.environ.get(PASSWORD_VARIABLE)
    if endpoint and user and password:
        return Credentials(cookies=dex_session(endpoint, user, password))
    mounted = Path(os.environ.get(KF_PIPELINES_SA_TOKEN_ENV) or KF_PIPELINES_SA_TOKEN_PATH)
    return Credentials(file=ServiceAccountTokenVolumeCredentials(str(mounted)) if mounted.is_file() else None)


def dex_session(endpoint: str, user: str, password: str) -> str:
    """Log in at the Dex in front of a Kubeflow, as its own form does: OIDC's code flow, to the session's cookies.

    Args:
        endpoint: Address of the Kubeflow.
        user: A user that Dex itself knows (its `local` connector), by mail address.
        password: The user's.

    Returns:
        The cookies, as a request carries them.

    Raises:
        BackendError: there is no such form, or it refuses the user.
        Unreachable: nobody answers.
    """
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    try:
        place = _open(browser, endpoint)
        if place.path.endswith("/oauth2/sign_in"):
            # oauth2-proxy shows a page with a button first.
            start = place._replace(path=place.path.removesuffix("sign_in") + "start", query=place.query or "rd=/")
            place = _open(browser, start.geturl())
        if re.search(r"/auth$", place.path):
            # Several ways to log in are offered.
            place = _open(browser, place._replace(path=f"{place.path}/local").geturl())
        if not place.path.endswith("/login"):
            page = place._replace(query="").geturl()
            raise BackendError(f"{endpoint} leads to {page}, which is no form of Dex's own users: {REMEDY}")
        form = urllib.parse.urlencode({"login": user, "password": password}).encode()
        place = _open(browser, place.geturl(), form)
        if place.path.endswith("/login"):
            raise BackendError(f"Dex does not let {user} in: see {USER_VARIABLE} and {PASSWORD_VARIABLE}")
        if place.path.endswith("/approval"):
            _open(browser, place.geturl(), b"approval=approve")
    except OSError as error:
        raise Unreachable(f"nobody answers where to log in to {endpoint}: {error}") from error
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


def _open(browser: urllib.request.OpenerDirector, address: str, form: bytes | None = None) -> urllib.parse.SplitResult:
    """Where a request ends, through all redirections."""
    try:
        with browser.open(address, form, timeout=TIMEOUT) as answer:
            return urllib.parse.urlsplit(str(answer.geturl()))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            # Pages to log in at come with such a status, too.
            return urllib.parse.urlsplit(str(error.geturl() or address))
        raise
