// Which page is shown, and what all pages share.

import { Refused, setKey } from "./api.js";
import { askPage } from "./ask.js";
import { collectionsPage, documentPage } from "./collections.js";
import { el, fill, notice } from "./dom.js";
import { pastPage } from "./past.js";
import { runsPage } from "./runs.js";

const main = document.getElementById("main");

const pages = {
  ask: askPage,
  asked: askPage,
  collections: collectionsPage,
  document: documentPage,
  past: pastPage,
  runs: runsPage,
};

async function show() {
  const [name = "ask", ...rest] = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean);
  const page = pages[name] ?? askPage;
  for (const link of document.querySelectorAll("nav a")) {
    const is = link.getAttribute("href") === `#/${name}`;
    if (is) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  notice("");
  try {
    await page(main, name, rest.map(decodeURIComponent));
  } catch (error) {
    if (error instanceof Refused && error.status === 401) askForKey(error.message);
    else fill(main, el("p", { class: "problem", role: "alert" }, String(error.message ?? error)));
  }
}

function askForKey(message) {
  const field = el("input", { id: "key", type: "password", autocomplete: "off", required: true });
  const form = el("form", {
    class: "card",
    onsubmit: (event) => {
      event.preventDefault();
      setKey(field.value.trim());
      show();
    },
  }, el("p", {}, message), el("label", { for: "key" }, "API key"), field,
  el("button", { type: "submit" }, "Go on"));
  fill(main, el("h1", {}, "A key is needed"), form);
  field.focus();
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

setTheme(localStorage.getItem("mmrag-theme"));
document.getElementById("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = dark ? "light" : "dark";
  localStorage.setItem("mmrag-theme", theme);
  setTheme(theme);
});

addEventListener("hashchange", show);
addEventListener("keydown", (event) => {
  const typing = /^(input|textarea|select)$/i.test(event.target.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    const question = document.getElementById("question");
    if (question) {
      event.preventDefault();
      question.focus();
    }
  }
});
show();
