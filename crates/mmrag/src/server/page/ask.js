// Ask, and watch the answer grow.

import { events, get } from "./api.js";
import { answerView } from "./answer.js";
import { el, fill, notice } from "./dom.js";
import { readAsDataUrl } from "./files.js";

let draft = { question: "", images: [], collection: null, attribute: false };

export async function askPage(main, name, [id]) {
  const { data: collections } = await get("/v1/collections");
  const result = el("div", { id: "result" });
  let record = null;
  if (name === "asked" && id) {
    record = await get(`/v1/asked/${encodeURIComponent(id)}`);
    draft = {
      question: record.explanation.question.text,
      images: record.asking?.images ?? [],
      collection: record.collection,
      attribute: record.asking?.attribute ?? false,
    };
  }
  const form = askForm(collections, (asking) => run(result, asking));
  fill(main, el("h1", { class: "hidden" }, "Ask"), form, result);
  if (record) showRecord(result, record);
  else form.querySelector("#question").focus();
}

function askForm(collections, ask) {
  const question = el("textarea", {
    id: "question", rows: "2", required: true, placeholder: "What do you want to know?",
    "aria-keyshortcuts": "/",
    onkeydown: (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    },
  });
  question.value = draft.question;
  const where = el("select", { id: "collection" }, collections.map(({ id, documents }) =>
    el("option", { value: id, selected: id === draft.collection },
      `${id} (${documents} documents)`)));
  const shown = el("ul", { class: "thumbnails", "aria-label": "Pictures of the question" });
  const showPictures = () => fill(shown, draft.images.map((url, place) => el("li", {},
    el("img", { src: url, alt: `picture ${place + 1} of the question` }),
    el("button", {
      type: "button", "aria-label": `Take picture ${place + 1} away`,
      onclick: () => {
        draft.images.splice(place, 1);
        showPictures();
      },
    }, "×"))));
  const take = async (files) => {
    for (const file of files) {
      if (file.type.startsWith("image/")) draft.images.push(await readAsDataUrl(file));
    }
    showPictures();
  };
  const files = el("input", {
    id: "pictures", type: "file", accept: "image/*", multiple: true, class: "hidden",
    onchange: () => take(files.files),
  });
  const attribute = el("input", { id: "attribute", type: "checkbox", checked: draft.attribute });
  const form = el("form", {
    class: "ask",
    onsubmit: (event) => {
      event.preventDefault();
      draft.question = question.value;
      draft.collection = where.value;
      draft.attribute = attribute.checked;
      const asking = { question: question.value, images: draft.images, collection: where.value };
      ask(attribute.checked ? { ...asking, attribute: true } : asking);
    },
    onpaste: (event) => take(event.clipboardData?.files ?? []),
    ondragover: (event) => event.preventDefault(),
    ondrop: (event) => {
      event.preventDefault();
      take(event.dataTransfer.files);
    },
  },
  el("label", { for: "question", class: "hidden" }, "Question"), question,
  el("div", { class: "row" },
    el("label", { for: "collection" }, "From"), where, files,
    el("label", { for: "pictures", class: "button", tabindex: "0",
      onkeydown: (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          files.click();
        }
      } }, "Add a picture"),
    el("label", { class: "check", title: "Takes longer, and a local model" },
      attribute, " Show where pictures helped"),
    el("button", { type: "submit", class: "main" }, "Ask")), shown);
  showPictures();
  return form;
}

let running = null;

export async function run(result, asking) {
  running?.abort();
  const stop = new AbortController();
  running = stop;
  const view = answerView(asking, (include) => {
    run(result, { ...asking, include: [...new Set([...(asking.include ?? []), ...include])] });
  });
  fill(result, view.element);
  notice("Asking…");
  try {
    for await (const [name, value] of events("/v1/ask", { ...asking, stream: true, trace: true }, stop.signal)) {
      if (name === "found") view.found(value.candidates);
      else if (name === "filtered") view.filtered(value.candidates);
      else if (name === "written") view.written(value);
      else if (name === "done") {
        view.done(value, value.trace);
        notice("The answer is there.");
        history.replaceState(null, "", `#/asked/${value.id}`);
      } else if (name === "error") throw new Error(value.error.message);
    }
  } catch (error) {
    if (stop.signal.aborted) return;
    notice("");
    view.failed(error.message);
  }
}

function showRecord(result, record) {
  const { explanation, collection } = record;
  const asking = record.asking
    ?? { question: explanation.question.text, images: [], collection };
  const view = answerView({ ...asking, collection }, (include) => {
    run(result, { question: asking.question, images: asking.images ?? [], collection,
      attribute: asking.attribute, include: [...new Set([...(asking.include ?? []), ...include])] });
  });
  fill(result, view.element);
  view.done({ ...explanation, id: record.id, collection }, record.trace);
}
