/**
 * The Classify view: a text goes in, every label comes out with its probability.
 *
 * On one side the text and what became of it, on the other the labels with their examples, which are either a named
 * classifier's or being written. What is written is used at once, saved or not.
 */

import * as api from "./api.js";
import { announce, fill, icon, iconButton, make, needs } from "./elements.js";
import { known, phrase } from "./i18n.js";
import { LabelCard } from "./labels.js";
import { attempt, bar, button, choice, confirm, field, offer, tag, trouble } from "./widgets.js";

const NEW = ""; // the choice that is no classifier
const SHOWN = 6; // labels of a result before the rest is folded
const STARTERS = 2;

export function create(shell) {
  const view = new ClassifyView(shell);
  return { node: view.node, show: () => view.refresh() };
}

class ClassifyView {
  #shell;
  #kept = []; // summaries of the named classifiers
  #base = null; // the classifier that the editor shows, as it is kept; null: a new one
  #labels = [];

  constructor(shell) {
    this.#shell = shell;
    this.problem = trouble();
    this.results = make("div", { class: "results", "aria-live": "polite" });
    this.heading = make("h1", { tabindex: "-1" }, phrase("classify.title"));
    this.node = make(
      "section",
      { class: "bench classify" },
      make("header", { class: "bench-head" }, this.heading, make("p", { class: "lead" }, phrase("classify.lead"))),
      make("div", { class: "halves" }, make("div", { class: "half" }, this.#form(), this.problem.node, this.results), this.#editor()),
    );
    this.#say();
  }

  async refresh() {
    try {
      this.#kept = await api.classifiers();
    } catch (error) {
      this.editProblem.show(error);
      return;
    }
    this.#offer();
    if (this.#base === null && !this.#labels.length) await this.#open(this.#kept.find((each) => !each.problem)?.name ?? NEW);
    const models = this.#shell.models;
    offer(this.model, [["", phrase("classify.model.usual")], ...models]);
  }

  // --- the text and its labels -------------------------------------------------------------------------------------

  #form() {
    this.text = make("textarea", { rows: "5", placeholder: phrase("classify.placeholder"), required: true });
    this.lines = make("input", { type: "checkbox", id: "classify-lines" });
    this.below = make("input", { type: "number", min: "0", max: "1", step: "any", inputmode: "decimal" });
    this.likelihood = choice(["auto", "on", "off"].map((value) => [value, phrase(`classify.likelihood.${value}`)]));
    this.model = choice([["", phrase("classify.model.usual")]]);
    this.go = make("button", { type: "submit", class: "button" }, phrase("classify.go"));
    return make(
      "form",
      {
        class: "stack",
        on: {
          submit: (event) => {
            event.preventDefault();
            this.#classify();
          },
        },
      },
      field(phrase("classify.text"), this.text),
      make(
        "div",
        { class: "row" },
        this.go,
        make("span", { class: "check" }, this.lines, make("label", { for: "classify-lines" }, phrase("classify.lines"))),
      ),
      make(
        "details",
        { class: "more" },
        make("summary", {}, phrase("classify.options")),
        make(
          "div",
          { class: "fields" },
          field(phrase("classify.below"), this.below, phrase("classify.below.hint")),
          field(phrase("classify.likelihood"), this.likelihood, phrase("classify.likelihood.hint")),
          field(phrase("ask.model"), this.model),
        ),
      ),
    );
  }

  async #classify() {
    const texts = this.lines.checked
      ? this.text.value.split("\n").map((line) => line.trim()).filter(Boolean)
      : [this.text.value];
    await attempt(this.go, this.problem, async () => {
      const request = { texts, likelihood: this.likelihood.value };
      if (this.#base && !this.#changed()) request.classifier = this.#base.name;
      else Object.assign(request, { classes: this.#classes(), instruction: this.instruction.value.trim() || null });
      if (this.below.value !== "") request.abstain_below = Number(this.below.value);
      if (this.model.value) request.model = this.model.value;
      this.#show(await api.classify(request), texts);
    });
  }

  #show(reply, texts) {
    const several = texts.length > 1;
    fill(
      this.results,
      reply.results.map((result, at) => this.#result(result, several ? texts[at] : null)),
      make("ul", { class: "facts" }, this.#facts(reply).map((fact) => make("li", {}, fact))),
    );
  }

  #result(result, text) {
    const scores = Object.entries(result.scores);
    const rows = (pairs) =>
      make("ol", { class: "scores" }, pairs.map(([label, share]) => this.#score(label, share, label === result.label)));
    return make(
      "article",
      { class: "result" },
      text && make("p", { class: "result-text" }, text),
      make(
        "p",
        { class: "result-label" },
        result.abstained ? [icon("none"), phrase("classify.abstained")] : make("strong", {}, result.label),
      ),
      rows(scores.slice(0, SHOWN)),
      scores.length > SHOWN &&
        make(
          "details",
          { class: "more" },
          make("summary", {}, phrase("classify.rest", { n: scores.length - SHOWN })),
          rows(scores.slice(SHOWN)),
        ),
      Object.keys(result.parts).length > 0 && this.#parts(result.parts),
      result.notes.map((note) => make("p", { class: "hint" }, note)),
    );
  }

  #score(label, share, chosen) {
    return make(
      "li",
      { class: chosen ? "score chosen" : "score" },
      make("span", { class: "score-label" }, label),
      make("span", { class: "score-share number" }, phrase("share", { share })),
      bar(share),
    );
  }

  /** What each part alone thinks, its own favourites first. */
  #parts(parts) {
    return make(
      "details",
      { class: "more parts" },
      make("summary", {}, phrase("classify.parts")),
      make(
        "div",
        { class: "parts-columns" },
        Object.entries(parts).map(([part, scores]) =>
          make(
            "div",
            {},
            make("p", { class: "parts-title" }, known(`classify.part.${part}`) ? phrase(`classify.part.${part}`) : part),
            make(
              "ol",
              { class: "scores" },
              Object.entries(scores)
                .sort(([, a], [, b]) => b - a)
                .slice(0, 3)
                .map(([label, share]) => this.#score(label, share, false)),
            ),
          ),
        ),
      ),
    );
  }

  #facts(reply) {
    const facts = [];
    if (reply.model) facts.push(reply.model);
    // The service gives its reason in English, with figures; the usual ones have words of the page's own.
    const usual = [["used", "used"], ["not asked for", "off"], ["left aside, it only costs time", "aside"], ["left aside: without it", "aside"]];
    const known = usual.find(([start]) => reply.likelihood.startsWith(start));
    facts.push(known ? phrase(`classify.fact.likelihood.${known[1]}`) : phrase("classify.fact.likelihood", { why: reply.likelihood }));
    if (reply.left_out) {
      facts.push(phrase("classify.fact.left", { n: reply.left_out.examples, share: reply.left_out.accuracy }));
    }
    return facts;
  }

  #say() {
    fill(this.results, make("p", { class: "quiet" }, phrase("classify.before")));
  }

  // --- the labels and their examples -------------------------------------------------------------------------------

  #editor() {
    this.editProblem = trouble();
    this.picker = choice([[NEW, phrase("classify.new")]], NEW, {
      on: { change: () => this.#open(this.picker.value) },
    });
    this.about = make("p", { class: "hint" });
    this.instruction = make("textarea", { rows: "2", class: "growing" });
    this.list = make("div", { class: "labels" });
    this.save = needs("editor", button(phrase("classify.save"), () => this.#save()));
    this.remove = needs("editor", button(phrase("classify.delete"), () => this.#delete(), { hidden: true }));
    return make(
      "div",
      { class: "half card-sheet" },
      field(phrase("classify.classifier"), this.picker),
      this.about,
      this.editProblem.node,
      this.list,
      make(
        "div",
        { class: "row" },
        make(
          "button",
          { type: "button", class: "text-button add", on: { click: () => this.#addLabel("", [""], true) } },
          icon("plus"),
          phrase("classify.label.add"),
        ),
      ),
      make("details", { class: "more" }, make("summary", {}, phrase("classify.instruction")), this.#instructionField()),
      make("div", { class: "row row-end" }, this.remove, this.save),
    );
  }

  #instructionField() {
    return field(phrase("classify.instruction.label"), this.instruction, phrase("classify.instruction.hint"));
  }

  #offer() {
    offer(this.picker, [...this.#kept.map((each) => [each.name, each.name]), [NEW, phrase("classify.new")]], this.#base?.name ?? NEW);
  }

  async #open(name) {
    const opening = {};
    this.opening = opening; // another choice may be quicker than this one's reply
    this.editProblem.clear();
    this.problem.clear();
    this.#say();
    const damaged = this.#kept.find((each) => each.name === name)?.problem;
    if (damaged) {
      this.editProblem.show(damaged);
      this.#base = { name, classes: {}, instruction: null, built_in: false };
    } else {
      try {
        const found = name === NEW ? null : await api.classifier(name);
        if (this.opening !== opening) return;
        this.#base = found;
      } catch (error) {
        this.editProblem.show(error);
        return;
      }
    }
    this.#labels = [];
    this.list.replaceChildren();
    this.instruction.value = this.#base?.instruction ?? "";
    this.below.value = this.#base?.abstain_below || "";
    for (const [label, texts] of Object.entries(this.#base?.classes ?? {})) this.#addLabel(label, texts);
    if (!this.#base) for (let n = 0; n < STARTERS; n += 1) this.#addLabel("", [""]);
    this.#offer();
    this.#dress();
  }

  #dress() {
    const base = this.#base;
    fill(
      this.about,
      base?.description,
      base?.built_in && [base.description && " ", tag(phrase("classify.built_in"))],
      !base && phrase("classify.new.hint"),
    );
    this.remove.hidden = !base || base.built_in;
  }

  #addLabel(label, texts, focus = false) {
    const card = new LabelCard(label, texts, focus, () => {
      this.#labels.splice(this.#labels.indexOf(card), 1);
      card.node.remove();
      (this.#labels.at(-1)?.name ?? this.picker).focus();
    });
    this.#labels.push(card);
    this.list.append(card.node);
    if (focus) card.name.focus();
  }

  #classes() {
    const pairs = this.#labels
      .map(({ name, texts }) => [name.value.trim(), texts])
      .filter(([label]) => label);
    const twice = pairs.find(([label], at) => pairs.findIndex(([other]) => other === label) !== at);
    if (twice) throw api.problem(phrase("classify.twice", { label: twice[0] }));
    return Object.fromEntries(pairs);
  }

  #changed() {
    const kept = JSON.stringify([this.#base.classes, this.#base.instruction ?? ""]);
    return kept !== JSON.stringify([this.#classes(), this.instruction.value.trim()]);
  }

  #save() {
    const own = this.#base && !this.#base.built_in ? this.#base.name : "";
    const name = make("input", { type: "text", value: own, required: true, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", maxlength: "64" });
    const description = make("input", { type: "text", value: this.#base?.description ?? "", maxlength: "2000" });
    confirm(
      {
        title: phrase("classify.save.title"),
        action: phrase("classify.save.action"),
        body: [field(phrase("name"), name, phrase("name.hint")), field(phrase("classify.description"), description)],
      },
      async () => {
        const body = {
          classes: this.#classes(),
          instruction: this.instruction.value.trim() || null,
          description: description.value.trim(),
          abstain_below: Number(this.below.value || 0),
        };
        this.#base = await api.putClassifier(name.value, body);
        this.#kept = await api.classifiers();
        this.#offer();
        this.#dress();
        announce(phrase("classify.saved", { name: name.value }));
      },
    );
  }

  #delete() {
    const { name } = this.#base;
    confirm(
      {
        title: phrase("classify.delete.title", { name }),
        lead: this.#base.hides_built_in ? phrase("classify.delete.hides") : phrase("classify.delete.lead"),
        action: phrase("library.delete.action"),
        bad: true,
      },
      async () => {
        await api.deleteClassifier(name);
        this.#kept = await api.classifiers();
        await this.#open(this.#kept.find((each) => !each.problem)?.name ?? NEW);
        announce(phrase("library.deleted", { title: name }));
        this.heading.focus({ preventScroll: true });
      },
    );
  }
}
