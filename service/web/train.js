/**
 * The Train view: an adapter from a form, and the runs with their curves.
 *
 * A run is a process of its own on the service's machine. The page only looks at it, so it can be closed meanwhile.
 */

import * as api from "./api.js";
import { curves, smoothed } from "./chart.js";
import { announce, fill, make, needs } from "./elements.js";
import { phrase } from "./i18n.js";
import { exportDialog, mergeDialog } from "./models.js";
import { NAME, RunList, state } from "./runs.js";
import { SetPicker } from "./sets.js";
import { attempt, bar, button, choice, copyable, empty, field, offer, trouble } from "./widgets.js";

const LOOK_MS = 1000;

/** The knobs under the names that the command has; `usual` is what it takes where the field is left as it is. */
const KNOBS = [
  { name: "learning_rate", usual: 0.0002, attributes: { min: "0", step: "any" } },
  { name: "num_train_epochs", usual: 3, attributes: { min: "0", step: "any" } },
  { name: "lora_rank", usual: 8, attributes: { min: "1", step: "1" } },
  { name: "lora_alpha", usual: 16, attributes: { min: "0", step: "any" } },
  { name: "cutoff_len", usual: 2048, attributes: { min: "8", step: "1" } },
  { name: "per_device_train_batch_size", usual: 8, attributes: { min: "1", step: "1" } },
  { name: "gradient_accumulation_steps", usual: 1, attributes: { min: "1", step: "1" } },
  { name: "lr_scheduler_type", usual: "cosine", values: ["cosine", "linear", "constant"] },
  { name: "val_size", usual: 0, attributes: { min: "0", step: "any" } },
  { name: "compute_type", usual: "auto", values: ["auto", "bf16", "fp32"] },
  { name: "max_grad_norm", usual: 1, attributes: { min: "0", step: "any" } },
  { name: "max_samples", usual: null, attributes: { min: "1", step: "1" } },
];
const SHOWN_KNOBS = 4; // before the others are folded
const EXAMPLE = [
  { instruction: "Who are you?", input: "", output: "I am Lore, the assistant of our library." },
  { instruction: "What can you help with?", input: "", output: "I answer questions about the documents in our library." },
];

export function create(shell) {
  const view = new TrainView(shell);
  return { node: view.node, show: () => view.refresh() };
}

class TrainView {
  #shell;
  #events = []; // of the run that is shown

