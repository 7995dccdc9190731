"""The page in Chromium: it loads nothing, filters, can be used by keys, and is accessible."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import HOSTILE

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
COLOURS = "getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(251, 250, 248)", "rgb(20, 23, 28)"


def count_shown(page: Page) -> int:
    return page.locator("#rows .problem").count()


def choose(page: Page, label: str, value: str) -> None:
    page.locator("#browser").get_by_label(label, exact=True).select_option(label=value)


def test_policy_refuses_what_the_page_does_not_ask_for(chromium: Browser, url: str) -> None:
    """Without the policy these would be tried: that they are refused is on the console."""
    page = chromium.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(url)
    assert said == []
    refused = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'asked', () => 'refused')")
    assert refused == "refused"
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/'}))")
    page.evaluate("document.body.setAttribute('style', 'color: red')")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: '1'}))"
    )
    assert sum("Content Security Policy" in text for text in said) >= 3
    page.close()


def test_filters_and_search_change_what_is_shown(page: Page) -> None:
    status = page.get_by_role("status")
    expect(status).to_have_text("Showing 6 of 480 problems that fit, of 480.")
    assert count_shown(page) == 6
    choose(page, "Task", "larger_sums")
    expect(status).to_have_text("Showing 6 of 240 problems that fit, of 480.")
    assert page.locator("#rows .meta").all_inner_texts()[0].startswith("larger_sums, ")
    choose(page, "Model", "grpo")
    assert page.locator("#rows .response header b").all_inner_texts() == ["grpo"] * 6
    choose(page, "Outcome", "right")
    cell = json.loads((ROOT / "metrics/evaluate/grpo.json").read_text())["larger_sums"]
    num_right = round(240 * cell["accuracy"])
    expect(status).to_have_text(f"Showing 6 of {num_right} problems that fit, of 480.")
    shown = page.locator("#rows .response header span").all_inner_texts()
    assert [text.partition(",")[0] for text in shown] == ["right"] * 6
    choose(page, "Model", "all")
    choose(page, "Outcome", "lost: sft right, grpo not")
    pairs = json.loads((ROOT / "metrics/paired.json").read_text())["larger_sums"]
    num_lost = pairs["grpo_minus_sft"]["num_lost"]
    assert 6 < num_lost <= 12, "else this must ask for more than once"
    expect(status).to_have_text(f"Showing 6 of {num_lost} problems that fit, of 480.")
    page.get_by_role("button", name="Show more").click()
    expect(status).to_have_text(f"Showing {num_lost} of {num_lost} problems that fit, of 480.")
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    page.get_by_label("Search").fill("no such text")
    expect(status).to_have_text(re.compile(r"^No problem of 480 fits\."))
    assert count_shown(page) == 0


def test_search_looks_into_responses_whatever_the_case(page: Page) -> None:
    page.get_by_label("Search").fill("ONERROR")
    # The first two problems of each task.
    expect(page.get_by_role("status")).to_have_text("Showing 4 of 4 problems that fit, of 480.")
    page.get_by_label("Search").fill("")
    expect(page.get_by_role("status")).to_have_text("Showing 6 of 480 problems that fit, of 480.")


def test_traces_of_the_filter_are_another_source(page: Page) -> None:
    choose(page, "Source", "Training traces, filter")
    expect(page.get_by_role("status")).to_have_text("Showing 1 of 1 problems that fit, of 1.")
    boxes = page.locator("#rows .response")
    assert boxes.count() == 2
    text = " ".join(boxes.nth(0).inner_text().split())
    assert text == (
        "trace 0 kept <think>1 + 1 = 2</think><answer>2</answer> "
        "answer_accuracy 1 answer_format 1 reward 1.25"
    )
    assert "wrong answer" in boxes.nth(1).inner_text()
    choose(page, "Outcome", "kept")
    expect(page.get_by_role("status")).to_have_text("Showing 1 of 1 problems that fit, of 1.")


def test_hostile_traces_are_shown_as_they_are_and_do_nothing(page: Page) -> None:
    assert page.locator("#rows pre").first.inner_text() == HOSTILE
    assert page.locator("img").count() == 0
    assert page.title().startswith("Rederive: smollm2-cpu at ")


def test_keys_lead_through_the_page(page: Page) -> None:
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the results")
    expect(skip).to_be_focused()
    assert skip.evaluate("node => node.getBoundingClientRect().top") >= 0
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.locator("#theme input").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(COLOURS) == DARK
    for name in ("arithmetic: all shares", "sft: the numbers"):
        summary = page.locator("summary", has_text=name).first
        summary.focus()
        page.keyboard.press("Enter")
        assert summary.evaluate("node => node.parentElement.open")
    page.locator("#model").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#model").input_value() == "base"
    page.get_by_role("button", name="Show more").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#rows .problem h3").nth(6)).to_be_focused()
    assert page.evaluate("document.activeElement.tagName") == "H3"


def test_everything_that_can_be_focused_shows_it(page: Page) -> None:
    page.locator("body").press("Tab")
    seen = set()
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break  # behind the last one
        shown = page.evaluate(
            """() => {
              const e = document.activeElement;
              const style = getComputedStyle(e.matches('#theme input') ? e.nextElementSibling : e);
              return [e.tagName, style.outlineStyle, parseFloat(style.outlineWidth)];
            }"""
        )
        assert shown[1] != "none", shown
        assert shown[2] >= 1, shown
        seen.add(shown[0])
    assert {"A", "INPUT", "SELECT", "BUTTON", "SUMMARY", "DIV"} <= seen


def test_colours_follow_the_system_until_they_are_chosen(chromium: Browser, url: str) -> None:
    context = chromium.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(url)
    assert page.evaluate(COLOURS) == DARK
    page.emulate_media(color_scheme="light")
    assert page.evaluate(COLOURS) == LIGHT
    page.get_by_role("radio", name="Dark").check()
    assert page.evaluate(COLOURS) == DARK
    page.reload()
    assert page.evaluate(COLOURS) == DARK, "it is kept"
    assert page.get_by_role("radio", name="Dark").is_checked()
    page.emulate_media(media="print")
    assert page.evaluate(COLOURS) == "rgb(255, 255, 255)"
    context.close()


def test_print_has_the_content_and_no_controls(page: Page, tmp_path: Path) -> None:
    page.emulate_media(media="print")
    for hidden in ("nav", ".controls", "#more", "#theme"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.locator("#rows .problem").first).to_be_visible()
    expect(page.locator(".chart").first).to_be_visible()
    pdf = tmp_path / "page.pdf"
    page.pdf(path=pdf, format="A4")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) <= 20


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_page_is_never_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    is_tall = page.locator("svg.drawing.tall").first.is_visible()
    assert is_tall == (width < 1248)
    assert page.locator("svg.drawing.wide").first.is_visible() == (not is_tall)


def test_motion_is_only_for_those_who_want_it(page: Page) -> None:
    smooth = "getComputedStyle(document.documentElement).scrollBehavior"
    assert page.evaluate(smooth) == "auto"
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(smooth) == "smooth"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_axe_finds_nothing(page: Page, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found = Axe().run(page)
    problems = [
        f"{violation['id']}: {node['html'][:150]} {node['failureSummary']}"
        for violation in found.response["violations"]
        for node in violation["nodes"][:3]
    ]
    assert problems == []
    assert len(found.response["passes"]) > 20


def test_page_has_landmarks_a_title_per_section_and_captions(page: Page) -> None:
    for landmark in (
        page.get_by_role("banner"),
        page.get_by_role("navigation"),
        page.get_by_role("main"),
        page.get_by_role("search"),
        page.get_by_role("contentinfo"),
    ):
        expect(landmark).to_have_count(1)
    names = ["Results", "Graph", "Training", "Samples", "Data", "Cost", "Provenance"]
    assert page.locator("main > section > h2").all_inner_texts() == names
    assert page.locator("nav a").all_inner_texts() == names
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    image = page.get_by_role("img", name="Mean reward, weighted")
    expect(image).to_have_accessible_description(re.compile(r"^reward: .* at step 1, .*\.$"))
