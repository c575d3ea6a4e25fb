/**
 * Which collection the library shows, how to make another one and how to delete one.
 */

import * as api from "./api.js";
import { announce, fill, icon, iconButton, make, needs } from "./elements.js";
import { phrase } from "./i18n.js";
import { attempt, button, choice, confirm, field, offer, trouble } from "./widgets.js";

const CHUNKINGS = [
  ["", phrase("collection.chunking.usual")],
  ["112-16", phrase("collection.chunking.short")],
  ["448-64", phrase("collection.chunking.long")],
];

export class Collections {
  #shell;
  #found = [];
  #embedders = [];

  /** `changed()` is called when another collection is to be shown. */
  constructor(shell, changed) {
    this.#shell = shell;
    this.changed = changed;
    this.select = make("select", {
      "aria-label": phrase("ask.collection"),
      on: { change: () => this.#use(this.select.value) },
    });
    this.delete = needs("admin", iconButton("delete", phrase("collection.delete"), () => this.#confirm()));
    this.save = needs("editor", iconButton("download", phrase("collection.save"), () => this.#save()));
    this.make = needs("admin", button([icon("plus"), phrase("collection.new")], () => this.#ask()));
    this.problem = trouble();
    this.facts = make("p", { class: "hint" });
    this.node = make("div", { class: "collection-tools" }, this.select, this.save, this.delete, this.make, this.problem.node);
    this.#draw();
  }

  /** Reads from the service which collections there are. */
  async refresh() {
    const found = await api.collections();
    this.#found = found.collections;
    this.#embedders = found.embedders;
    this.#shell.shelve(found);
    this.#draw();
  }

  get #shown() {
    return this.#found.find(({ name }) => name === this.#shell.collection);
  }

  #draw() {
    offer(this.select, this.#shell.collections, this.#shell.collection);
    this.select.hidden = this.#shell.collections.length < 2;
    this.delete.hidden = !this.#shown;
    this.save.hidden = !this.#shown?.documents;
    const { embedder, chunking } = this.#shown ?? {};
    fill(this.facts, embedder && phrase("collection.facts", { embedder, tokens: Number.parseInt(chunking, 10) }));
  }

  #use(name) {
    this.#shell.shelve(null, name);
    return this.changed();
  }

  #ask() {
    const name = make("input", { type: "text", required: true, maxlength: "64", autocomplete: "off" });
    const [usual, ...others] = this.#embedders;
    const embedder = choice([["", phrase("collection.embedder.usual", { name: usual })], ...others]);
    const chunking = choice(CHUNKINGS);
    confirm(
      {
        title: phrase("collection.new.title"),
        lead: phrase("collection.new.lead"),
        action: phrase("collection.make"),
        body: [
          field(phrase("name"), name, phrase("collection.name.hint")),
          field(phrase("collection.embedder"), embedder, phrase("collection.embedder.hint")),
          field(phrase("collection.chunking"), chunking, phrase("collection.chunking.hint")),
        ],
      },
      async () => {
        const made = await api.makeCollection({
          name: name.value.trim(),
          embedder: embedder.value || null,
          chunking: chunking.value || null,
        });
        await this.refresh();
        await this.#use(made.name);
        announce(phrase("collection.made", { name: made.name }));
      },
    );
  }

  /** The collection as one file, for `python -m ingest import`. */
  #save() {
    return attempt(this.save, this.problem, () => api.saveCollection(this.#shell.collection));
  }

  #confirm() {
    const { name, documents } = this.#shown;
    confirm(
      {
        title: phrase("collection.delete.title", { name }),
        lead: phrase("collection.delete.lead", { n: documents }),
        action: phrase("library.delete.action"),
        bad: true,
      },
      async () => {
        await api.deleteCollection(name);
        await this.refresh(); // the usual one is shown again
        await this.changed();
        announce(phrase("library.deleted", { title: name }));
        this.make.focus();
      },
    );
  }
}
