"""The page in a real browser: steps by keyboard and mouse, the numbers shown, folding, large graphs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time

import pytest
from explained import NAMES, numbers, picture_of, shown
from large_graphs import blocks, deep, wide

import fastbp
from fastbp.examples import variable

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    not BROWSER or not shutil.which("chromedriver") or importlib.util.find_spec("selenium") is None,
    reason="needs chromium, chromedriver and the package selenium",
)


@pytest.fixture(scope="module")
def driver():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1300,850"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


class Page:
    """An open page."""

    def __init__(self, driver, path):
        self.driver = driver
        driver.get(path.as_uri())
        assert self.errors() == []

    def errors(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def state(self):
        return self.driver.execute_script("return picture.state()")

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def click(self, selector):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).move_to_element(self.find(selector)).click().perform()

    def panel(self, field):
        return [each.get_attribute("data-text") for each in self.all(f'#panel [data-field="{field}"]')]

    def card(self, name):
        return self.find(f'.card[data-node="{name}"]')

    def wait(self, condition):
        """Until a condition holds; the test fails where it does not within ten seconds."""
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.fixture
def open_page(driver, tmp_path):
    pages = []

    def open_page(picture):
        picture.save(tmp_path / "picture.html")
        pages.append(Page(driver, tmp_path / "picture.html"))
        return pages[-1]

    yield open_page
    for page in pages:
        assert page.errors() == []


@pytest.fixture
def keys():
    from selenium.webdriver.common.keys import Keys

    return Keys


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", NAMES)
def test_every_step_shows_its_numbers(open_page, keys, name, backend):
    with fastbp.backend(backend):
        picture, expected = picture_of(name), numbers(name)
    page = open_page(picture)
    operations = [node.name for node in picture if node.operation]
    for operation in operations:
        page.press(keys.ARROW_RIGHT)
        assert page.state()["node"] == operation and page.state()["phase"] == "forward"
        assert page.panel("value") == [shown(expected[operation].value)]
        assert page.card(operation).get_attribute("data-value") == shown(expected[operation].value)
        assert page.card(operation).get_attribute("data-state") == "active"
        assert page.card(operation).get_attribute("data-gradient") == ""
    for _ in operations:
        page.press(keys.ARROW_RIGHT)
        each = expected[page.state()["node"]]
        assert page.state()["phase"] == "backward"
        assert page.panel("upstream") == [shown(each.upstream)]
        assert page.panel("local") == [shown(sent.local) for sent in each.sent if sent.local is not None]
        assert page.panel("downstream") == [shown(sent.downstream) for sent in each.sent]
        assert [part.get_attribute("data-to") for part in page.all("#panel .sent")] == [sent.to for sent in each.sent]
    assert page.state()["step"] == page.state()["steps"] == 2 * len(operations)
    for key, each in expected.items():
        gradient = "" if each.upstream is None else shown(each.upstream)
        assert page.card(key).get_attribute("data-gradient") == gradient


class TestSteps:
    def test_by_keyboard(self, open_page, keys):
        page = open_page(picture_of("gym_bill"))
        assert page.state() | {"step": 0, "steps": 4, "phase": "start", "node": None} == page.state()
        assert page.card("a").get_attribute("data-value") == "50"
        assert page.card("y").get_attribute("data-state") == "waiting"
        page.press(keys.ARROW_RIGHT, keys.ARROW_RIGHT, keys.ARROW_RIGHT, keys.ARROW_LEFT)
        assert page.state()["step"] == 2 and page.state()["node"] == "z"
        page.press(keys.END)
        assert page.state()["step"] == 4 and page.state()["node"] == "y"
        page.press(keys.ARROW_RIGHT)
        assert page.state()["step"] == 4
        page.press(keys.HOME, keys.ARROW_LEFT)
        assert page.state()["step"] == 0
        assert page.find("#status").text.startswith("Before the first step")

    def test_by_buttons(self, open_page):
        page = open_page(picture_of("gym_bill"))
        assert not page.find("#previous").is_enabled()
        for button, step in (("next", 1), ("next", 2), ("previous", 1), ("last", 4), ("first", 0)):
            page.click(f"#{button}")
            assert page.state()["step"] == step
        page.click("#last")
        assert page.find("#status").text == "Backward, step 4 of 4: y gets 1.2 and sends 3.6 to a, 60 to b"
        assert not page.find("#next").is_enabled()

    def test_by_the_slider(self, open_page, keys):
        page = open_page(picture_of("gym_bill"))
        page.find("#slider").send_keys(keys.ARROW_RIGHT, keys.ARROW_RIGHT, keys.ARROW_RIGHT)
        assert page.state()["step"] == 3
        assert page.find("#slider").get_attribute("aria-valuetext").startswith("Backward, step 3 of 4: z gets 1")
        page.find("#slider").send_keys(keys.HOME)
        assert page.state()["step"] == 0

    def test_by_a_click_on_a_node(self, open_page, keys):
        page = open_page(picture_of("shared_node"))
        page.click('.card[data-node="y"]')
        assert page.state()["step"] == 2 and page.panel("value") == ["7"]
        page.press(keys.END)
        page.click('.card[data-node="f"]')  # backward, since that is where we are
        assert page.state()["phase"] == "backward" and page.state()["node"] == "f"
        assert page.panel("downstream") == ["7", "2"]
        page.press(keys.END)
        page.click('.card[data-node="b"]')  # an input has no step: its details alone
        assert page.state()["step"] == page.state()["steps"]
        assert page.panel("value") == ["3"] and page.panel("upstream") == ["9"]
        assert [part.text for part in page.all("#panel [data-part]")] == ["7 from x", "2 from y"]

    def test_by_enter_on_a_focused_node(self, open_page, keys):
        page = open_page(picture_of("gym_bill"))
        page.driver.execute_script("document.querySelector('.card[data-node=\"z\"]').focus()")
        page.press(keys.ENTER)
        assert page.state()["node"] == "z"

    def test_of_themselves(self, open_page, keys):
        page = open_page(picture_of("gym_bill"))
        page.press(keys.SPACE)
        assert page.state()["playing"]
        page.wait(lambda: page.state()["step"] >= 2)
        page.press(keys.SPACE)
        assert not page.state()["playing"]
        page.press(keys.END)
        page.click("#play")  # from the end it begins again
        page.wait(lambda: 1 <= page.state()["step"] <= 2)
        page.press(keys.ARROW_RIGHT)
        assert not page.state()["playing"]

    def test_show_gradients_as_they_arrive_and_add(self, open_page, keys):
        page = open_page(picture_of("shared_node"))
        page.press(*[keys.ARROW_RIGHT] * 5)
        assert page.state()["node"] == "y"
        assert "db = 2 + …" in page.card("b").text and page.card("a").get_attribute("data-gradient") == ""
        page.press(keys.ARROW_RIGHT)
        assert "db = 7 + 2 = 9" in page.card("b").text

    def test_light_up_the_way_of_values_and_gradients(self, open_page, keys):
        page = open_page(picture_of("gym_bill"))
        ends = lambda style: {  # noqa: E731
            (link.get_attribute("data-from"), link.get_attribute("data-to")) for link in page.all(f".link.{style}")
        }
        page.press(keys.ARROW_RIGHT)
        assert ends("forth") == {("a", "y"), ("b", "y")} and ends("back") == set()
        page.press(keys.END)
        assert ends("back") == {("a", "y"), ("b", "y")} and ends("forth") == set()
        labels = {each.get_attribute("data-edge"): each.text for each in page.all(".label.now")}
        assert labels == {"a y": "1.2 × 3 = 3.6", "b y": "1.2 × 50 = 60"}

    def test_of_several_passes_follow_each_other(self, open_page, keys):
        x = variable(3.0)
        with fastbp.explain() as picture:
            y = x * x
            y.backward(retain_graph=True)
            z = y * 2.0
            z.backward()
        page = open_page(picture)
        seen = []
        for _ in range(5):
            page.press(keys.ARROW_RIGHT)
            seen.append((page.state()["phase"], page.state()["node"], page.card("x").get_attribute("data-gradient")))
        assert seen == [
            ("forward", "y", ""),
            ("backward", "y", "6"),
            ("forward", "z", "6"),
            ("backward", "z", "6"),
            ("backward", "y", "12"),
        ]
        assert page.find("#status").text.startswith("Backward 2, step 5 of 5")

    def test_without_a_backward_pass_are_forward_alone(self, open_page, keys):
        x = variable(3.0)
        with fastbp.explain() as picture:
            y = x * 2.0
        assert y.requires_grad
        page = open_page(picture)
        page.press(keys.END)
        assert page.state()["step"] == page.state()["steps"] == 1
        assert page.find("#counts").text.endswith("no backward pass")


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


def test_names_of_any_kind_are_shown_as_they_are(open_page, keys):
    x = variable(2.0)
    name = '</script><b onclick="x">&"\'{}\\'
    with fastbp.explain() as picture:
        y = x * 3.0
        y.backward()
    picture.title = name
    page = open_page(picture.name(**{name: x}))
    assert page.driver.title == page.find("h1").text == name
    assert page.find(".card.input").get_attribute("data-node") == name
    page.press(keys.END)
    assert page.find("#panel .sent").get_attribute("data-to") == name


def test_what_is_not_finite_stands_out(open_page, keys):
    x = variable([1.0, 0.0])
    with fastbp.explain() as picture:
        y = x.log()
        y.sum().backward()
    page = open_page(picture)
    page.press(keys.END)
    assert page.all(".card text.bad") and page.panel("value") == ["[0, -inf]"]
    assert page.panel("local") == ["[1, inf]"]
