/** Try the search of a collection without asking a model: the passages it finds, and their scores. */

import * as api from "./api.js";
import { excerpt } from "./answer.js";
import { fill, make } from "./elements.js";
import { phrase } from "./i18n.js";
import { pages } from "./source.js";
import { attempt, bar, choice, trouble } from "./widgets.js";

const MODES = ["hybrid", "dense", "keyword"];

export class Retrieval {
  constructor(shell) {
    this.shell = shell;
    this.problem = trouble();
    this.query = make("input", { type: "search", required: true, "aria-label": phrase("retrieval.query"), placeholder: phrase("retrieval.query") });
    this.mode = choice(MODES.map((each) => [each, phrase(`retrieval.mode.${each}`)]), "hybrid", { "aria-label": phrase("retrieval.mode") });
    this.rerank = make("input", { type: "checkbox", id: "retrieval-rerank" });
    this.section = make("input", { type: "checkbox", id: "retrieval-section" });
    this.go = make("button", { type: "submit", class: "button button-plain" }, phrase("retrieval.go"));
    this.hits = make("ol", { class: "hits" });
    const submit = (event) => {
      event.preventDefault();
      attempt(this.go, this.problem, () => this.#search());
    };
    this.node = make(
      "details",
      { class: "more retrieval" },
      make("summary", {}, phrase("retrieval.title")),
      make("form", { class: "retrieval-form", on: { submit } }, this.query, this.mode, this.go, this.#boxes()),
      this.problem.node,
      this.hits,
    );
  }

  #boxes() {
    const boxed = (box, key) => make("label", { class: "retrieval-box", for: box.id }, box, phrase(key));
    return make("p", { class: "retrieval-boxes" }, boxed(this.rerank, "retrieval.rerank"), boxed(this.section, "retrieval.section"));
  }

  clear() {
    fill(this.hits);
    this.problem.clear();
  }

  async #search() {
    const { collection } = this.shell;
    const request = { query: this.query.value, collection, search_mode: this.mode.value, k: 10 };
    if (this.rerank.checked) request.rerank = true;
    if (this.section.checked) request.context = "section";
    const { hits } = await api.search(request);
    if (!hits.length) fill(this.hits, make("li", { class: "quiet" }, phrase("retrieval.none")));
    else fill(this.hits, hits.map((hit, at) => this.#hit(hit, at, hits, collection)));
  }

  #hit(hit, at, hits, collection) {
    const open = (event) => this.shell.source.open(hits, at, collection, event.currentTarget);
    const facts = [
      [phrase("retrieval.score"), hit.score],
      hit.dense_score !== null && [phrase("retrieval.dense"), hit.dense_score],
      hit.keyword_score !== null && [phrase("retrieval.keyword"), hit.keyword_score],
    ];
    return make(
      "li",
      { class: at ? "hit" : "hit chosen" },
      make("button", { type: "button", class: "document-open", on: { click: open } }, hit.title || hit.path),
      make("span", { class: "hint" }, [pages(hit), " ", hit.heading_path.join(" › ")]),
      bar(hit.score),
      make("p", { class: "hit-text" }, excerpt(hit.text)),
      hit.section && make("details", { class: "hit-section" }, make("summary", {}, phrase("retrieval.around")), make("p", {}, hit.section.text)),
      make("ul", { class: "facts" }, facts.filter(Boolean).map(([name, value]) => make("li", {}, name, " ", phrase("score", { value })))),
    );
  }
}
