"""The pages as a person sees them: in Chromium, with and without JavaScript."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import DEFAULT_WHEN
from tests.acceptance.clinic import Clinic
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store
from tests.contract.fhir_site import new_uid, ours

PASSWORD = "correct horse battery"
EVIL = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


def all_of(browser: Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def one(browser: Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def arrives(browser: Chrome, heading: str) -> None:
    """Wait until a page with a heading is there, whole."""

    def is_there() -> bool:
        # Between two pages there is no heading, or it goes while it is looked at.
        with suppress(WebDriverException):
            whole = browser.execute_script("return document.readyState") == "complete"
            return bool(whole and heading in one(browser, "h1").text)
        return False

    eventually(is_there, what=f"a page with the heading {heading}")


def sign_in(browser: Chrome, url: str) -> None:
    """Sign in by the keyboard alone, from the page that was asked for."""
    browser.get(url)
    arrives(browser, "Sign in")
    focused = browser.switch_to
    eventually(lambda: focused.active_element.get_attribute("id") == "name", what="the focus")
    focused.active_element.send_keys("anna", Keys.TAB)
    focused.active_element.send_keys(PASSWORD, Keys.ENTER)
    arrives(browser, "Studies")


def shows(browser: Chrome, image: WebElement) -> None:
    """Wait until a picture has arrived."""
    ActionChains(browser).scroll_to_element(image).perform()
    eventually(lambda: int(str(image.get_property("naturalWidth"))) > 0, what="a picture")


def accessible_names(browser: Chrome) -> list[str]:
    """The names by which a screen reader tells what can be used."""
    used = all_of(browser, "input:not([type=hidden]), button:not([hidden]), a")
    return [element.accessible_name for element in used]


@pytest.fixture
def site_with_a_linked_study(
    sandbox_site: Site, sandbox: Sandbox, tmp_path: Path
) -> tuple[Site, Callable[[], tuple[str, str]]]:
    """A site with a user; and what uploads a linked study, returning its UID and its id."""
    sandbox_site.settings["console"] |= {
        "auth": {"mode": "users", "users_file": str(tmp_path / "users")},
        "viewers": [{"name": "OHIF", "url": "https://ohif.example/viewer?uids={study_uid}"}],
    }
    assert sandbox_site.run("console-user", "anna", text=f"{PASSWORD}\n").returncode == 0

    def upload() -> tuple[str, str]:
        made = Upload(slices=1)
        subject = create_patient(sandbox.fhir_url, made.patient)
        clinic = Clinic(sandbox.fhir_url)
        clinic.psa(subject, (DEFAULT_WHEN - timedelta(days=10)).date())
        assert store(sandbox_site.stow_url, made.files).status_code == 200
        eventually(lambda: imaging_studies(sandbox.fhir_url, made.uid))
        (study,) = eventually(
            lambda: [
                found
                for found in imaging_studies(sandbox.fhir_url, made.uid)
                if found.get("extension")
            ]
        )
        return made.uid, str(study["id"])

    return sandbox_site, upload


def test_a_person_signs_in_searches_looks_copies_and_leaves(
    site_with_a_linked_study: tuple[Site, Callable[[], tuple[str, str]]],
    new_browser: Callable[..., Chrome],
) -> None:
    site, upload = site_with_a_linked_study
    with running(site):
        uid, name = upload()
        browser, plain = new_browser(), new_browser(scripts=False)
        for each in (browser, plain):
            sign_in(each, f"{site.console_url}/studies")
            finds(each, uid)
            looks_right(each, uid, name)
        assert all(not button.is_displayed() for button in all_of(plain, "[data-copy]"))
        copies(browser, site.console_url)
        for each in (browser, plain):
            complaints = [entry for entry in each.get_log("browser") if entry["level"] == "SEVERE"]
            assert complaints == []
            leaves(each, f"{site.console_url}/studies/{name}")


def finds(browser: Chrome, uid: str) -> None:
    """Search for a study and open its page."""
    one(browser, "#uid").send_keys(uid, Keys.ENTER)
    eventually(lambda: "?at=" in browser.current_url, what="the search")
    arrives(browser, "Studies")
    assert uid not in browser.current_url
    (link,) = all_of(browser, "tbody th a")
    link.click()
    arrives(browser, "MRI prostate")


def leaves(browser: Chrome, url: str) -> None:
    """Sign out, and see nothing any more."""
    one(browser, ".person button").click()
    arrives(browser, "Signed out")
    browser.get(url)
    arrives(browser, "Sign in")


def looks_right(browser: Chrome, uid: str, name: str) -> None:
    """One study's page: pictures, links, addresses, landmarks and names."""
    assert browser.current_url.endswith(f"/studies/{name}")
    images = all_of(browser, ".picture img")
    assert len(images) == 6
    for image in images:
        shows(browser, image)
    drawn = [text.text for text in all_of(browser, "svg.timeline g.mark text")]
    assert "This study" in drawn
    assert "Prostate Specific Antigen" in drawn
    shapes = all_of(browser, "svg.timeline circle, svg.timeline rect")
    study, psa = (shape.location["x"] for shape in shapes)
    assert psa < study
    (row,) = all_of(browser, "#links ~ .wide tbody tr")
    assert "PR_ProstateSpecificAntigen" in row.text
    assert "time/psa-before" in row.text
    address = one(browser, "#study-url-1")
    assert str(address.get_attribute("value")).endswith(f"/studies/{uid}")
    viewer = one(browser, ".viewers a")
    assert viewer.get_attribute("href") == f"https://ohif.example/viewer?uids={uid}"
    assert len(all_of(browser, "h1")) == len(all_of(browser, "main")) == 1
    assert all(accessible_names(browser))
    copying = [button.accessible_name for button in all_of(browser, "[data-copy]:not([hidden])")]
    assert len(set(copying)) == len(copying)
    fits(browser, 400)
    assert all(image.get_attribute("alt") for image in images)
    assert one(browser, "html").get_attribute("lang") == "en"


