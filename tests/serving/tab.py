"""The page in a tab: what the tests do there, what they read off it, and what the API says to compare it with."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect

REFUSED = "Failed to load resource: the server responded with a status of 4"  # which Chromium reports of any refusal


class Tab:
    """The page, and what must stay empty: its complaints, and requests to other hosts."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.wrong: list[str] = []
        self._host = urlsplit(url).netloc
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", self._asked)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(REFUSED):
            self.wrong.append(message.text)

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).netloc != self._host:
            self.wrong.append(request.url)


def ask(page: Page, question: str) -> dict[str, Any]:
    """Asks, and waits until all answers are there. Returns what was sent first."""
    page.locator("#question").fill(question)
    with page.expect_request("**/v1/chat/completions") as sent:
        page.locator("#send").click()
    wait(page)
    return sent_in(sent.value)


def sent_in(request: Request) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(request.post_data or "")
    return fields


def wait(page: Page) -> None:
    expect(page.locator("#announcement")).not_to_be_empty()
    expect(page.locator("#send")).to_have_text("Ask")


def api(url: str, question: str, **fields: object) -> Any:
    """The choice that the API itself gives."""
    body = {"messages": [{"role": "user", "content": question}], "logprobs": True, "top_logprobs": 5, **fields}
    response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    return response.raise_for_status().json()["choices"][0]


def colour_numbers(url: str) -> dict[str, str]:
    members = httpx.get(f"{url}/v1/colllm").json()["members"]
    return {name: str(number) for number, name in enumerate(members)}


def tokens(answer: Locator) -> list[tuple[str, str]]:
    """Text and colour of each token on the page."""
    found = answer.locator(".token")
    colours = found.evaluate_all("all => all.map(one => one.parentElement.dataset.colour)")
    return list(zip(found.all_text_contents(), colours, strict=True))


def together(page: Page) -> Locator:
    return page.locator(".turn:last-child .answer:not(.alone)")
