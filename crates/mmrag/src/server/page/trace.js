// How the answer came about: times, prompts, and asking again.

import { post } from "./api.js";
import { el, fill } from "./dom.js";

export function traceView(context, trace) {
  const { explanation, asked, asking } = context;
  const { timings_ms: times } = explanation;
  const stages = ["retrieve", "filter", "rank"];
  const said = el("div", { role: "status" });
  const link = new URL(`#/asked/${asked}`, location.href.split("#")[0]).href;
  const body = JSON.stringify({ question: asking.question, collection: asking.collection });
  const command = `curl ${location.origin}/v1/ask -H 'Content-Type: application/json' `
    + `-d '${body.replaceAll("'", "'\\''")}'`;
  const replay = async () => {
    fill(said, "asking again…");
    try {
      const { same, differs } = await post(`/v1/asked/${encodeURIComponent(asked)}/replay`, {});
      fill(said, same ? "Asked again: the explanation is the same to the byte, times aside."
        : `Asked again: it differs in ${differs.join(", ")}.`);
    } catch (error) {
      fill(said, error.message);
    }
  };
  const copy = (text, what) => el("button", {
    type: "button",
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(text);
        fill(said, `${what} is copied.`);
      } catch {
        fill(said, text);
      }
    },
  }, `Copy ${what}`);
  return [
    el("div", { class: "times" }, stages.map((stage) => el("div", { class: "bar" },
      el("span", {}, stage),
      el("span", { class: "track" }, el("span", {
        class: "value", style: { width: `${100 * times[stage] / Math.max(times.total, 1e-9)}%` },
      })),
      el("span", {}, `${times[stage].toFixed(1)} ms`)))),
    el("dl", {},
      fact("model", [explanation.model, ...explanation.adapters].join(" + ")),
      fact("collection", `${explanation.collection ?? "came with the question"}, version ${explanation.index_version}`),
      fact("seed", explanation.seed),
      trace?.prompt_tokens && fact("tokens", `${trace.prompt_tokens} read, ${trace.reply_tokens} written`),
      fact("permalink", el("a", { href: `#/asked/${asked}` }, link))),
    el("div", { class: "row" }, el("button", { type: "button", onclick: replay }, "Replay"),
      copy(link, "the link"), copy(command, "as curl")), said,
    part("What the filter was asked of the first document", trace?.filter_prompt),
    part("What the ranker was asked", trace?.rank_prompt),
    part("What it replied", trace?.reply),
    part("The explanation as JSON", JSON.stringify(explanation, null, 2)),
  ];
}

function fact(name, value) {
  return [el("dt", {}, name), el("dd", {}, value)];
}

function part(name, text) {
  return text && el("details", {}, el("summary", {}, name), el("pre", { tabindex: "0" }, text));
}
