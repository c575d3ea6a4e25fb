/** The Evaluate view: ways of answering compared on questions with known answers, and their reports. */

import * as api from "./api.js";
import { announce, fill, make, needs } from "./elements.js";
import { phrase } from "./i18n.js";
import { currentKey } from "./key.js";
import { NAME, RunList, state } from "./runs.js";
import { SetPicker } from "./sets.js";
import { attempt, bar, button, choice, empty, field, offer, trouble } from "./widgets.js";

const LOOK_MS = 1500;
const MODES = ["base", "rag", "grounded", "finetuned", "rag+finetuned"];

export function create(shell) {
  const view = new EvaluateView(shell);
  return { node: view.node, show: () => view.refresh() };
}

class EvaluateView {
  #shell;

  constructor(shell) {
    this.#shell = shell;
    this.problem = trouble();
    this.runs = new RunList({
      read: api.evaluations,
      draw: (one) => this.#draw(one),
      opened: () => (this.drawn = null),
      shown: () => !this.node.hidden,
      everyMs: LOOK_MS,
    });
    this.sets = new SetPicker({ questions: true, changed: () => this.#arrange() });
    this.boxes = new Map(MODES.map((mode) => [mode, make("input", { type: "checkbox", id: `mode-${mode}`, on: { change: () => this.#arrange() } })]));
    for (const mode of ["base", "rag", "grounded"]) this.boxes.get(mode).checked = true;
    this.upstreams = make("div", { class: "modes" });
    this.finetuned = choice([]);
    this.finetunedField = field(phrase("evaluate.finetuned"), this.finetuned, phrase("evaluate.finetuned.hint"));
    this.limit = make("input", { type: "number", min: "1", step: "1", inputmode: "numeric", placeholder: phrase("train.all") });
    this.name = make("input", { type: "text", maxlength: "100", required: true, pattern: NAME, value: "comparison" });
    this.go = make("button", { type: "submit", class: "button" }, phrase("evaluate.start"));
    this.shown = make("div", { class: "run" });
    this.node = make(
      "section",
      { class: "bench evaluate" },
      make("header", { class: "bench-head" }, make("h1", { tabindex: "-1" }, phrase("evaluate.title")), make("p", { class: "lead" }, phrase("evaluate.lead"))),
      make(
        "div",
        { class: "halves" },
        needs("admin", this.#form()),
        make("div", { class: "half" }, make("h2", {}, phrase("evaluate.list")), this.runs.problem.node, this.runs.node, this.shown),
      ),
      (this.report = make("div", { class: "report" })),
    );
  }

  async refresh() {
    const [models] = await Promise.all([api.models().catch(() => null), this.sets.refresh()]);
    if (models) {
      this.#shell.know(models);
      offer(this.finetuned, models.adapters.filter(({ stale }) => !stale).map(({ name }) => name));
      const names = models.models.filter(({ kind }) => kind !== "own").map(({ name }) => name);
      for (const name of names) if (!this.boxes.has(name)) this.boxes.set(name, make("input", { type: "checkbox", id: `mode-${name}` }));
      fill(this.upstreams, names.map((name) => this.#box(name, name)));
    }
    this.#arrange();
    await this.runs.look();
  }

  #form() {
    return make(
      "form",
      {
        class: "half",
        on: {
          submit: (event) => {
            event.preventDefault();
            this.#start();
          },
        },
      },
      this.sets.node,
      make(
        "fieldset",
        { class: "set-picker" },
        make("legend", {}, phrase("evaluate.modes")),
        make("div", { class: "modes" }, MODES.map((mode) => this.#box(mode, phrase(`evaluate.mode.${mode}`)))),
        this.upstreams,
        make("p", { class: "hint" }, phrase("evaluate.baselines")),
      ),
      make("div", { class: "fields" }, field(phrase("name"), this.name), field(phrase("evaluate.limit"), this.limit), this.finetunedField),
      this.problem.node,
      make("div", { class: "row" }, this.go),
    );
  }

  #box(mode, words) {
    return make("p", { class: "check" }, this.boxes.get(mode), make("label", { for: `mode-${mode}` }, words));
  }

  get #chosen() {
    return [...this.boxes].filter(([, box]) => box.checked).map(([mode]) => mode);
  }

  #arrange() {
    const fine = this.#chosen.some((mode) => mode.includes("finetuned"));
    this.finetunedField.hidden = !fine;
    this.go.disabled = !this.sets.chosen.length || !this.#chosen.length || (fine && !this.finetuned.value);
  }

  async #start() {
    await attempt(this.go, this.problem, async () => {
      const request = { name: this.name.value.trim(), questions: this.sets.chosen[0], modes: this.#chosen, collection: this.#shell.collection };
      if (this.limit.value) request.limit = Number(this.limit.value);
      if (!this.finetunedField.hidden) request.finetuned = this.finetuned.value;
      const started = await api.startEvaluation(request);
      announce(phrase("train.started", { name: started.name }));
      this.runs.choose(started.name);
    });
    this.#arrange();
    await this.runs.look();
  }

  // --- the comparisons ---------------------------------------------------------------------------------------------

  async #draw(one) {
    if (!one) {
      fill(this.shown, empty(phrase("evaluate.none"), phrase("evaluate.none.lead")));
      fill(this.report);
      return;
    }
    const seen = `${one.name} ${one.state} ${one.done}`;
    if (this.drawn === seen) return;
    this.drawn = seen;
    const log = one.state === "failed" ? (await api.evaluation(one.name)).log : "";
    const right = Object.entries(one.summary.right ?? {}).sort(([, a], [, b]) => b.mean - a.mean);
    const stop = needs("admin", button(phrase("train.stop"), () => attempt(stop, this.runs.problem, () => api.stopEvaluation(one.name))));
    fill(
      this.shown,
      make("div", { class: "item-head" }, make("h3", {}, one.name), state(one)),
      one.state === "running" && [
        bar(one.total ? one.done / one.total : 0, "chosen"),
        make("p", { class: "hint" }, one.done ? phrase("evaluate.done", { n: one.done, total: one.total ?? one.done }) : phrase("evaluate.loading")),
        make("div", { class: "row" }, stop),
      ],
      log && make("pre", { class: "log", tabindex: "0" }, log),
      right.length > 0 && [
        make("p", { class: "hint" }, phrase("evaluate.right", { n: one.summary.asked })),
        make(
          "ol",
          { class: "scores" },
          right.map(([mode, { mean, low, high }], at) =>
            make(
              "li",
              { class: at ? "score" : "score chosen" },
              make("span", { class: "score-label" }, mode),
              make("span", { class: "score-share number" }, phrase("evaluate.interval", { mean, low, high })),
              bar(mean),
            ),
          ),
        ),
      ],
    );
    this.#drawReport(one);
  }

  /**
   * The report is a page of its own in a frame that may run nothing and load nothing. A frame cannot send a key: where
   * one is needed, the report is saved instead.
   */
  #drawReport(one) {
    if (!one.has_report || one.state === "running") return fill(this.report);
    if (currentKey()) {
      const download = button(phrase("evaluate.download"), () => attempt(download, this.runs.problem, () => api.saveReport(one.name)));
      return fill(this.report, download);
    }
    const address = api.reportAddress(one.name);
    return fill(
      this.report,
      make(
        "div",
        { class: "bench-head" },
        make("h2", {}, phrase("evaluate.report", { name: one.name })),
        make("a", { href: address, target: "_blank", rel: "noopener" }, phrase("evaluate.alone")),
      ),
      make("iframe", { src: address, title: phrase("evaluate.report", { name: one.name }), sandbox: "", class: "report-frame" }),
    );
  }
}
