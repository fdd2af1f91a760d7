"""The page in a real browser: steps by keyboard and mouse, and the numbers shown."""

from __future__ import annotations

import pytest
from browser_page import needs_browser
from explained import NAMES, numbers, picture_of, shown

import fastbp
from fastbp.examples import variable

pytestmark = needs_browser


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
