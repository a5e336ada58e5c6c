// An answer with everything it rests on.

import { post } from "./api.js";
import { el, fill, tabs } from "./dom.js";
import { evidence } from "./evidence.js";
import { rejected } from "./rejected.js";
import { traceView } from "./trace.js";

export const percent = (p) => (p === null || p === undefined ? "–" : `${(100 * p).toFixed(p < 0.1 ? 1 : 0)} %`);

// Whether something is right, as an example to train on.
export function opinion(asked, about, document) {
  const said = el("span", { class: "said", role: "status" });
  const give = async (right) => {
    try {
      await post("/v1/feedback", { asked, about, document, right });
      said.textContent = "kept, thank you";
    } catch (error) {
      said.textContent = error.message;
    }
  };
  const what = { verdict: "verdict", citation: "citation", answer: "answer" }[about];
  return el("span", { class: "opinion" },
    el("button", { type: "button", "aria-label": `The ${what} is right`, title: `The ${what} is right`,
      onclick: () => give(true) }, "✓"),
    el("button", { type: "button", "aria-label": `The ${what} is wrong`, title: `The ${what} is wrong`,
      onclick: () => give(false) }, "✗"), said);
}

export function answerView(asking, includeAndAsk) {
  const answer = el("p", { class: "answer", "aria-live": "polite" }, "…");
  const about = el("p", { class: "about" });
  const panels = Object.fromEntries(["evidence", "ranking", "reasoning", "rejected", "trace"]
    .map((id) => [id, el("div", {}, el("p", { class: "quiet" }, "…"))]));
  const tabbed = tabs("Why", [
    { id: "evidence", title: "Evidence", panel: panels.evidence },
    { id: "ranking", title: "Ranking", panel: panels.ranking },
    { id: "reasoning", title: "Reasoning", panel: panels.reasoning },
    { id: "rejected", title: "Rejected", panel: panels.rejected },
    { id: "trace", title: "Trace", panel: panels.trace },
  ]);
  const element = el("article", { class: "result" },
    el("h2", { class: "asked" }, asking.question), answer, about, tabbed.element);
  const context = { asking, includeAndAsk, collection: asking.collection, choose: tabbed.choose };
  return {
    element,
    found(candidates) {
      about.textContent = `${candidates.length} documents found; filtering…`;
      fill(panels.ranking, ranking(candidates, null));
    },
    filtered(candidates) {
      const kept = candidates.filter((candidate) => !candidate.dropped_at).length;
      about.textContent = `${kept} of ${candidates.length} documents kept; reading them…`;
      fill(panels.ranking, ranking(candidates, null));
      fill(panels.rejected, rejected(context, candidates));
    },
    written({ reasoning, answer: text }) {
      if (reasoning) fill(panels.reasoning, el("p", { class: "growing" }, reasoning));
      if (text) answer.textContent = text;
    },
    done(explanation, trace) {
      context.asked = explanation.id;
      context.explanation = explanation;
      showAnswer(answer, about, explanation, tabbed.choose);
      fill(panels.evidence, evidence(context));
      fill(panels.ranking, ranking(explanation.candidates, explanation));
      fill(panels.reasoning, reasoning(explanation));
      fill(panels.rejected, rejected(context, explanation.candidates));
      fill(panels.trace, traceView(context, trace));
    },
    failed(message) {
      answer.classList.add("problem");
      answer.setAttribute("role", "alert");
      answer.textContent = message;
      about.textContent = "";
    },
  };
}

function showAnswer(answer, about, explanation, choose) {
  const { fallback, abstained, confidence } = explanation;
  const words = fallback ? `No answer: ${fallback.why}.`
    : abstained ? "The documents do not hold the answer." : explanation.answer;
  answer.classList.toggle("none", abstained);
  fill(answer, words, explanation.citations.map((citation) => el("a", {
    class: "chip", href: `#evidence-${citation.label}`,
    title: citation.quote ? `${citation.title}: “${citation.quote}”` : citation.title,
    "aria-label": `Citation ${citation.label}: ${citation.title}`,
    onclick: (event) => {
      event.preventDefault();
      choose("evidence", false);
      const card = document.getElementById(`evidence-${citation.label}`);
      card?.scrollIntoView({ block: "nearest" });
      card?.focus();
    },
  }, `[${citation.label}]`)));
  fill(about,
    confidence !== null && el("span", {
      class: "pill", title: "The mean probability of the answer's tokens, calibrated where the model comes with a calibration",
    }, `confidence ${percent(confidence)}`),
    ` ${explanation.candidates.length} documents seen, `,
    `${explanation.candidates.filter((c) => c.dropped_at).length} rejected, `,
    `${(explanation.timings_ms.total / 1000).toFixed(2)} s `,
    opinion(explanation.id, "answer"));
}

const SOURCES = {
  bm25: "words", dense: "meaning", image: "picture", picture: "like the question's picture", fused: "together",
};

function ranking(candidates, explanation) {
  const place = (candidate) => candidate.rank?.position ?? Infinity;
  const rows = candidates.map((candidate, found) => ({ candidate, found }))
    .filter(({ candidate }) => !candidate.dropped_at)
    .sort((a, b) => place(a.candidate) - place(b.candidate) || a.found - b.found);
  if (rows.length === 0) return el("p", { class: "quiet" }, "No document was kept.");
  return el("ol", { class: "ranking" }, rows.map(({ candidate }) => el("li", { class: "card" },
    el("h3", {},
      candidate.rank && el("span", { class: "label" }, `[${candidate.rank.label}]`), " ",
      candidate.title || candidate.document, " ",
      el("span", { class: "kind" }, candidate.modality),
      candidate.cited && el("span", { class: "pill" }, "cited")),
    bar("helps", candidate.filter?.p, percent(candidate.filter?.p)),
    el("p", { class: "quiet" }, candidate.retrieval.map(({ source, rank, score, approximate }) =>
      `${SOURCES[source] ?? source}: place ${rank}${approximate ? " of what was looked at" : ""}, score ${score.toFixed(2)}`).join(" · ")
      || "not found by search; shown because it was asked for"),
    candidate.rank?.reason && el("p", {}, candidate.rank.reason),
    candidate.filter && el("p", { class: "quiet" }, candidate.filter.why),
    candidate.filter?.reply && el("blockquote", {}, candidate.filter.reply),
    explanation && candidate.filter && opinion(explanation.id, "verdict", candidate.document))));
}

export function bar(name, share, text) {
  if (share === null || share === undefined) return null;
  return el("div", { class: "bar" }, el("span", {}, name),
    el("span", { class: "track" }, el("span", { class: "value", style: { width: `${100 * share}%` } })),
    el("span", {}, text));
}

function reasoning(explanation) {
  if (explanation.reasoning.length === 0) {
    return el("p", { class: "quiet" }, explanation.fallback?.reply
      ? ["The reply could not be read: ", el("q", {}, explanation.fallback.reply)]
      : "There is no reasoning.");
  }
  const title = (id) => explanation.candidates.find((c) => c.document === id)?.title || id;
  return el("ol", { class: "steps" }, explanation.reasoning.map((step) => el("li", {}, step.text,
    step.documents.map((id) => el("span", { class: "chip still" }, title(id))))));
}
