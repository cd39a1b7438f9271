"""Debian's Chromium without a window, driven by its own chromedriver."""

import os
import shutil
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

ARGUMENTS = (
    "--headless=new",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--window-size=1200,1000",
)
PATIENCE_SECONDS = 120  # a busy machine


def chromium(folder: Path, *, scripts: bool = True) -> Chrome:
    """Start a browser with a profile of its own; `quit` ends it.

    Parameters
    ----------
    folder
        Where the profile and the driver's log are.
    scripts
        Whether pages may run JavaScript.
    """
    options = Options()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (*ARGUMENTS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # which root cannot have
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not scripts:
        settings = {"profile.default_content_setting_values.javascript": 2}
        options.add_experimental_option("prefs", settings)
    service = Service(str(shutil.which("chromedriver")), log_output=str(folder / "driver.log"))
    browser = Chrome(options=options, service=service)
    browser.set_page_load_timeout(PATIENCE_SECONDS)
    browser.set_script_timeout(PATIENCE_SECONDS)
    return browser
