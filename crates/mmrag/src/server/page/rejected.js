// Every document that was dropped, and why; and why another one is not there.

import { get, post } from "./api.js";
import { bar, opinion, percent } from "./answer.js";
import { el, fill } from "./dom.js";

const STAGES = {
  read: "could not be read", filter: "dropped by the filter", prompt: "did not fit into the prompt",
};

export function rejected(context, candidates) {
  const dropped = candidates.filter((candidate) => candidate.dropped_at);
  const list = el("ul", { class: "rejected" });
  const chosen = new Set();
  const again = el("button", {
    type: "button", class: "main", disabled: true,
    onclick: () => context.includeAndAsk([...chosen]),
  }, "Include the chosen and ask again");
  const showList = (words) => fill(list, dropped
    .filter((candidate) => `${candidate.title} ${candidate.document}`.toLowerCase().includes(words))
    .map((candidate) => row(context, candidate, chosen, again)));
  showList("");
  return [
    whyNot(context, candidates, showList),
    dropped.length === 0 ? el("p", { class: "quiet" }, "No document was rejected.") : [list, again],
  ];
}

function row(context, candidate, chosen, again) {
  const id = `include-${candidate.document}`;
  const box = el("input", {
    type: "checkbox", id, checked: chosen.has(candidate.document),
    disabled: candidate.dropped_at === "read",
    onchange: () => {
      if (box.checked) chosen.add(candidate.document);
      else chosen.delete(candidate.document);
      again.disabled = chosen.size === 0;
    },
  });
  return el("li", { class: "card" },
    el("h3", {}, box, el("label", { for: id }, candidate.title || candidate.document), " ",
      el("span", { class: "kind" }, candidate.modality)),
    el("p", {}, el("span", { class: "pill" }, STAGES[candidate.dropped_at] ?? candidate.dropped_at), " ",
      candidate.dropped_why),
    candidate.filter && bar("helps", candidate.filter.p,
      `${percent(candidate.filter.p)}, kept from ${percent(candidate.filter.threshold)}`),
    candidate.filter?.reply && el("blockquote", {}, candidate.filter.reply),
    el("div", { class: "row" },
      candidate.dropped_at !== "read" && el("button", {
        type: "button", onclick: () => context.includeAndAsk([candidate.document]),
      }, "Include and ask again"),
      context.asked && candidate.filter && opinion(context.asked, "verdict", candidate.document)));
}

function whyNot(context, candidates, showList) {
  const said = el("div", { role: "status" });
  const field = el("input", {
    id: "why-not", type: "search", placeholder: "title or id of a document",
    oninput: () => showList(field.value.trim().toLowerCase()),
  });
  const ask = async (id) => {
    const { question, images } = context.asking;
    const { collection } = context;
    const why = await post("/v1/why", { question, images, document: id, collection });
    return el("p", { class: "card" }, el("strong", {}, why.document), ": ", why.why, ". ",
      el("button", { type: "button", onclick: () => context.includeAndAsk([id]) }, "Include and ask again"));
  };
  const submit = async (event) => {
    event.preventDefault();
    const words = field.value.trim();
    if (!words) return;
    const seen = candidates.find((c) => c.document === words || c.title === words);
    if (seen) {
      fill(said, el("p", { class: "card" }, el("strong", {}, seen.title || seen.document), ": ",
        seen.dropped_why ?? (seen.cited ? "it is cited" : `it was kept, at place ${seen.rank?.position ?? "?"}`)));
      return;
    }
    try {
      const path = `/v1/documents?limit=3&search=${encodeURIComponent(words)}`
        + `&collection=${encodeURIComponent(context.collection)}`;
      const { data } = await get(path);
      if (data.length === 0) fill(said, el("p", { class: "card" }, "The collection has no such document."));
      else fill(said, await Promise.all(data.map(({ id }) => ask(id))));
    } catch (error) {
      fill(said, el("p", { class: "problem" }, error.message));
    }
  };
  return el("form", { class: "row", onsubmit: submit },
    el("label", { for: "why-not" }, "Why not"), field, el("button", { type: "submit" }, "?"), said);
}
