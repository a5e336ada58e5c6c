// What the answer cites: the text with its quote, the table with its cells, the picture.

import { get, path_of, picture } from "./api.js";
import { opinion } from "./answer.js";
import { el, fill, svg } from "./dom.js";

export function evidence(context) {
  const { explanation } = context;
  if (explanation.citations.length === 0) {
    return el("p", { class: "quiet" }, "The answer cites no document.");
  }
  return explanation.citations.map((citation) => {
    const box = el("div", {}, el("p", { class: "quiet" }, "…"));
    const looked = (explanation.attribution ?? []).find((found) => found.document === citation.document);
    show(context, { ...citation, looked }, box);
    return el("article", { class: "card", id: `evidence-${citation.label}`, tabindex: "-1" },
      el("h3", {}, el("span", { class: "label" }, `[${citation.label}]`), " ",
        citation.title || citation.document, " ", el("span", { class: "kind" }, citation.modality)),
      box, opinion(context.asked, "citation", citation.document));
  });
}

async function show(context, citation, box) {
  if (!context.collection) {
    fill(box, citation.quote ? el("q", {}, citation.quote)
      : el("p", { class: "quiet" }, "The document came with the question and is not kept here."));
    return;
  }
  try {
    fill(box, await documentView(context.collection, citation.document, citation));
  } catch (error) {
    fill(box, citation.quote && el("q", {}, citation.quote), el("p", { class: "problem" }, error.message));
  }
}

// A document of a collection, with what is cited of it marked.
export async function documentView(collection, id, cited = {}) {
  const found = await get(`/v1/documents/${path_of(id)}?collection=${encodeURIComponent(collection)}`);
  if (found.text !== undefined) return el("p", { class: "text" }, marked(found.text, cited.span));
  if (found.table) return table(found.table, cited.cells ?? [], cited.span);
  const source = await picture(collection, id);
  return el("figure", {},
    el("div", { class: "picture" },
      el("img", { src: source, alt: found.title || "the cited picture" }),
      (cited.boxes ?? []).map((box) => el("span", { class: "box", style: {
        left: `${100 * box.x0}%`, top: `${100 * box.y0}%`,
        width: `${100 * (box.x1 - box.x0)}%`, height: `${100 * (box.y1 - box.y0)}%`,
      } })),
      cited.looked && heat(cited.looked)),
    el("figcaption", {}, marked(found.title, cited.span),
      cited.looked && el("p", { class: "quiet" }, helped(cited.looked))));
}

// Which parts of a picture the answer rests on: the more a patch adds, the less is seen through it.
function heat({ grid: [rows, columns], values }) {
  const most = Math.max(0, ...values);
  return svg("svg", { class: "heat", viewBox: `0 0 ${columns} ${rows}`, preserveAspectRatio: "none",
    "aria-hidden": "true" },
  values.map((value, patch) => value > 0 && svg("rect", {
    x: patch % columns, y: Math.floor(patch / columns), width: 1, height: 1,
    "fill-opacity": (0.75 * value / most).toFixed(2), class: value === most ? "peak" : "",
  })));
}

// The same in words.
function helped({ grid: [rows, columns], values, told }) {
  const what = told === "answer" ? "The answer" : "The reasoning";
  const most = Math.max(...values);
  if (!(most > 0)) return `${what} rests on no part of the picture.`;
  const at = values.indexOf(most);
  const third = (place, of, names) => names[Math.min(2, Math.floor((3 * (place + 0.5)) / of))];
  const down = third(Math.floor(at / columns), rows, ["upper", "middle", "lower"]);
  const across = third(at % columns, columns, ["left", "middle", "right"]);
  const where = down === across ? "middle" : `${down} ${across}`;
  return `${what} rests most on the ${where} of the picture (gradient × input).`;
}

// A span counts characters, JavaScript counts halves of some: so the text is cut into characters.
function marked(text, span) {
  if (!span) return text;
  const characters = Array.from(text);
  const part = (from, to) => characters.slice(from, to).join("");
  return [part(0, span[0]), el("mark", {}, part(span[0], span[1])), part(span[1])];
}

function table({ name, header, rows }, cells, span) {
  const is_cited = (row, column) => cells.some(([r, c]) => r === row && c === column);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name || "table" },
    el("table", {},
      name && el("caption", {}, name),
      el("thead", {}, el("tr", {}, header.map((cell) => el("th", { scope: "col" }, cell)))),
      el("tbody", {}, rows.map((row, r) => el("tr", {}, row.map((cell, c) => (
        is_cited(r, c) ? el("td", { class: "cited" }, marked(cell, span)) : el("td", {}, cell))))))));
}
