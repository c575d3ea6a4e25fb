/** The uploaded sets, to choose from: conversations in the Train view, questions in the Evaluate view. */

import * as api from "./api.js";
import { announce, fill, iconButton, make } from "./elements.js";
import { phrase } from "./i18n.js";
import { confirm, tag, trouble } from "./widgets.js";

const CONVERSATIONS = ["alpaca", "sharegpt", "reading"];

export class SetPicker {
  #sets = [];
  #chosen = new Set();

  /** `questions`: one set of questions is chosen, else one or more of conversations. `changed()` follows the choice. */
  constructor({ questions, changed }) {
    this.questions = questions;
    this.changed = changed;
    this.problem = trouble();
    this.list = make("ul", { class: "sets" });
    this.input = make("input", {
      type: "file",
      id: questions ? "questions-file" : "set-file",
      class: "unseen",
      accept: ".json,.jsonl",
      on: {
        change: async () => {
          const [file] = this.input.files;
          this.input.value = "";
          if (file) await this.#add(file);
        },
      },
    });
    this.node = make(
      "fieldset",
      { class: "set-picker" },
      make("legend", {}, phrase(questions ? "sets.questions" : "sets.title")),
      this.list,
      this.problem.node,
      make("p", { class: "set-add" }, make("label", { for: this.input.id, class: "text-button add" }, phrase("sets.add")), this.input),
      make("p", { class: "hint" }, phrase(questions ? "sets.questions.hint" : "sets.hint")),
    );
  }

  /** Names of what is chosen. */
  get chosen() {
    return this.#sets.map(({ name }) => name).filter((name) => this.#chosen.has(name));
  }

  get sets() {
    return this.#sets.filter(({ name }) => this.#chosen.has(name));
  }

  async refresh() {
    const kinds = this.questions ? ["questions"] : CONVERSATIONS;
    try {
      this.#sets = (await api.datasets()).filter(({ kind }) => kinds.includes(kind));
    } catch (error) {
      this.problem.show(error);
      return;
    }
    this.#chosen = new Set(this.chosen);
    if (!this.#chosen.size && this.#sets.length) this.#chosen.add(this.#sets[0].name);
    this.#draw();
    this.changed();
  }

  async #add(file) {
    this.problem.clear();
    try {
      const added = await api.addDataset(file);
      const fits = this.questions === (added.kind === "questions");
      if (!fits) this.problem.show(api.problem(phrase(this.questions ? "sets.no_questions" : "sets.no_conversations", { name: added.name })));
      else this.#chosen = new Set([added.name]);
      await this.refresh();
      announce(phrase("sets.added", { name: added.name }));
    } catch (error) {
      this.problem.show(error);
      if (!error.text) throw error;
    }
  }

  #draw() {
    if (!this.#sets.length) {
      fill(this.list, make("li", { class: "quiet" }, phrase(this.questions ? "sets.questions.none" : "sets.none")));
      return;
    }
    fill(this.list, this.#sets.map((set) => this.#row(set)));
  }

  #row(set) {
    const id = `${this.input.id}-${set.name}`;
    const box = make("input", {
      type: this.questions ? "radio" : "checkbox",
      name: this.input.id,
      id,
      on: {
        change: () => {
          if (this.questions) this.#chosen.clear();
          if (box.checked) this.#chosen.add(set.name);
          else this.#chosen.delete(set.name);
          this.changed();
        },
      },
    });
    box.checked = this.#chosen.has(set.name);
    return make(
      "li",
      { class: "set" },
      make("span", { class: "check" }, box, make("label", { for: id }, set.name)),
      make("span", { class: "set-facts" }, phrase(this.questions ? "sets.rows.questions" : "sets.rows", { n: set.rows })),
      set.malformed > 0 && tag(phrase("sets.malformed", { n: set.malformed }), "bad"),
      iconButton("delete", phrase("library.delete", { title: set.name }), () => this.#delete(set.name)),
      make(
        "details",
        { class: "more set-sample" },
        make("summary", {}, phrase("sets.sample")),
        make("dl", {}, set.sample.map(({ role, content }) => [make("dt", {}, role), make("dd", {}, content)]).flat()),
        set.problems.map((problem) => make("p", { class: "hint" }, problem)),
      ),
    );
  }

  #delete(name) {
    confirm(
      { title: phrase("sets.delete.title", { name }), lead: phrase("sets.delete.lead"), action: phrase("library.delete.action"), bad: true },
      async () => {
        await api.deleteDataset(name);
        await this.refresh();
        announce(phrase("library.deleted", { title: name }));
      },
    );
  }
}
