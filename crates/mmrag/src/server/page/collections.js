// Collections: what is in them, adding to them and taking out.

import { get, path_of, remove, send, sendFile } from "./api.js";
import { el, fill, notice } from "./dom.js";
import { documentView } from "./evidence.js";
import { documentsOf, isReadThere } from "./files.js";

// A request holds documents up to about this many characters.
const BATCH = 8e6;

export async function collectionsPage(main, _, [name]) {
  const { data } = await get("/v1/collections");
  const chosen = data.find((collection) => collection.id === name) ?? data[0];
  if (!chosen) {
    fill(main, el("h1", {}, "Collections"), el("p", { class: "quiet" }, "There is none that is open to you."));
    return;
  }
  const reload = () => collectionsPage(main, _, [chosen.id]);
  fill(main, el("h1", {}, "Collections"),
    el("nav", { "aria-label": "Collections", class: "row" }, data.map((collection) => el("a", {
      class: "button", href: `#/collections/${encodeURIComponent(collection.id)}`,
      "aria-current": collection === chosen ? "page" : undefined,
    }, `${collection.id} (${collection.documents})`))),
    !chosen.kept && el("p", { class: "quiet" },
      "This collection is held in memory: what is added is gone when the server stops."),
    upload(chosen.id, reload), await documents(chosen.id, reload));
}

function upload(collection, reload) {
  const bar = el("progress", { max: "1", value: "0", hidden: true, "aria-label": "Upload" });
  const problems = el("ul", { class: "problem" });
  const doing = el("p", { class: "quiet", "aria-live": "polite" });
  const take = async (files) => {
    bar.hidden = false;
    problems.replaceChildren();
    const problem = (file, error) => problems.append(el("li", {}, `${file}: ${error.message}`));
    let added = 0;
    let held = [];
    const flush = async (done) => {
      if (held.length === 0) return;
      const answer = await send("/v1/documents", { collection, documents: held }, (share) => {
        bar.value = (done - 1 + share) / files.length;
      });
      added += answer.added.length;
      held = [];
    };
    // The server reads these, which takes longer than sending them.
    const read = async (at, file) => {
      const path = `/v1/files?stream=true&collection=${encodeURIComponent(collection)}&name=${encodeURIComponent(file.name)}`;
      let documents = 0;
      const share = (done) => {
        bar.value = (at + done) / files.length;
      };
      doing.textContent = `${file.name} is sent`;
      const answer = await sendFile(path, file, (sent) => share(0.3 * sent), (step, told) => {
        if (step === "reading") doing.textContent = `${file.name} is read`;
        if (step === "embedded") share(0.6 + 0.4 * told.documents / Math.max(documents, 1));
        if (step === "read") {
          documents = told.documents;
          doing.textContent = `${file.name}: ${documents} documents are added`;
          share(0.6);
        }
      });
      for (const note of answer.notes ?? []) problem(file.name, new Error(note));
      for (const { document, why } of answer.not_embedded ?? []) problem(document, new Error(why));
      added += answer.added.length;
    };
    for (const [at, file] of [...files].entries()) {
      try {
        if (isReadThere(file)) {
          await read(at, file);
          bar.value = (at + 1) / files.length;
          continue;
        }
        for (const document of await documentsOf(file)) {
          held.push(document);
          if (held.length >= 500 || JSON.stringify(held).length > BATCH) await flush(at + 1);
        }
      } catch (error) {
        problem(file.name, error);
      }
      bar.value = (at + 1) / files.length;
    }
    try {
      await flush(files.length);
    } catch (error) {
      problem("upload", error);
    }
    doing.textContent = "";
    if (problems.childElementCount === 0) await reload();
    notice(`${added} documents were added to ${collection}.`);
  };
  const picker = el("input", {
    id: "upload", type: "file", multiple: true, onchange: () => take(picker.files),
  });
  return el("div", {
    class: "card drop",
    ondragover: (event) => event.preventDefault(),
    ondrop: (event) => {
      event.preventDefault();
      take(event.dataTransfer.files);
    },
  }, el("label", { for: "upload" }, "Add pictures, PDF, HTML, text, Markdown, tables or JSON Lines (or drop them here)"),
  picker, bar, doing, problems);
}

async function documents(collection, reload) {
  const list = el("ul", { class: "documents" });
  const more = el("button", { type: "button" }, "More");
  const words = el("input", { id: "words", type: "search", placeholder: "words or an id" });
  let from = 0;
  const load = async () => {
    const path = `/v1/documents?collection=${encodeURIComponent(collection)}&limit=50&from=${from}`
      + (words.value.trim() && `&search=${encodeURIComponent(words.value.trim())}`);
    const { data, has_more } = await get(path);
    for (const { id, title, modality } of data) {
      from += 1;
      list.append(el("li", {},
        el("a", { href: `#/document/${encodeURIComponent(collection)}/${encodeURIComponent(id)}` }, title || id), " ",
        el("span", { class: "kind" }, modality), " ",
        el("button", {
          type: "button", "aria-label": `Take ${title || id} out of ${collection}`,
          onclick: async () => {
            if (!confirm(`Take “${title || id}” out of ${collection}?`)) return;
            await remove(`/v1/documents/${path_of(id)}?collection=${encodeURIComponent(collection)}`);
            await reload();
          },
        }, "×")));
    }
    more.hidden = !has_more;
    if (list.childElementCount === 0) list.append(el("li", { class: "quiet" }, words.value.trim() ? "No such document." : "No document yet."));
  };
  more.addEventListener("click", load);
  await load();
  const search = (event) => {
    event.preventDefault();
    from = 0;
    list.replaceChildren();
    return load();
  };
  return [
    el("form", { class: "row", role: "search", onsubmit: search },
      el("label", { for: "words" }, "Find"), words, el("button", { type: "submit" }, "Find")),
    list, more,
  ];
}

export async function documentPage(main, _, [collection, id]) {
  fill(main, el("h1", {}, id),
    el("p", {}, el("a", { href: `#/collections/${encodeURIComponent(collection)}` }, collection)),
    el("article", { class: "card" }, await documentView(collection, id)));
}