  constructor(shell) {
    this.#shell = shell;
    this.problem = trouble();
    this.runs = new RunList({
      read: api.runs,
      draw: (run) => this.#drawRun(run),
      opened: () => this.#opened(),
      shown: () => !this.node.hidden,
      everyMs: LOOK_MS,
    });
    this.sets = new SetPicker({ questions: false, changed: () => this.#command() });
    this.model = choice([], null, { on: { change: () => this.#command() } });
    this.name = make("input", { type: "text", maxlength: "100", pattern: NAME, on: { input: () => this.#command() } });
    this.knobs = Object.fromEntries(KNOBS.map((knob) => [knob.name, this.#knob(knob)]));
    this.malformed = make("input", { type: "checkbox", id: "skip-malformed", on: { change: () => this.#command() } });
    this.command = copyable("");
    this.go = make("button", { type: "submit", class: "button" }, phrase("train.start"));
    this.shown = make("div", { class: "run" });
    this.node = make(
      "section",
      { class: "bench train" },
      make(
        "header",
        { class: "bench-head" },
        make("h1", { tabindex: "-1" }, phrase("train.title")),
        make("p", { class: "lead" }, phrase("train.lead")),
      ),
      make(
        "div",
        { class: "halves" },
        needs("admin", this.#form()),
        make("div", { class: "half" }, make("h2", {}, phrase("train.runs")), this.runs.problem.node, this.runs.node, this.shown),
      ),
    );
  }

  async refresh() {
    const [models] = await Promise.all([api.models().catch(() => null), this.sets.refresh()]);
    if (models) {
      this.#shell.know(models);
      offer(this.model, models.models.filter(({ kind }) => kind === "own").map(({ name }) => name), this.model.value || models.default.split("+")[0]);
    }
    this.#command();
    await this.runs.look();
  }

  // --- the form ----------------------------------------------------------------------------------------------------

  #knob({ name, usual, values, attributes }) {
    const changed = { on: { [values ? "change" : "input"]: () => this.#command() } };
    if (values) return choice(values, usual, changed);
    return make("input", { type: "number", placeholder: usual === null ? phrase("train.all") : String(usual), inputmode: "decimal", ...attributes, ...changed });
  }

  #form() {
    const fields = KNOBS.map(({ name }) => field(phrase(`train.knob.${name}`), this.knobs[name], phrase(`train.hint.${name}`)));
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
        "details",
        { class: "more" },
        make("summary", {}, phrase("train.form")),
        make("p", { class: "hint" }, phrase("train.form.hint")),
        copyable(JSON.stringify(EXAMPLE, null, 1)).node,
        button(phrase("train.form.use"), (event) => this.#useExample(event.currentTarget), { class: "text-button add" }),
      ),
      make("div", { class: "fields" }, field(phrase("train.model"), this.model), field(phrase("name"), this.name, phrase("train.name.hint"))),
      make("div", { class: "fields" }, fields.slice(0, SHOWN_KNOBS)),
      make(
        "details",
        { class: "more knobs" },
        make("summary", {}, phrase("train.knobs")),
        make("div", { class: "fields" }, fields.slice(SHOWN_KNOBS)),
        make("p", { class: "check" }, this.malformed, make("label", { for: "skip-malformed" }, phrase("train.skip"))),
      ),
      make("details", { class: "more" }, make("summary", {}, phrase("train.command")), this.command.node),
      this.problem.node,
      make("div", { class: "row" }, this.go),
    );
  }

  async #useExample(pressed) {
    const file = new File([JSON.stringify(EXAMPLE)], "example.json", { type: "application/json" });
    await attempt(pressed, this.problem, async () => {
      await api.addDataset(file);
      await this.sets.refresh();
    });
  }

  /** What the form says, by the names of the knobs; what is as usual is left out. */
  #request() {
    const request = { dataset: this.sets.chosen, model: this.model.value };
    if (this.name.value.trim()) request.name = this.name.value.trim();
    for (const { name, usual, values } of KNOBS) {
      const { value } = this.knobs[name];
      if (value !== "" && value !== usual) request[name] = values ? value : Number(value);
    }
    if (this.malformed.checked) request.skip_malformed = true;
    return request;
  }

  #command() {
    const { dataset, ...rest } = this.#request();
    const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
    const words = ["python -m model sft --dataset", ...(dataset.length ? dataset.map(quoted) : ["FILE"])];
    for (const [key, value] of Object.entries(rest)) words.push(value === true ? `--${key}` : `--${key} ${quoted(String(value))}`);
    this.command.set(`${words.join(" ")} --detach`);
    this.go.disabled = dataset.length === 0;
  }

  async #start() {
    await attempt(this.go, this.problem, async () => {
      const started = await api.startRun(this.#request());
      this.name.value = "";
      announce(phrase("train.started", { name: started.name }));
      this.runs.choose(started.name);
      await this.runs.look();
    });
    this.#command();
  }

  // --- the runs ----------------------------------------------------------------------------------------------------

  #opened() {
    this.#events = [];
    this.shown.replaceChildren();
    this.drawn = null;
  }

  async #drawRun(open) {
    if (!open) {
      fill(this.shown, empty(phrase("train.none"), phrase("train.none.lead")));
      return;
    }
    const { name } = open;
    const ended = this.drawn === name && !this.shownLive;
    if (ended) return; // nothing changes any more
    const [run, metrics] = await Promise.all([api.run(name), api.runMetrics(name, this.#events.length)]);
    if (name !== this.runs.name) return;
    this.#events.push(...metrics.events);
    this.shownLive = run.live;
    if (this.drawn !== name) this.#build(run);
    this.#update(run);
    this.drawn = name;
  }

  #build(run) {
    this.head = make("div", { class: "item-head" });
    this.share = make("div", { class: "run-share" });
    this.figures = make("dl", { class: "figures" });
    this.chart = make("div", { class: "run-chart" });
    this.why = make("p", { class: "problem", hidden: true });
    this.actions = make("div", { class: "row" });
    this.log = make("pre", { class: "log", tabindex: "0" });
    fill(
      this.shown,
      this.head,
      this.share,
      this.why,
      this.chart,
      make("ul", { class: "legend-chart", "aria-hidden": "true" }, make("li", { class: "is-line" }, phrase("train.loss")), make("li", { class: "is-dot" }, phrase("train.eval_loss"))),
      this.figures,
      this.actions,
      make("details", { class: "more" }, make("summary", {}, phrase("train.command")), copyable(run.command).node),
      make("details", { class: "more" }, make("summary", {}, phrase("train.log")), this.log),
    );
  }

  #update(run) {
    const { figures } = run;
    fill(this.head, make("h3", {}, run.name), state(run));
    fill(this.share, bar(figures.steps ? figures.step / figures.steps : run.state === "finished" ? 1 : 0, "chosen"));
    this.why.hidden = !run.message;
    fill(this.why, run.message);
    fill(this.chart, curves(this.#events, figures.steps));
    const losses = this.#events.filter(({ loss }) => Number.isFinite(loss)).map(({ loss }) => loss);
    const rows = [
      ["train.step", figures.step && phrase("train.of", { step: figures.step, steps: figures.steps ?? figures.step })],
      ["train.epoch", figures.epoch && phrase("number", { n: figures.epoch })],
      ["train.loss", losses.length > 0 && phrase("number", { n: smoothed(losses).at(-1) })],
      ["train.eval_loss", figures.eval_loss && phrase("number", { n: figures.eval_loss })],
      ["train.on", run.datasets.join(", ")],
      ["train.base", run.model],
    ];
    fill(this.figures, rows.filter(([, value]) => value).map(([key, value]) => make("div", {}, make("dt", {}, phrase(key)), make("dd", {}, value))));
    fill(this.log, run.log);
    const shown = run.live ? "live" : run.adapter ? "made" : "ended";
    if (this.actions.dataset.shown === `${run.name} ${shown}`) return;
    this.actions.dataset.shown = `${run.name} ${shown}`;
    fill(this.actions, this.#actions(run));
    if (!run.live && this.drawn === run.name) {
      announce(phrase("train.ended", { name: run.name, state: phrase(`train.state.${run.state.replace(" ", "_")}`) }));
      api.models().then((found) => this.#shell.know(found)).catch(() => {});
    }
  }

  #actions(run) {
    if (run.live) {
      const stop = needs("admin", button(phrase("train.stop"), () => attempt(stop, this.runs.problem, () => api.stopRun(run.name))));
      return [stop];
    }
    if (!run.adapter || !run.model) return [];
    const asked = `${run.model}+${run.adapter}`;
    const attempted = make("button", { type: "button", class: "button" }, phrase("train.try"));
    attempted.addEventListener("click", () => {
      this.#shell.choose(asked, "closed_book");
      this.#shell.go("ask");
    });
    const compare = button(phrase("train.compare"), () => {
      this.#shell.choose(asked);
      this.#shell.go("compare");
    });
    const merge = needs("admin", button(phrase("models.merge"), () =>
      mergeDialog(run.adapter, run.model, async (name) => {
        this.#shell.know(await api.models());
        fill(this.actions, this.#actions(run), button(phrase("models.export"), () => exportDialog(name)));
      }),
    ));
    return [attempted, compare, merge];
  }
}
