"""Talking to the Materials Project's server: the key, the searches, and what an error of the connection means."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.reference.fetched_phases import MaterialsProjectError, shortened

ENDPOINT = "https://api.materialsproject.org/"
KEY_PAGE = "https://materialsproject.org/api"


@dataclass(frozen=True)
class Connection:
    """The server's address, the user's key, seconds to wait for an answer, and what a user may do without it."""

    endpoint: str
    key: str = field(repr=False)
    timeout: int
    instead: str

    def database_version(self) -> str:
        """Ask the server for its database version: a request of our own, since mp-api's has no time limit."""
        requests = _import("requests")
        try:
            answer = requests.get(self.endpoint + "heartbeat", timeout=self.timeout)
        except requests.exceptions.RequestException as error:
            raise self._explained(str(error), unreached=True) from None
        if answer.status_code != 200:
            raise self._explained(f"status code {answer.status_code}", unreached=False)
        try:
            version = answer.json()["db_version"]
        except (ValueError, KeyError, TypeError):
            version = None
        if not isinstance(version, str) or not version:
            raise MaterialsProjectError(
                f"{self.endpoint}heartbeat gives no database version; check MP_API_ENDPOINT, or try again later"
            )
        return version

    def search(
        self,
        rester: tuple[str, str],
        terms: Mapping[str, Any],
        criteria: Mapping[str, Any],
        fields: Sequence[str],
        page: int,
    ) -> list[dict[str, Any]]:
        """Rows of one search, all pages; as many as the server says there are.

        Parameters
        ----------
        rester
            Module below ``mp_api.client.routes.materials`` and its class.
        terms, criteria
            The same search, in the words of the class and in the words of the address.
        fields, page
            What each row holds; rows a request.

        Raises
        ------
        MaterialsProjectError
            A refused key, no network, a timeout, too many requests, an unreadable or truncated answer.
        """
        module = _import(f"mp_api.client.routes.materials.{rester[0]}")
        try:
            with getattr(module, rester[1])(
                api_key=self.key,
                endpoint=self.endpoint,
                use_document_model=False,
                mute_progress_bars=True,
                timeout=self.timeout,
            ) as client:
                rows = client.search(fields=list(fields), chunk_size=page, **terms)
                # mp-api stops without a word when a page comes back empty.
                expected = client.count({**criteria, "_limit": 1, "_fields": "material_id"})
        # mp-api raises its own error for what it foresees; a broken answer surfaces as whatever it breaks.
        except Exception as error:
            trouble = _import("requests").exceptions.RequestException
            unreached = isinstance(error, trouble) or isinstance(error.__context__, trouble)
            raise self._explained(f"{type(error).__name__}: {error}", unreached=unreached) from None
        if not isinstance(rows, list) or len(rows) != expected:
            got = len(rows) if isinstance(rows, list) else "no"
            raise MaterialsProjectError(
                f"the answer of {self.endpoint} is truncated: {got} rows of {expected}; run the same command again"
            )
        return rows

    def _explained(self, text: str, *, unreached: bool) -> MaterialsProjectError:
        """What an error of the connection means, and the remedy."""
        found = re.search(r"status code (\d{3})|too many (\d{3}) error", text)
        status = int(next(filter(None, found.groups()))) if found else None
        if status in (401, 403):
            what = f"refused the key (status {status}); copy it anew from {KEY_PAGE} into MP_API_KEY"
        elif status == 429:
            what = "has had too many requests (status 429); wait some minutes, then run the same command again"
        elif status is not None:
            what = (
                f"answered with status {status}; see https://status.materialsproject.org, and run the same command "
                "again later"
            )
        elif "timed out" in text.lower():
            what = "did not answer in time; run the same command again later"
        elif unreached:
            what = f"can't be reached ({shortened(text)}); check the network and MP_API_ENDPOINT, or use {self.instead}"
        else:
            what = (
                f"gave an answer that can't be read ({shortened(text)}); run the same command again, and update "
                "mp-api if it stays so"
            )
        return MaterialsProjectError(f"{self.endpoint} {what}")


def connect(environ: Mapping[str, str], timeout: int, instead: str) -> Connection:
    """Take address and key from the environment; nothing is asked yet.

    Raises
    ------
    MaterialsProjectError
        No key, or what is no key.
    """
    return Connection(endpoint_of(environ), _key(environ, instead), timeout, instead)


def endpoint_of(environ: Mapping[str, str] = os.environ) -> str:
    """Address of the server: ``$MP_API_ENDPOINT`` (mp-api's own variable), else the Materials Project's."""
    return (environ.get("MP_API_ENDPOINT") or ENDPOINT).rstrip("/") + "/"


def _key(environ: Mapping[str, str], instead: str) -> str:
    from pymatgen.core import SETTINGS

    for name, text in (
        ("MP_API_KEY", environ.get("MP_API_KEY")),
        ("PMG_MAPI_KEY", environ.get("PMG_MAPI_KEY") or SETTINGS.get("PMG_MAPI_KEY")),
    ):
        if not text:
            continue
        key = str(text).strip()
        if re.fullmatch(r"[A-Za-z0-9]{32}", key):
            return key
        # The key itself stays out of messages and logs.
        raise MaterialsProjectError(
            f"{name} is no Materials Project key (32 letters and digits, this has {len(key)} characters); copy it anew "
            f"from {KEY_PAGE}"
        )
    raise MaterialsProjectError(
        f"the Materials Project needs a key of your own; get one at {KEY_PAGE} and set MP_API_KEY, or use {instead}"
    )


def _import(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MaterialsProjectError(
            f"source 'mp_api' needs the package mp-api ({error}); install it with: python -m pip install 'ionsieve[mp]'"
        ) from None
