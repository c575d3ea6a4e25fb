/** The Evaluate view: ways of answering compared on questions with known answers, and their reports. */

import * as api from "./api.js";
import { announce, fill, icon, make } from "./elements.js";
import { phrase } from "./i18n.js";
import { currentKey } from "./key.js";
import { SetPicker } from "./sets.js";
import { attempt, bar, button, choice, empty, field, offer, tag, trouble } from "./widgets.js";

const LOOK_MS = 1500;
const MODES = ["base", "rag", "grounded", "finetuned", "rag+finetuned"];
const KINDS = { running: "plain", finished: "", failed: "bad" };

export function create(shell) {
  const view = new EvaluateView(shell);
  return { node: view.node, show: () => view.refresh() };
}

class EvaluateView {
  #shell;
  #found = [];
  #open = null;
  #looking = false;

  constructor(shell) {
    this.#shell = shell;
    this.problem = trouble();
    this.listProblem = trouble();
    this.sets = new SetPicker({ questions: true, changed: () => this.#arrange() });
    this.boxes = new Map(MODES.map((mode) => [mode, make("input", { type: "checkbox", id: `mode-${mode}`, on: { change: () => this.#arrange() } })]));
    for (const mode of ["base", "rag", "grounded"]) this.boxes.get(mode).checked = true;
    this.upstreams = make("div", { class: "modes" });
    this.finetuned = choice([]);
    this.finetunedField = field(phrase("evaluate.finetuned"), this.finetuned, phrase("evaluate.finetuned.hint"));
    this.limit = make("input", { type: "number", min: "1", step: "1", inputmode: "numeric", placeholder: phrase("train.all") });
    this.name = make("input", { type: "text", maxlength: "100", required: true, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", value: "comparison" });
    this.go = make("button", { type: "submit", class: "button" }, phrase("evaluate.start"));
    this.list = make("ul", { class: "run-list" });
    this.shown = make("div", { class: "run" });
    this.node = make(
      "section",
      { class: "bench evaluate" },
      make("header", { class: "bench-head" }, make("h1", { tabindex: "-1" }, phrase("evaluate.title")), make("p", { class: "lead" }, phrase("evaluate.lead"))),
      make(
        "div",
        { class: "halves" },
        this.#form(),
        make("div", { class: "half" }, make("h2", {}, phrase("evaluate.list")), this.listProblem.node, this.list, this.shown),
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
    await this.#look();
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
      this.#choose(started.name);
    });
    this.#arrange();
    await this.#look();
  }

  // --- the comparisons ---------------------------------------------------------------------------------------------

  async #look() {
    if (this.#looking) return;
    this.#looking = true;
    try {
      for (;;) {
        this.#found = await api.evaluations();
        this.listProblem.clear();
        if (!this.#found.some(({ name }) => name === this.#open)) this.#choose(this.#found[0]?.name ?? null);
        await this.#draw();
        if (this.node.hidden || !this.#found.some(({ state }) => state === "running")) break;
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
    } catch (error) {
      this.listProblem.show(error);
      if (!error.text) throw error;
    } finally {
      this.#looking = false;
    }
  }

  #choose(name) {
    this.#open = name;
    this.drawn = null;
  }

  async #draw() {
    if (!this.#found.length) {
      fill(this.list);
      fill(this.shown, empty(phrase("evaluate.none"), phrase("evaluate.none.lead")));
      return;
    }
    const focused = document.activeElement?.closest?.(".run-list button")?.dataset.name;
    fill(this.list, this.#found.map((one) => this.#row(one)));
    if (focused) [...this.list.querySelectorAll("button")].find((node) => node.dataset.name === focused)?.focus();
    const one = this.#found.find(({ name }) => name === this.#open);
    const seen = `${one.name} ${one.state} ${one.done}`;
    if (this.drawn === seen) return;
    this.drawn = seen;
    const log = one.state === "failed" ? (await api.evaluation(one.name)).log : "";
    const right = Object.entries(one.summary.right ?? {}).sort(([, a], [, b]) => b.mean - a.mean);
    const stop = button(phrase("train.stop"), () => attempt(stop, this.listProblem, () => api.stopEvaluation(one.name)));
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
      const download = button(phrase("evaluate.download"), () => attempt(download, this.listProblem, () => api.saveReport(one.name)));
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

  #row(one) {
    const open = async () => {
      this.#choose(one.name);
      await this.#draw();
    };
    return make(
      "li",
      {},
      make(
        "button",
        { type: "button", class: "run-open", "data-name": one.name, "aria-current": one.name === this.#open ? "true" : null, on: { click: open } },
        make("span", { class: "run-name" }, one.name),
        state(one),
      ),
    );
  }
}

const state = (one) =>
  make(
    "span",
    { class: "run-state" },
    one.state === "running" && make("span", { class: "pulse", "aria-hidden": "true" }),
    one.state === "finished" && icon("tick"),
    tag(phrase(`train.state.${one.state}`), KINDS[one.state]),
  );
