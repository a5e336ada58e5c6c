// Questions that were asked before.

import { get } from "./api.js";
import { el, fill } from "./dom.js";

export async function pastPage(main) {
  const { data } = await get("/v1/asked");
  const time = (at) => new Date(1000 * at).toLocaleString();
  fill(main, el("h1", {}, "Past questions"), data.length === 0
    ? el("p", { class: "quiet" }, "Nothing was asked yet.")
    : el("ul", { class: "past" }, data.map((asked) => el("li", { class: "card" },
      el("a", { href: `#/asked/${asked.id}` }, asked.question),
      el("p", {}, asked.abstained ? "no answer" : asked.answer),
      el("p", { class: "quiet" }, `${time(asked.at)} · ${asked.collection ?? "own documents"}`)))));
}
