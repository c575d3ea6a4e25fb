/**
 * The Compare view: one question, asked of several at the same time, side by side.
 *
 * Own models take turns in the engine's one slot, so they are asked one after the other and their times are their own;
 * models of other servers are asked meanwhile.
 */

import * as api from "./api.js";
import { linkMarkers } from "./answer.js";
import { announce, fill, icon, iconButton, make, sanitised } from "./elements.js";
import { phrase } from "./i18n.js";
import { choice, offer, trouble } from "./widgets.js";

const MODES = ["rag", "closed_book", "quote"];
const MOST = 4; // columns
const upstream = (model) => model.includes("/");

export function create(shell) {
  const view = new CompareView(shell);
  return { node: view.node, show: () => view.refresh() };
}

class CompareView {
  #shell;
  #columns = [];
  #controller = null;

  constructor(shell) {
    this.#shell = shell;
    this.problem = trouble();
    this.question = make("textarea", { rows: "2", class: "growing", "aria-label": phrase("ask.question"), placeholder: phrase("compare.placeholder"), required: true });
    this.question.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      if (!this.#controller) this.form.requestSubmit();
    });
    this.go = make("button", { type: "submit", class: "button" }, phrase("compare.go"));
    this.add = make("button", { type: "button", class: "text-button add", on: { click: () => this.#add() } }, icon("plus"), phrase("compare.add"));
    this.form = make(
      "form",
      {
        class: "compare-form",
        on: {
          submit: (event) => {
            event.preventDefault();
            if (this.#controller) this.#controller.abort();
            else this.#run();
          },
        },
      },
      this.question,
      make("div", { class: "row" }, this.go, this.add),
    );
    this.columns = make("div", { class: "columns" });
    this.node = make(
      "section",
      { class: "bench wide compare" },
      make("header", { class: "bench-head" }, make("h1", { tabindex: "-1" }, phrase("compare.title")), make("p", { class: "lead" }, phrase("compare.lead"))),
      this.form,
      this.problem.node,
      this.columns,
    );
  }

  async refresh() {
    try {
      this.#shell.know(await api.models());
      this.problem.clear();
    } catch (error) {
      this.problem.show(error);
    }
    const { models, model } = this.#shell;
    if (!this.#columns.length) {
      // The adapters that came along read passages or write questions on them: alone they have nothing to say.
      const trained = (name) => /\+(?!grounded-qa$|question-writer$)/.test(name);
      const adapter = model?.includes("+") ? model : models.find(trained);
      const other = models.find(upstream);
      const plain = model?.split("+")[0] ?? models[0];
      this.#add(plain, "rag");
      this.#add(adapter ?? plain, "closed_book");
      if (other) this.#add(other, "closed_book");
    }
    for (const column of this.#columns) offer(column.model, models);
    // An adapter that was just chosen elsewhere is among those that are asked.
    if (model?.includes("+") && !this.#columns.some((column) => column.model.value === model)) this.#columns.at(-1).model.value = model;
  }

  #add(model = this.#shell.model, mode = "rag") {
    const column = new Column(this.#shell, model, mode, () => {
      this.#columns.splice(this.#columns.indexOf(column), 1);
      column.node.remove();
      this.#arrange();
      this.add.focus();
    });
    this.#columns.push(column);
    this.columns.append(column.node);
    this.#arrange();
  }

  #arrange() {
    this.columns.dataset.count = String(this.#columns.length);
    this.add.hidden = this.#columns.length >= MOST;
    for (const column of this.#columns) column.remove.hidden = this.#columns.length < 2;
  }

  async #run() {
    const question = this.question.value.trim();
    if (!question) return;
    this.#controller = new AbortController();
    const { signal } = this.#controller;
    fill(this.go, phrase("ask.stop"));
    for (const column of this.#columns) column.reset();
    const request = (column) => column.ask({ question, collection: this.#shell.collection }, signal);
    const own = async () => {
      for (const column of this.#columns.filter(({ model }) => !upstream(model.value))) if (!signal.aborted) await request(column);
    };
    try {
      await Promise.all([own(), ...this.#columns.filter(({ model }) => upstream(model.value)).map(request)]);
      for (const column of this.#columns) column.waited();
      announce(phrase("compare.done"));
    } finally {
      this.#controller = null;
      fill(this.go, phrase("compare.go"));
    }
  }
}

class Column {
  #shell;

  constructor(shell, model, mode, remove) {
    this.#shell = shell;
    this.model = choice(shell.models, model, { "aria-label": phrase("ask.model") });
    this.mode = choice(MODES.map((each) => [each, phrase(`compare.mode.${each}`)]), mode, { "aria-label": phrase("ask.mode") });
    this.remove = iconButton("close", phrase("compare.remove"), remove);
    this.status = make("p", { class: "status" }, phrase("compare.before"));
    this.answer = make("div", { class: "answer", "aria-live": "polite" });
    this.facts = make("dl", { class: "figures" });
    this.node = make(
      "article",
      { class: "column card-sheet", "aria-label": phrase("compare.column") },
      make("div", { class: "column-head" }, this.model, this.remove),
      this.mode,
      this.status,
      this.answer,
      this.facts,
    );
  }

  reset() {
    this.node.dataset.state = "waiting";
    this.#say("compare.waiting", true);
    fill(this.answer);
    fill(this.facts);
  }

  /** Of a column that was never asked because the reader stopped before. */
  waited() {
    if (this.node.dataset.state === "waiting") this.#end("stopped", phrase("state.stopped"));
  }

  async ask(request, signal) {
    const began = performance.now();
    const text = document.createTextNode("");
    let first = null;
    this.node.dataset.state = "running";
    this.#say(this.mode.value === "closed_book" ? "state.waiting" : "state.searching", true);
    try {
      for await (const { event, data } of api.ask({ ...request, model: this.model.value, mode: this.mode.value }, signal)) {
        if (event === "sources") this.#say("compare.reading", true);
        else if (event === "reasoning") this.#say("state.thinking", true);
        else if (event === "token") {
          if (first === null) {
            first = performance.now() - began;
            this.#say("state.writing", true);
            fill(this.answer, make("p", { class: "streamed" }, text));
          }
          text.appendData(data.text);
        } else if (event === "final") this.#finish(data, request.collection, performance.now() - began, first);
      }
      if (signal.aborted) this.#end("stopped", phrase("state.stopped"));
    } catch (error) {
      if (error.name === "AbortError") return this.#end("stopped", phrase("state.stopped"));
      this.#end("failed", phrase("state.failed"));
      fill(this.answer, make("p", { class: "problem", role: "alert" }, error.text ?? phrase("error.page")));
      if (!error.text) throw error;
    }
    return undefined;
  }

  #say(key, busy) {
    fill(this.status, busy && make("span", { class: "pulse", "aria-hidden": "true" }), make("span", {}, phrase(key)));
  }

  #end(state, words) {
    this.node.dataset.state = state;
    fill(this.status, words);
  }

  #finish(reply, collection, total, first) {
    const cited = reply.citations ?? [];
    if (reply.answered) {
      const html = sanitised(reply.answer_html ?? "");
      fill(this.answer, html.textContent.trim() ? html : make("p", { class: "quiet" }, reply.answer || phrase("answer.empty")));
      linkMarkers(this.answer, cited, (index, trigger) => this.#shell.source.open(cited, index, collection, trigger));
    } else fill(this.answer, make("p", { class: "quiet" }, reply.answer || phrase("state.refused")));
    const key = !reply.answered ? "state.refused" : cited.length ? "state.sourced" : "state.unsourced";
    this.#end("done", phrase(key, { n: cited.length }));
    const { usage = {} } = reply;
    const rows = [
      ["compare.first", first !== null && phrase("seconds", { ms: first })],
      ["compare.total", phrase("seconds", { ms: total })],
      ["compare.tokens", usage.completion_tokens > 0 && phrase("number", { n: usage.completion_tokens })],
      ["compare.confidence", typeof reply.confidence === "number" && phrase("share", { share: reply.confidence })],
    ];
    fill(this.facts, rows.filter(([, value]) => value).map(([name, value]) => make("div", {}, make("dt", {}, phrase(name)), make("dd", {}, value))));
  }
}
