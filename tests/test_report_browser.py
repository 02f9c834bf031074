"""The report in a browser: its curves, controls and tables, in Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import Browser, needs_browser
from report_pages import (
    END,
    HOSTILE,
    TWO,
    dataset,
    embedded,
    make_page,
    make_rows,
    make_study,
    with_metrics,
    write_big_page,
)
from selenium import webdriver
from seqeval.plots import style

from seqeval import analysis


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    opened = Browser()
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_big_page(tmp_path_factory.mktemp("big") / "big.html")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two datasets with an online phase; the same with a failed seed; names with HTML in them."""
    folder = tmp_path_factory.mktemp("pages")
    failed = make_rows(TWO)
    lost = (failed["variant"] == "bc") & (failed["seed"] == 1) & (failed["samples"] >= 2500)
    failed.loc[lost, ["score", "return_mean", "status"]] = (np.nan, np.nan, "failed")
    hostile = make_study([dataset(HOSTILE)], [HOSTILE], [0, 1])
    written = {
        "two": make_page(TWO, make_rows(TWO)),
        "failed": make_page(TWO, failed),
        "hostile": make_page(hostile, make_rows(hostile), HOSTILE),
    }
    found = {name: folder / f"{name}.html" for name in written}
    for name, page in written.items():
        found[name].write_text(page)
    return found


@needs_browser
def test_the_page_logs_no_errors_and_requests_nothing(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["two"])
    for name, values in {
        "seeds": ("each", "1"),
        "phase": ("online", "both"),
        "unit": ("return",),
        "axis": ("share",),
        "dataset": ("1", "all"),
    }.items():
        for value in values:
            browser.choose(name, value)
    browser.chip("mine").click()
    browser.run("scrollTo(0, document.body.scrollHeight)")
    browser.settle()
    assert browser.console() == []
    assert browser.requests() == [pages["two"].as_uri()]


