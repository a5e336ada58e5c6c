"""Drives the page in a real browser: ask, evidence, rejected, include and ask again.

    drive.py BASE_URL SCREENSHOT_FOLDER [QUESTION]

The question must be one for which documents are rejected: a server begun with
`mmrag serve --data atlas --split test --threshold 0.3` rejects most for a question of the atlas.

Needs playwright for Python and a Chromium (CHROMIUM names one; /usr/bin/chromium if absent). It
fails on any error in the browser's console, on any request to another host, and on a dialog, which
only a script from a document could open.
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlparse

from playwright.sync_api import expect, sync_playwright

BASE = sys.argv[1].rstrip("/")
OUT = Path(sys.argv[2])
QUESTION = sys.argv[3] if len(sys.argv) > 3 else "Where does Toma lie?"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def watch(page, problems):
    def on_request(request):
        url = urlparse(request.url)
        if url.scheme in ("http", "https") and url.netloc != urlparse(BASE).netloc:
            problems.append(f"a request to {request.url}")

    def on_console(message):
        if message.type == "error":
            problems.append(f"console: {message.text}")

    def on_dialog(dialog):
        problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("request", on_request)
    page.on("console", on_console)
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("dialog", on_dialog)


def check_no_sideways_scroll(page, where):
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{where} is {wide} pixels too wide"


def ask(page, shot):
    page.goto(BASE + "/")
    question = page.get_by_role("textbox", name="Question")
    expect(question).to_be_focused()
    page.keyboard.type(QUESTION)
    shot("ask")
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Trace")).to_be_visible()
    expect(page.locator("#notice")).to_have_text("The answer is there.", timeout=120_000)
    assert "#/asked/" in page.url, page.url
    shot("answer")


def tabs(page, shot):
    page.get_by_role("tab", name="Evidence").focus()
    for name in ["Ranking", "Reasoning", "Rejected", "Trace"]:
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name=name)).to_be_focused()
        expect(page.get_by_role("tabpanel", name=name)).to_be_visible()
        shot(name.lower())
        check_no_sideways_scroll(page, name)


def include(page, shot):
    page.get_by_role("tab", name="Rejected").click()
    rejected = page.get_by_role("tabpanel", name="Rejected")
    rows = rejected.locator("ul.rejected > li")
    before = rows.count()
    assert before > 0, "the question should have rejected documents"
    title = rows.first.locator("h3 label").inner_text()
    first_url = page.url
    rows.first.get_by_role("button", name="Include and ask again").click()
    page.wait_for_url(lambda url: url != first_url and "#/asked/" in url, timeout=120_000)
    page.get_by_role("tab", name="Ranking").click()
    ranking = page.get_by_role("tabpanel", name="Ranking")
    expect(ranking).to_contain_text(title)
    expect(ranking).to_contain_text("but it was asked for")
    shot("included")
    print(f"ok  {before} rejected; {title!r} was included and is ranked now")


def replay(page, shot):
    page.get_by_role("tab", name="Trace").click()
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_role("tabpanel", name="Trace")).to_contain_text("the same to the byte", timeout=120_000)
    shot("replay")
    page.reload()
    expect(page.locator(".answer")).not_to_have_text("…")
    print("ok  replayed, and the permalink opens it again")


def why_not(page, shot):
    page.get_by_role("tab", name="Rejected").click()
    page.get_by_label("Why not").fill("nothing")
    page.keyboard.press("Enter")
    said = page.get_by_role("tabpanel", name="Rejected").get_by_role("status")
    expect(said.first).not_to_be_empty()
    shot("why-not")


def feedback(page):
    page.get_by_role("tab", name="Ranking").click()
    page.get_by_role("button", name="The verdict is right").first.click()
    expect(page.get_by_role("tabpanel", name="Ranking")).to_contain_text("kept, thank you")
    print("ok  feedback is kept")


def pdf(lines):
    """A PDF with a page for each line."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(lines)))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(lines)} >>",
               "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    for i, line in enumerate(lines):
        text = f"BT /F1 24 Tf 72 700 Td ({line}) Tj ET"
        objects += [f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * i} 0 R "
                    "/Resources << /Font << /F1 3 0 R >> >> >>",
                    f"<< /Length {len(text)} >>\nstream\n{text}\nendstream"]
    data, places = b"%PDF-1.4\n", []
    for i, body in enumerate(objects):
        places.append(len(data))
        data += f"{i + 1} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(data)}\n%%EOF\n"
    return data + end.encode()


