/** The Models view: what can be asked, what is loaded, with which adapter it answers, and whether Ollama is there. */

import * as api from "./api.js";
import { announce, fill, make, needs } from "./elements.js";
import { phrase } from "./i18n.js";
import { attempt, button, choice, confirm, copyable, empty, field, tag, trouble } from "./widgets.js";

export function create(shell) {
  const view = new ModelsView(shell);
  return { node: view.node, show: () => view.refresh() };
}

class ModelsView {
  #shell;

  constructor(shell) {
    this.#shell = shell;
    this.problem = trouble();
    this.body = make("div", { class: "sections" }, make("p", { class: "quiet" }, phrase("models.loading")));
    this.node = make(
      "section",
      { class: "bench models" },
      make(
        "header",
        { class: "bench-head" },
        make("h1", { tabindex: "-1" }, phrase("models.title")),
        button(phrase("models.refresh"), () => this.refresh()),
        make("p", { class: "lead" }, phrase("models.lead")),
      ),
      this.problem.node,
      this.body,
    );
  }

  async refresh() {
    this.problem.clear();
    try {
      this.#draw(await api.models());
    } catch (error) {
      this.problem.show(error);
      if (!error.text) throw error;
    }
  }

  #draw(found) {
    this.#shell.know(found);
    const own = found.models.filter(({ kind }) => kind === "own");
    const section = (title, lead, ...content) =>
      make("section", { class: "group" }, make("h2", {}, title), lead && make("p", { class: "group-lead" }, lead), ...content);
    fill(
      this.body,
      section(
        phrase("models.own"),
        null,
        own.length
          ? make("ul", { class: "items" }, own.map((model) => this.#own(model, found.adapters)))
          : empty(phrase("models.none"), phrase("models.none.lead"), copyable("python -m model pull smollm2-135m-instruct").node),
      ),
      section(
        phrase("models.adapters"),
        found.adapters.length ? null : phrase("models.adapters.none"),
        found.adapters.length
          ? make("ul", { class: "items" }, found.adapters.map((adapter) => this.#adapter(adapter)))
          : make("a", { class: "button button-plain", href: "#/train" }, phrase("models.train")),
      ),
      found.upstreams.map((upstream) => this.#upstream(upstream, found.models, section)),
    );
  }

  #item(name, tags, facts, ...actions) {
    const asked = name === this.#shell.model;
    return make(
      "li",
      { class: asked ? "item chosen" : "item" },
      make("div", { class: "item-head" }, make("h3", {}, name), tags, asked && tag(phrase("models.chosen"))),
      make("ul", { class: "facts" }, facts.filter(Boolean).map((fact) => make("li", {}, fact))),
      make("div", { class: "row" }, actions),
    );
  }

  #ask(name) {
    return button(phrase("models.ask"), () => {
      this.#shell.choose(name);
      this.#shell.go("ask");
    });
  }

  #own(model, adapters) {
    const fitting = adapters.filter(({ base, stale }) => base === model.name && !stale);
    const answering =
      fitting.length > 0 &&
      choice([["", phrase("models.plain")], ...fitting.map(({ name }) => name)], model.adapter ?? "", {
        on: { change: () => this.#do(answering, { model: model.name, action: "switch", adapter: answering.value || null }) },
      });
    const move = needs("admin", button(phrase(model.loaded ? "models.unload" : "models.load"), () =>
      this.#do(move, { model: model.name, action: model.loaded ? "unload" : "load" }),
    ));
    return this.#item(
      model.name,
      [model.default && tag(phrase("models.default"), "plain"), model.loaded && tag(phrase("models.loaded"), "plain")],
      [model.context_tokens && phrase("models.window", { n: model.context_tokens }), model.detail],
      answering && needs("admin", field(phrase("models.answers_with"), answering, null, "inline")),
      this.#ask(model.name),
      move,
      needs("admin", button(phrase("models.export"), () => this.#export(model.name))),
    );
  }

  #adapter(adapter) {
    const asked = adapter.base && !adapter.stale ? `${adapter.base}+${adapter.name}` : null;
    return make(
      "li",
      { class: asked && asked === this.#shell.model ? "item chosen" : "item" },
      make(
        "div",
        { class: "item-head" },
        make("h3", {}, adapter.name),
        adapter.loaded && tag(phrase("models.loaded"), "plain"),
        adapter.stale && tag(phrase("models.stale"), "bad"),
        asked && asked === this.#shell.model && tag(phrase("models.chosen")),
      ),
      make(
        "ul",
        { class: "facts" },
        make("li", {}, adapter.base ? phrase("models.base", { name: adapter.base }) : phrase("models.base.unknown")),
        adapter.rank && make("li", {}, phrase("models.rank", { n: adapter.rank })),
        adapter.stale && make("li", {}, typeof adapter.stale === "string" ? adapter.stale : phrase("models.stale.why")),
      ),
      make(
        "div",
        { class: "row" },
        asked && this.#ask(asked),
        asked && needs("admin", button(phrase("models.merge"), () => this.#merge(adapter))),
      ),
    );
  }

  #upstream(upstream, models, section) {
    const offered = models.filter(({ name }) => name.startsWith(`${upstream.name}/`));
    const state = make(
      "p",
      { class: upstream.reachable ? "upstream good" : "upstream bad" },
      make("span", { class: "dot-state", "aria-hidden": "true" }),
      make("code", {}, upstream.address),
      phrase(upstream.reachable ? "models.answers" : "models.silent"),
    );
    return section(
      upstream.name === "ollama" ? "Ollama" : upstream.name,
      null,
      state,
      !upstream.reachable && make("p", { class: "group-lead" }, upstream.message || phrase("models.silent.lead")),
      upstream.reachable && !offered.length && [make("p", { class: "group-lead" }, phrase("models.upstream.none")), copyable("ollama pull deepseek-r1:1.5b").node],
      offered.length > 0 &&
        make("ul", { class: "items" }, offered.map((model) => this.#item(model.name, model.default && tag(phrase("models.default"), "plain"), [model.detail], this.#ask(model.name)))),
    );
  }

  async #do(pressed, request) {
    const done = await attempt(pressed, this.problem, () => api.loadModel(request));
    if (!done) return;
    await this.refresh();
    announce(phrase("models.done"));
  }

  #merge(adapter) {
    mergeDialog(adapter.name, adapter.base, () => this.refresh());
  }

  #export(model) {
    exportDialog(model);
  }
}

/** Asks for a name and folds an adapter into its base. */
export function mergeDialog(adapter, base, done) {
  const name = make("input", { type: "text", value: `${base ?? adapter}-${adapter}`.slice(0, 100), required: true, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", maxlength: "100" });
  confirm(
    { title: phrase("merge.title", { name: adapter }), lead: phrase("merge.lead"), action: phrase("merge.action"), body: field(phrase("name"), name, phrase("name.hint")) },
    async () => {
      await api.mergeAdapter({ adapter, name: name.value });
      announce(phrase("merge.done", { name: name.value }));
      await done(name.value);
    },
  );
}

/** Asks for a form, writes a model in it, and says where it is. */
export function exportDialog(model) {
  const form = choice([["gguf f16", phrase("export.gguf.f16")], ["gguf q8_0", phrase("export.gguf.q8_0")], ["hf f16", phrase("export.hf")]]);
  const result = make("div", { class: "stack", role: "status" });
  const dialog = confirm(
    { title: phrase("export.title", { name: model }), lead: phrase("export.lead"), action: phrase("export.action"), body: [field(phrase("export.format"), form), result] },
    async () => {
      const [format, quantize] = form.value.split(" ");
      const made = await api.exportModel({ model, format, quantize });
      fill(
        result,
        make("p", {}, phrase("export.done", { folder: made.folder })),
        make("ul", { class: "facts" }, made.files.map((file) => make("li", {}, phrase("export.file", file)))),
        copyable(made.next).node,
      );
      dialog.querySelector("button[type=submit]").hidden = true;
      return true; // it stays open: what it says is to be read
    },
  );
}
