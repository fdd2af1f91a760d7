"""A picture's page, open in a headless browser. The fixtures are known to all tests by conftest.py."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
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