@needs_browser
def test_curves_show_means_and_ranges_of_the_rows(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["two"])
    table = analysis.mean_curves(make_rows(TWO))
    for panel, name in enumerate(("one", "two")):
        for variant, (x, y) in browser.means(panel).items():
            expected = table[(table["dataset"] == name) & (table["variant"] == variant)]
            assert x == expected["samples"].tolist()
            np.testing.assert_allclose(y, expected["mean"], atol=2e-3)
        band = next(t for t in browser.traces(panel) if t["meta"] == "band" and t["name"] == "bc")
        expected = table[(table["dataset"] == name) & (table["variant"] == "bc")]
        ring = [*expected["high"], *expected["low"][::-1]]
        np.testing.assert_allclose(band["y"][:-1], ring, atol=2e-3)
    data = [t["y"] for panel in (0, 1) for t in browser.traces(panel) if t["meta"] == "data"]
    assert data == [[37.5, 37.5], [50, 50]]
    shapes = browser.get("document.querySelector('.plot').layout.shapes.map((s) => s.x0)")
    words = browser.get("document.querySelector('.plot').layout.annotations.map((a) => a.text)")
    assert (shapes, words) == ([END], ["offline", "online"])


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_label_online_is_not_cut_off_in_a_short_phase(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    study = make_study([dataset(name) for name in ("one", "two", "three")], ["mine"], [0], steps=20)
    page = tmp_path / "page.html"
    page.write_text(make_page(study, make_rows(study)))
    browser.open(page, width)
    box = "document.querySelector('.plot').getBoundingClientRect()"
    words = "[...document.querySelectorAll('.plot')[0].querySelectorAll('.annotation-text')]"
    ends = browser.get(f"{words}.map((w) => [w.textContent, w.getBoundingClientRect().right - {box}.right])")
    assert [word for word, _ in ends] == ["offline", "online"]
    assert max(end for _, end in ends) <= 0


@needs_browser
def test_the_controls_select_what_is_drawn(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["two"])
    rows = make_rows(TWO)
    runs = rows[(rows["dataset"] == "one") & (rows["variant"] == "mine")]

    def mean(of: pd.DataFrame, value: str = "score") -> pd.Series:
        return of.groupby("samples")[value].mean()

    browser.choose("unit", "return")
    x, y = browser.means()["mine"]
    np.testing.assert_allclose(y, mean(runs, "return_mean"), atol=1e-2)
    browser.choose("unit", "score")
    browser.choose("axis", "share")
    x, y = browser.means()["mine"]
    np.testing.assert_allclose(x, mean(runs).index / END)
    browser.choose("axis", "samples")
    browser.choose("phase", "offline")
    assert max(browser.means()["mine"][0]) == END
    browser.choose("phase", "online")
    x, y = browser.means()["mine"]
    assert min(x) == END  # the row at N belongs to both
    np.testing.assert_allclose(y, mean(runs[runs["samples"] >= END]), atol=2e-3)
    browser.choose("phase", "both")
    browser.choose("seeds", "2")
    x, y = browser.means()["mine"]
    np.testing.assert_allclose(y, runs[runs["seed"] == 2]["score"], atol=2e-3)
    assert "band" not in {t["meta"] for t in browser.traces()}
    browser.choose("seeds", "each")
    thin = next(t for t in browser.traces() if t["meta"] == "seeds" and t["name"] == "mine")
    assert thin["x"].count(None) == 3
    browser.choose("dataset", "1")
    assert [panel.is_displayed() for panel in browser.driver.find_elements("css selector", ".panel")] == [
        False,
        True,
    ]


@needs_browser
def test_clicking_a_legend_entry_hides_and_shows_its_curves(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["two"])
    assert list(browser.means()) == ["bc", "mine"]
    chip = browser.chip("mine")
    chip.click()
    browser.settle()
    assert [list(browser.means(panel)) for panel in (0, 1)] == [["bc"], ["bc"]]
    assert chip.get_attribute("aria-pressed") == "false"
    chip.send_keys(" ")  # from the keyboard
    browser.settle()
    assert list(browser.means()) == ["bc", "mine"]
    assert chip.get_attribute("aria-pressed") == "true"
    webdriver.ActionChains(browser.driver).double_click(chip).perform()
    browser.settle()
    assert list(browser.means()) == ["mine"]
    webdriver.ActionChains(browser.driver).double_click(chip).perform()
    browser.settle()
    assert list(browser.means()) == ["bc", "mine"]


@needs_browser
def test_hovering_shows_the_values(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["two"])
    plot = browser.driver.find_element("css selector", ".plot")
    webdriver.ActionChains(browser.driver).move_to_element(plot).perform()
    browser.until("document.querySelector('.hoverlayer .legendtext, .hoverlayer text')")
    shown = browser.get("document.querySelector('.hoverlayer').textContent")
    table = analysis.mean_curves(make_rows(TWO)).query(
        "dataset == 'one' and variant == 'mine' and samples == 2000"
    )
    (row,) = table.to_dict("records")
    assert f"mine  {row['mean']:.1f} ({row['low']:.1f} to {row['high']:.1f})" in shown.replace("\xa0", " ")


@needs_browser
def test_a_mean_that_lacks_seeds_is_dotted_and_has_no_band(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["failed"])
    of = {t["meta"]: t for t in browser.traces() if t["name"] == "bc"}
    xs = of["mean"]["x"]
    complete = [n for n, value in zip(xs, of["mean"]["y"], strict=True) if value is not None]
    assert complete == [1000, 1500, 2000]
    assert max(n for n in of["band"]["x"] if n is not None) == 2000
    assert of["part"]["dash"] == "dot"
    assert None not in of["part"]["y"]
    seeds = [text.partition(", ")[2] for text in of["part"]["text"]]
    assert seeds == [""] * 3 + ["2 of 3 seeds"] * (len(xs) - 3)


@needs_browser
def test_clicking_a_column_header_sorts_the_table(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["failed"])
    table = "document.querySelector('#table-0-0 table')"

    def column(place: int) -> list[str]:
        return browser.get(f"[...{table}.tBodies[0].rows].map((row) => row.cells[{place}].textContent)")

    def order(place: int) -> list[float]:
        found = browser.get(f"[...{table}.tBodies[0].rows].map((row) => row.cells[{place}].dataset.order)")
        return [float(order) for order in found if order is not None]

    button = browser.driver.find_elements("css selector", "#table-0-0 button.sort")[2]
    head = button.find_element("xpath", "..")
    before = column(2)
    assert before.count("—") == 2  # the lines that lack a seed
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert all(a >= b for a, b in pairwise(order(2)))
    assert column(2)[-2:] == ["—", "—"]
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert all(a <= b for a, b in pairwise(order(2)))
    assert column(2)[-2:] == ["—", "—"]
    browser.driver.find_elements("css selector", "#table-0-0 button.sort")[1].click()
    assert column(1) == sorted(column(1))
    assert head.get_attribute("aria-sort") == "none"
    assert sorted(column(2)) == sorted(before)


@needs_browser
def test_copy_buttons_use_the_clipboard_or_show_the_text(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["two"])
    copies = embedded(pages["two"].read_text())["tables"]["table-0-0"]
    browser.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    csv, latex = browser.driver.find_elements("css selector", "#table-0-0 button.copy")
    for button, text in ((csv, copies["csv"]), (latex, copies["latex"])):
        button.click()
        browser.until("document.querySelector('#table-0-0 .status').textContent === 'copied'")
        read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (e) => done(String(e)))"
        assert browser.driver.execute_async_script(read) == text
        browser.run("document.querySelector('#table-0-0 .status').textContent = ''")
    browser.run("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    csv.click()
    browser.until("document.querySelector('dialog').open")
    area = browser.driver.find_element("css selector", "dialog textarea")
    assert area.get_attribute("value") == copies["csv"]
    assert browser.get("getSelection().toString() || document.activeElement.tagName")
    browser.driver.find_element("css selector", "dialog button").click()
    assert not browser.get("document.querySelector('dialog').open")
    browser.driver.find_element("css selector", "#rerun button.copy").click()
    browser.until("document.querySelector('dialog').open")
    assert area.get_attribute("value") == "seqeval run"


@needs_browser
def test_page_and_curves_follow_the_dark_mode(browser: Browser, pages: dict[str, Path]) -> None:
    def luminance(expression: str) -> float:
        channels = re.findall(r"[\d.]+", browser.get(expression))[:3]
        return sum(map(float, channels)) / 3

    def seen() -> tuple[float, float, str]:
        browser.settle()
        ink = luminance("getComputedStyle(document.querySelector('.plot .xtick text')).fill")
        paper = luminance("getComputedStyle(document.body).backgroundColor")
        return paper, ink, next(t["colour"] for t in browser.traces() if t["meta"] == "mean")

    browser.open(pages["two"], dark=True)
    paper, ink, bc = seen()
    assert paper < 40 < 120 < ink
    assert bc != style.ALGORITHM_COLOURS["bc"]
    browser.prefer("light")
    paper, ink, bc = seen()
    assert paper > 240 > 140 > ink
    assert bc == style.ALGORITHM_COLOURS["bc"]


@needs_browser
@pytest.mark.parametrize("name", ["two", "failed", "hostile"])
def test_on_a_phone_only_tables_scroll_sideways(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name], 390, 844)
    browser.run("for (const details of document.querySelectorAll('details')) details.open = true")
    assert browser.get("[document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    widest = browser.get(
        "Math.max(...[...document.querySelectorAll('main *')].map((e) => e.closest('.scroll') "
        "|| e.closest('svg') ? 0 : e.getBoundingClientRect().right))"
    )
    assert widest <= 390
    box = "document.querySelector('#table-0-0 .scroll')"
    assert browser.get(f"{box}.scrollWidth > {box}.clientWidth")
    assert browser.get("document.querySelector('.plot').layout.width") <= 390


