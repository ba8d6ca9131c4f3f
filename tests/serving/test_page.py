"""The page in a real browser: typed, clicked, pointed at, and compared with what the API itself says."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, Route, ViewportSize, expect, sync_playwright

from colllm_ray.serving.api.page import FILES
from tests.serving.tab import Tab, api, ask, colour_numbers, sent_in, together, tokens, wait

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    f"--{switch}"
    for switch in (
        "no-sandbox disable-gpu disable-quic disable-background-networking disable-component-update disable-sync"
        " no-first-run"
    ).split()
]
BEAR = "When did the cave bear die out?"
DRUG = "What are the active components of Opdualag?"
POWER = "What is a^3 * a^2 if a = 5?"
WIDE: ViewportSize = {"width": 1200, "height": 800}
# Generous: where other processes want the CPUs, each token of an expert waits for its turn.
TIMEOUT_MS = 120_000
FIRST_TOKEN_MS = 20_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: `chromium` is not on the path")


@pytest.fixture(scope="module")
def tab(url: str) -> Iterator[Tab]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        tab = Tab(browser.new_page(viewport=WIDE), url)
        tab.page.set_default_timeout(TIMEOUT_MS)
        expect.set_options(timeout=TIMEOUT_MS)
        tab.page.goto(url)
        yield tab
        browser.close()


@pytest.fixture
def page(tab: Tab) -> Iterator[Page]:
    """As it is when it has been loaded."""
    page = tab.page
    expect(page.locator("#composer")).to_be_visible()
    yield page
    page.unroute_all()
    for switch in page.locator("#authors").get_by_role("switch").all():
        switch.check()
    page.get_by_role("switch", name="Show the base alone beside").uncheck()
    page.get_by_role("switch", name="Send the earlier turns").uncheck()
    page.get_by_role("button", name="New conversation").click()
    page.set_viewport_size(WIDE)
    assert tab.wrong == []


def test_the_modules_are_asked_for_at_once() -> None:
    index = (FILES / "index.html").read_text()
    modules = {file.name for file in FILES.glob("*.js")} - {"page.js"}
    assert set(re.findall(r'rel="modulepreload" href="page/(.+?)"', index)) == modules


def test_each_token_has_the_colour_of_the_author_that_the_api_names(page: Page, url: str) -> None:
    numbers = colour_numbers(url)
    for question in (DRUG, BEAR, POWER):
        page.keyboard.type(question)
        page.locator("#send").click()
        wait(page)
        trace = api(url, question)["colllm"]["trace"]
        assert tokens(together(page)) == [(token["text"], numbers[token["model"]]) for token in trace]
        assert {token["model"] for token in trace} > {"base"}
    grounds = page.locator(".expert .ink").evaluate_all("all => all.map(one => getComputedStyle(one).backgroundColor)")
    assert len(set(grounds)) == 3


def test_an_answer_comes_with_shares_speed_a_spoken_summary_and_a_table(page: Page, url: str) -> None:
    ask(page, POWER)
    authors = [token["model"] for token in api(url, POWER)["colllm"]["trace"]]
    for name in set(authors):
        share = f"{name} {100 * authors.count(name) / len(authors):.0f} %"
        expect(together(page).locator(".shares")).to_contain_text(f"{share} ({authors.count(name)})")
        expect(page.get_by_role("status")).to_contain_text(share)
    figures = rf"{len(authors)} tokens · \d+ tokens/s · first token after [\d.]+\sm?s"
    expect(together(page).locator(".figures")).to_have_text(re.compile(figures))
    together(page).get_by_text("Tokens as a table").click()
    expect(together(page).locator("tbody td:nth-of-type(1)")).to_have_text(authors)


def test_the_first_token_is_on_screen_soon_after_the_click(page: Page) -> None:
    page.locator("#question").fill(POWER)
    page.evaluate(
        """() => {
            const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
            window.firstToken = new Promise((resolve) => {
                let clicked;
                addEventListener("click", () => (clicked = performance.now()), { capture: true, once: true });
                new MutationObserver(async (_, observer) => {
                    if (!document.querySelector(".token")) return;
                    observer.disconnect();
                    await painted();
                    resolve(performance.now() - clicked);
                }).observe(document.getElementById("turns"), { childList: true, subtree: true });
            });
        }"""
    )
    page.locator("#send").click()
    ms = page.evaluate("() => window.firstToken")
    print(f"first token on screen {ms:.0f} ms after the click")
    assert ms < FIRST_TOKEN_MS


def test_switches_and_slider_decide_who_writes(page: Page, url: str) -> None:
    calibrated = httpx.get(f"{url}/v1/colllm").json()["threshold"]
    assert ask(page, POWER)["colllm"] == {"threshold": calibrated, "experts": ["pharma", "bears", "math"]}

    page.get_by_role("switch", name="math may write").click()
    with page.expect_request("**/v1/chat/completions") as sent:
        page.get_by_role("button", name="Ask again").click()
    wait(page)
    assert sent_in(sent.value)["colllm"]["experts"] == ["pharma", "bears"]
    assert colour_numbers(url)["math"] not in {colour for _, colour in tokens(together(page))}

    slider = page.get_by_role("slider", name="Threshold")
    slider.press("Home")
    assert ask(page, BEAR)["colllm"]["threshold"] == 1
    assert {colour for _, colour in tokens(together(page))} == {"0"}
    expect(page.locator("#threshold-effect")).to_contain_text(" 0 %")
    slider.press("ArrowRight")
    assert 0.9 < ask(page, BEAR)["colllm"]["threshold"] < 1

    page.get_by_role("button", name="Back to the calibrated one").click()
    assert ask(page, BEAR)["colllm"]["threshold"] == calibrated


def test_pointer_and_arrow_keys_show_how_a_token_came_about(page: Page, url: str) -> None:
    ask(page, BEAR)
    choice = api(url, BEAR)
    trace, logprobs = choice["colllm"]["trace"], choice["logprobs"]["content"]
    at = next(i for i, token in enumerate(trace) if token["model"] == "bears")
    spans, card = together(page).locator(".token"), page.get_by_role("tooltip")

    spans.nth(at).hover()
    expect(card).to_contain_text("by bears")
    assert float(card.locator("dd span").inner_text()) == pytest.approx(trace[at]["p_defer"], rel=0.05)
    assert card.locator("li code").all_text_contents() == [
        top["token"].replace(" ", "␣") for top in logprobs[at]["top_logprobs"]
    ]
    page.mouse.move(0, 0)
    expect(card).to_be_hidden()

    page.get_by_role("button", name="Ask again").focus()
    page.keyboard.press("Tab")
    expect(spans.nth(0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(spans.nth(1)).to_be_focused()
    expect(card).to_contain_text("by base")
    page.keyboard.press("ArrowDown")
    expect(spans.nth(at)).to_be_focused()
    expect(spans.nth(at)).to_have_attribute("aria-describedby", "card")
    expect(card).to_contain_text("by bears")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()


def test_the_base_alone_stands_beside_with_what_to_double_check(page: Page, url: str) -> None:
    ask(page, BEAR)
    with page.expect_request("**/v1/chat/completions") as sent:
        page.get_by_role("switch", name="Show the base alone beside").click()
    wait(page)
    assert sent_in(sent.value)["model"] == "lab/base"
    alone, trace = page.locator(".alone"), api(url, BEAR, model="lab/base")["colllm"]["trace"]
    assert [text for text, _ in tokens(alone)] == [token["text"] for token in trace]
    marked = [i for i, token in enumerate(trace) if token["doubt"]]
    assert marked, "the base alone is unsure of what only an expert knows"
    classes = alone.locator(".token").evaluate_all("all => all.map(one => one.className)")
    assert [i for i, names in enumerate(classes) if "doubt" in names] == marked
    line = alone.locator(".doubt .ink").first.evaluate("one => getComputedStyle(one).textDecorationStyle")
    assert line == "wavy"

    alone.locator(".checks button").first.click()
    expect(alone.locator(".token").nth(marked[0])).to_be_focused()
    expect(page.get_by_role("tooltip")).to_contain_text("its author was unsure of it")
    ask(page, DRUG)
    expect(page.locator(".turn:last-child .answer")).to_have_count(2)


def test_stop_ends_an_answer(page: Page) -> None:
    def make_long(route: Route) -> None:
        route.continue_(post_data=json.dumps({**sent_in(route.request), "ignore_eos": True}))

    page.route("**/v1/chat/completions", make_long)
    page.locator("#question").fill(POWER)
    page.keyboard.press("Enter")
    together(page).locator(".token").first.wait_for()
    page.locator("#send").click()
    expect(together(page)).to_contain_text("Stopped.")
    wait(page)
    expect(together(page).locator(".figures")).to_contain_text("tokens/s")


def test_turns_are_sent_until_a_new_conversation(page: Page) -> None:
    page.get_by_role("switch", name="Send the earlier turns").check()
    first = ask(page, BEAR)["messages"]
    answer = "".join(text for text, _ in tokens(together(page)))
    question = {"role": "user", "content": POWER}
    assert ask(page, POWER)["messages"] == [*first, {"role": "assistant", "content": answer}, question]
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    page.locator("#examples button").first.click()
    wait(page)
    expect(page.locator(".turn")).to_have_count(1)
    assert ask(page, POWER)["messages"][-1] == question


def test_refusals_and_broken_answers_are_told_where_they_happen(page: Page) -> None:
    page.locator("#question").fill("<b>why</b> " * 100)
    page.locator("#send").click()
    expect(together(page).get_by_role("alert")).to_contain_text("the models' context is 256")
    assert page.locator(".turn b").count() == 0

    failure = json.dumps({"error": {"message": "the router is gone", "code": None}})
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=f"data: {failure}\n\n"))
    ask(page, BEAR)
    expect(together(page).get_by_role("alert")).to_have_text("the router is gone")
    page.unroute_all()
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=": nothing\n\n"))
    ask(page, BEAR)
    expect(together(page).get_by_role("alert")).to_have_text("The connection broke off.")
    page.unroute_all()
    page.get_by_role("button", name="Ask again").click()
    wait(page)
    expect(together(page).get_by_role("alert")).to_be_hidden()


def test_a_key_is_asked_for_and_sent(page: Page) -> None:
    refusal = {"error": {"message": "the API key is wrong", "code": "invalid_api_key"}}

    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer secret":
            route.continue_()
        else:
            route.fulfill(status=401, json=refusal)

    page.route("**/v1/**", guard)
    page.reload()
    for key in ("guess", "secret"):
        page.get_by_label("This server wants an API key").fill(key)
        expect(page.get_by_role("alert")).to_be_visible(visible=key == "secret")
        page.get_by_role("button", name="Use it").click()
    expect(page.get_by_role("alert")).to_be_hidden()
    ask(page, POWER)
    expect(together(page).locator(".token").first).to_be_visible()


def test_every_author_can_be_read_in_light_and_dark(page: Page) -> None:
    """Contrast as WCAG defines it, of the text on its ground."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        contrasts = page.evaluate(
            """() => [1, 2, 3, 4, 5, 6, 7].map((number) => {
                const ink = document.createElement("span");
                ink.className = "ink";
                const run = document.createElement("span");
                run.className = "run expert";
                run.dataset.colour = number;
                run.append(ink);
                document.getElementById("turns").append(run);
                const luminance = (colour) => {
                    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
                    canvas.fillStyle = colour;
                    canvas.fillRect(0, 0, 1, 1);
                    const linear = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
                    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((x) => linear(x / 255));
                    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
                };
                const { color, backgroundColor } = getComputedStyle(ink);
                const [text, ground] = [luminance(color), luminance(backgroundColor)];
                run.remove();
                return Math.max(text, ground) / Math.min(text, ground);
            })"""
        )
        assert min(contrasts) >= 4.5, (scheme, contrasts)


def test_a_narrow_screen_needs_no_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 380, "height": 700})
    page.locator("#settings summary").click()
    page.get_by_role("switch", name="Show the base alone beside").click()
    ask(page, DRUG)
    together(page).locator(".expert .token").first.click()
    expect(page.get_by_role("tooltip")).to_contain_text("by pharma")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 380