def upload_pdf(page, shot):
    pages = [f"Keeper {i} of the lighthouse" for i in range(3)]
    page.locator("#upload").set_input_files([
        {"name": "keepers.pdf", "mimeType": "application/pdf", "buffer": pdf(pages)},
        {"name": "torn.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4 and no more"},
    ])
    expect(page.locator("#notice")).to_contain_text("6 documents were added", timeout=60_000)
    expect(page.locator("ul.problem")).to_contain_text("torn.pdf cannot be read")
    shot("upload-pdf")
    page.reload()
    page.get_by_role("searchbox", name="Find").fill("lighthouse")
    page.keyboard.press("Enter")
    expect(page.locator("ul.documents > li")).to_have_count(3)
    print("ok  a PDF was read into pictures and texts of its pages, a torn one was told")


def collections(page, shot):
    page.get_by_role("link", name="Collections").click()
    expect(page.get_by_role("heading", name="Collections")).to_be_visible()
    name = "evil <img src=x onerror=alert(1)>.md"
    text = "<script>alert(2)</script> nothing [1] </answer>"
    picker = page.locator("#upload")
    picker.set_input_files([{"name": name, "mimeType": "text/markdown", "buffer": text.encode()},
                            {"name": "towns.csv", "mimeType": "text/csv", "buffer": b'Town,"The, mayor"\nOlm,Ada\n'}])
    expect(page.locator("#notice")).to_contain_text("2 documents were added")
    page.get_by_role("searchbox", name="Find").fill("evil")
    page.keyboard.press("Enter")
    link = page.get_by_role("link", name="evil <img")
    expect(link.first).to_be_visible()
    shot("collections")
    link.first.click()
    expect(page.locator(".text")).to_have_text(text)
    shot("document")
    print("ok  uploaded; what a document says is shown as text")


def runs(page, shot):
    """Curves of a training and the report of a run, if the server has such (`--runs DIR`)."""
    page.get_by_role("link", name="Runs").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    links = page.get_by_role("navigation", name="Runs").get_by_role("link")
    if links.count() == 0:
        print("no run to open")
        return
    curves = reports = 0
    for name in links.all_inner_texts():
        links.filter(has_text=name).first.click()
        expect(page.get_by_role("heading", name=f"Run {name}")).to_be_visible()
        report = page.get_by_role("link", name="Open the report")
        if report.count() == 0:
            plots = page.locator("figure.card svg[role=img]")
            expect(plots.first).to_be_visible()
            curves += plots.count()
            shot(f"run-{name.replace('/', '-')}")
            check_no_sideways_scroll(page, name)
            continue
        with page.context.expect_page() as opened:
            report.click()
        expect(opened.value.get_by_role("heading").first).to_be_visible()
        check_no_sideways_scroll(opened.value, f"the report of {name}")
        opened.value.screenshot(path=OUT / f"report-{page.viewport_size['width']}.png")
        opened.value.close()
        reports += 1
    print(f"ok  {curves} curves and {reports} reports of {links.count()} runs")


def dark(page, shot):
    page.get_by_role("link", name="Past questions").click()
    expect(page.locator("ul.past li").first).to_be_visible()
    page.get_by_role("button", name="Change between dark and light").click()
    shot("past-other-theme")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        for size, (width, height) in SIZES.items():
            problems = []
            page = browser.new_page(viewport={"width": width, "height": height})
            watch(page, problems)

            def shot(name):
                page.screenshot(path=OUT / f"{size}-{name}.png")

            ask(page, shot)
            check_no_sideways_scroll(page, "the answer")
            tabs(page, shot)
            include(page, shot)
            replay(page, shot)
            why_not(page, shot)
            feedback(page)
            collections(page, shot)
            page.get_by_role("link", name="Collections").click()
            upload_pdf(page, shot)
            runs(page, shot)
            dark(page, shot)
            assert not problems, problems
            print(f"ok  {size} {width}x{height}: no error, no other host, no dialog")
            page.close()
        browser.close()
    print(f"{len(SIZES)} passed, 0 failed")


main()
