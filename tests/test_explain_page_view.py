"""What of the page is in sight in a real browser: zoom and motion, folding, large graphs."""

from __future__ import annotations

import pytest
from browser_page import needs_browser
from explained import NAMES, picture_of
from large_graphs import blocks, deep, wide

pytestmark = needs_browser


class TestView:
    def transform(self, page):
        return page.find("#world").get_attribute("transform")

    def test_zooms_by_keys_buttons_and_wheel(self, open_page):
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

        page = open_page(picture_of("gym_bill"))
        first = page.state()["zoom"]
        page.press("+")
        assert page.state()["zoom"] == pytest.approx(first * 1.25)
        page.press("-")
        page.click("#out")
        assert page.state()["zoom"] == pytest.approx(first * 0.8)
        page.click("#in")
        origin = ScrollOrigin.from_element(page.find("#graph"))
        ActionChains(page.driver).scroll_from_origin(origin, 0, 200).perform()
        page.wait(lambda: page.state()["zoom"] < first * 0.9)
        page.press("f")
        assert page.state()["zoom"] == pytest.approx(first)

    def test_moves_with_the_mouse(self, open_page):
        from selenium.webdriver import ActionChains

        page = open_page(picture_of("gym_bill"))
        before, box = self.transform(page), page.card("a").rect
        chain = ActionChains(page.driver).move_to_element_with_offset(page.find("#graph"), -300, -250)
        chain.click_and_hold().move_by_offset(40, 25).release().perform()
        assert self.transform(page) != before
        after = page.card("a").rect
        assert (after["x"] - box["x"], after["y"] - box["y"]) == (pytest.approx(40, abs=1), pytest.approx(25, abs=1))
        assert page.state()["step"] == 0

    @pytest.mark.parametrize("name", [*NAMES, "mlp"])
    def test_shows_all_of_an_example_without_overlaps(self, open_page, name):
        page = open_page(picture_of(name))
        page.press("f")
        graph = page.find("#graph").rect
        boxes = [card.rect for card in page.all(".card")]
        assert len(boxes) == len(picture_of(name))
        for box in boxes:
            assert box["x"] >= graph["x"] and box["x"] + box["width"] <= graph["x"] + graph["width"]
            assert box["y"] >= graph["y"] and box["y"] + box["height"] <= graph["y"] + graph["height"]
        assert not overlapping(boxes)

    def test_goes_with_the_step(self, open_page, keys):
        page = open_page(blocks(30))
        for _ in range(8):
            page.press("+")
        page.press(keys.END)
        active = '.card[data-state="active"]'
        page.wait(lambda: page.all(active) and page.find(active).rect["x"] >= page.find("#graph").rect["x"])

    def test_is_dark_where_that_is_wished(self, open_page):
        page = open_page(picture_of("gym_bill"))
        colour = "return getComputedStyle(document.body).backgroundColor"
        light = page.driver.execute_script(colour)
        scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        try:
            assert page.driver.execute_script(colour) != light == "rgb(255, 255, 255)"
        finally:
            page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def test_loads_nothing(self, open_page):
        page = open_page(picture_of("gym_bill"))
        assert page.driver.execute_script("return performance.getEntriesByType('resource').length") == 0


def overlapping(boxes):
    """Pairs of boxes that share more than their edges."""
    return [
        (a, b)
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"]) > 1
        and min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"]) > 1
    ]


class TestFolding:
    def test_by_clicks_on_boxes(self, open_page, keys):
        page = open_page(picture_of("mlp"))
        steps = page.state()["steps"]
        assert set(page.state()["open"]) == {"model", "0", "2"}
        page.press(keys.ARROW_RIGHT)
        assert page.state()["node"] == "v1"
        page.click('.frame[data-group="0"] > g')
        assert set(page.state()["open"]) == {"model", "2"}
        assert not page.all('.card[data-node="v1"]') and page.find('.card[data-group="0"]')
        assert page.state()["node"] == "0" and page.state()["steps"] == steps - 2  # two operations are one
        assert page.all("#panel h3")[0].text == "What goes out"
        page.click('.card[data-group="0"]')
        assert page.state()["steps"] == steps and page.state()["node"] == "v2"

    def test_folds_all_and_unfolds_level_by_level(self, open_page):
        page = open_page(picture_of("mlp"))
        page.click("#fold")
        assert page.state()["open"] == [] and page.all('.card[data-group="model"]')
        page.click("#unfold")
        assert page.state()["open"] == ["model"]
        page.click("#unfold")
        assert set(page.state()["open"]) == {"model", "0", "2"}
        assert not page.find("#unfold").is_enabled()

    def test_of_a_group_shows_what_goes_out(self, open_page, keys):
        picture = picture_of("mlp")
        page = open_page(picture)
        page.click("#fold")
        page.press(keys.END)
        page.driver.execute_script("picture.go(1)")
        assert page.state()["node"] == "model"
        assert page.panel("value")[0] == str(picture["scores"].value)
        page.press(keys.END)
        assert page.state()["node"] == "model" and page.state()["phase"] == "backward"
        assert page.panel("upstream")[0] == str(picture["scores"].upstream)
        assert str(picture["0.weight"].upstream) in page.panel("upstream")


class TestLargeGraphs:
    @pytest.mark.parametrize(("make", "nodes"), [(deep, 10_001), (wide, 10_002), (blocks, 2_003)])
    def test_open_step_and_unfold(self, open_page, keys, make, nodes):
        page = open_page(make())
        state = page.state()
        assert state["nodes"] == nodes and state["drawn"] <= 80 and state["elements"] <= 300
        assert state["zoom"] >= 0.35  # so that it can be read
        assert not overlapping([card.rect for card in page.all(".card")])
        page.press(keys.ARROW_RIGHT)
        assert page.state()["phase"] == "forward"
        page.press(keys.END)
        assert page.state()["step"] == page.state()["steps"]
        page.click("#unfold")
        assert page.state()["drawn"] > state["drawn"] and page.state()["elements"] <= 3000
        page.press(keys.HOME, keys.ARROW_RIGHT, keys.ARROW_RIGHT)
        assert page.state()["step"] == 2

    def test_unfold_down_to_a_single_node(self, open_page, keys):
        page = open_page(deep())
        while not page.driver.execute_script("return picture.isDrawn('v1')"):
            page.driver.execute_script("picture.unfold(picture.state().folded[0])")
        page.press(keys.HOME, keys.ARROW_RIGHT)
        assert page.state()["node"] == "v1" and page.panel("value") == ["0.462117"]

    def test_of_few_levels_are_drawn_only_where_they_are_seen(self, open_page):
        page = open_page(wide())
        for _ in range(3):
            page.driver.execute_script("document.getElementById('unfold').click()")
        state = page.state()
        assert state["drawn"] > 400 and state["elements"] < state["drawn"]