def fits(browser: Chrome, width: int) -> None:
    """On a narrow screen tables and the timeline are scrolled, the page is not."""
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    widest = "return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    eventually(lambda: browser.execute_script("return innerWidth") == width, what="the width")
    assert browser.execute_script(widest) <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def copies(browser: Chrome, origin: str) -> None:
    """The button puts the address where other programs find it."""
    permissions: dict[str, Any] = {"origin": origin, "permissions": ["clipboardReadWrite"]}
    permissions["permissions"].append("clipboardSanitizedWrite")
    browser.execute_cdp_cmd("Browser.grantPermissions", permissions)
    button, field = one(browser, "[data-copy]"), one(browser, "#study-url-1")
    assert button.is_displayed()
    ActionChains(browser).scroll_to_element(button).perform()
    button.click()
    eventually(lambda: button.text == "Copied", what="the copy")
    assert button.accessible_name == "Copied Study in pacs"
    copied = browser.execute_async_script(
        "navigator.clipboard.readText().then(arguments[arguments.length - 1])"
    )
    assert copied == field.get_attribute("value")


def test_what_others_wrote_runs_nothing(
    sandbox_site: Site, sandbox: Sandbox, new_browser: Callable[..., Chrome]
) -> None:
    """Mode none, on this machine; a study of another system."""
    subject = create_patient(sandbox.fhir_url, Upload(slices=1).patient)
    resource = ours(new_uid(), {"reference": subject}, description=EVIL)
    reference = Clinic(sandbox.fhir_url).create(resource)
    with running(sandbox_site) as site:
        browser = new_browser()
        for path in ("/studies", f"/studies/{reference.partition('/')[2]}"):
            browser.get(site.console_url + path)
            arrives(browser, "")
            assert EVIL in one(browser, "main").text
            assert all_of(browser, "img[src=x]") == []