@needs_browser
def test_every_control_has_a_name_and_is_reached_by_keyboard(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.open(pages["two"])
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = ("button", "combobox", "radio", "link", "textbox")
    controls = [n for n in tree if n.get("role", {}).get("value") in roles and not n["ignored"]]
    assert len(controls) > 20
    assert [n for n in controls if not n["name"]["value"].strip()] == []
    reached = set()
    for _ in range(60):
        webdriver.ActionChains(browser.driver).send_keys("\ue004").perform()
        reached.add(browser.get("document.activeElement.name || document.activeElement.className"))
    assert {"chip", "dataset", "seeds", "phase", "unit", "axis", "name", "sort", "copy", "scroll"} <= reached


@needs_browser
def test_names_with_html_are_shown_literally(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["hostile"])
    assert browser.driver.find_element("css selector", ".panel figcaption").text == HOSTILE
    assert browser.driver.find_element("css selector", ".chip").text == HOSTILE
    plot = browser.driver.find_element("css selector", ".plot")
    webdriver.ActionChains(browser.driver).move_to_element(plot).perform()
    browser.until("document.querySelector('.hoverlayer text')")
    assert "<script>alert(1)</script><b>" in browser.get("document.querySelector('.hoverlayer').textContent")
    assert browser.get("document.scripts.length") == 3
    assert browser.console() == []


@needs_browser
def test_losses_and_training_times_are_curves_too(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(make_page(TWO, with_metrics(make_rows(TWO))))
    browser.open(page)
    browser.choose("unit", "metric-0")
    x, y = browser.means()["bc"]
    assert x[:2] == [1500, 2000]  # there is no loss before the first update
    np.testing.assert_allclose(y[:2], [2.5, 3.0])
    assert "data" not in {trace["meta"] for trace in browser.traces()}
    assert browser.get("document.querySelector('.plot').layout.yaxis.title.text") == "train/loss"
    browser.choose("unit", "metric-1")
    assert list(browser.means()) == ["mine"]
    browser.choose("phase", "online")
    assert min(browser.means()["mine"][0]) > END
    browser.choose("phase", "both")
    browser.choose("unit", "metric-2")
    assert browser.means()["bc"][1][:3] == [0, 60, 120]
    assert browser.console() == []


@needs_browser
def test_iqm_and_ranks_are_drawn_beside_the_tables_and_follow_the_legend(
    browser: Browser, tmp_path: Path
) -> None:
    study = make_study([dataset("one"), dataset("two")], ["bc", "mine"], [0, 1, 2])
    page = tmp_path / "page.html"
    page.write_text(make_page(study, make_rows(study)))
    browser.open(page)
    browser.run("document.querySelector('.overall').scrollIntoView()")
    browser.until("[...document.querySelectorAll('.overall')].every((e) => e.data)")
    iqm, ranks = embedded(page.read_text())["plots"].values()
    for place, plot in enumerate((iqm, ranks)):
        drawn = browser.get(
            f"document.querySelectorAll('.overall')[{place}].data"
            ".filter((t) => t.meta === 'mean').map((t) => [t.name, t.x, t.y])"
        )
        assert drawn == [[line["label"], line["x"], line["estimate"]] for line in plot["lines"]]
    ends = "[...document.querySelectorAll('.overall')].map((e) => e._fullLayout.yaxis.range)"
    (low, high), (worst, best) = browser.get(ends)
    assert low < high
    assert best < worst
    browser.run("scrollTo(0, 0)")
    browser.chip("bc").click()
    browser.settle()
    left = browser.get("document.querySelector('.overall').data.map((t) => t.name)")
    assert set(left) == {"mine"}
    worst, best = browser.get(ends)[1]
    assert best < worst
    assert browser.console() == []


@needs_browser
def test_three_hundred_runs_are_drawn(browser: Browser, big: Path) -> None:
    browser.open(big)
    browser.until("document.querySelectorAll('.plot .scatterlayer').length >= 6")
    browser.settle()
    traces = "[...document.querySelectorAll('.plot')].map((e) => (e.data || []).length)"
    assert sum(count > 0 for count in browser.get(traces)) >= 6  # others are drawn when they are scrolled to
    assert browser.console() == []
