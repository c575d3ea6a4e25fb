/**
 * The Library view: what is in the collection, how to add to it and how to take from it.
 */

import * as api from "./api.js";
import { announce, fill, iconButton, make, needs } from "./elements.js";
import { phrase } from "./i18n.js";
import { chips, editFields } from "./fields.js";
import { Collections } from "./collections.js";
import { Retrieval } from "./retrieval.js";
import { Uploads } from "./uploads.js";
import { confirm } from "./widgets.js";

const FILTER_FROM = 9; // documents; fewer are seen at a glance

export function create(shell) {
  const view = new LibraryView(shell);
  return { node: view.node, show: () => view.refresh() };
}

class LibraryView {
  #shell;
  #documents = null;

  constructor(shell) {
    this.#shell = shell;
    this.count = make("p", { class: "lead", role: "status" });
    this.uploads = new Uploads(
      () => shell.collection,
      () => this.refresh(),
    );
    this.filter = make("input", {
      type: "search",
      class: "filter",
      placeholder: phrase("library.filter"),
      "aria-label": phrase("library.filter"),
      hidden: true,
      on: { input: () => this.#draw() },
    });
    this.retrieval = new Retrieval(shell);
    this.collections = new Collections(shell, () => {
      this.retrieval.clear();
      return this.refresh();
    });
    this.list = make("div", { class: "documents" }, make("p", { class: "quiet" }, phrase("library.loading")));
    this.heading = make("h1", { tabindex: "-1" }, phrase("library.title"));
    this.node = make(
      "section",
      { class: "library" },
      make("header", { class: "library-head" }, make("div", {}, this.heading, this.count, this.collections.facts), this.collections.node),
      needs("editor", this.uploads.node),
      this.retrieval.node,
      this.filter,
      this.list,
    );
  }

  /** Reads the list from the service again. */
  async refresh() {
    try {
      await this.collections.refresh();
      const { collection } = this.#shell;
      const documents = await api.documents(collection);
      if (collection !== this.#shell.collection) return; // another was chosen meanwhile, and has its own reply
      this.#documents = documents;
    } catch (error) {
      fill(this.count);
      fill(this.list, make("p", { class: "problem", role: "alert" }, error.text ?? phrase("error.page")));
      return;
    }
    this.#draw();
  }

  #draw() {
    const documents = this.#documents;
    const chunks = documents.reduce((sum, document) => sum + (document.chunks ?? 0), 0);
    fill(this.count, documents.length > 0 && phrase("library.count", { documents: documents.length, chunks }));
    this.filter.hidden = documents.length < FILTER_FROM;
    this.retrieval.node.hidden = documents.length === 0;
    if (!documents.length) {
      fill(
        this.list,
        make(
          "div",
          { class: "empty" },
          make("h2", {}, phrase("library.empty.title")),
          make("p", {}, phrase("library.empty.lead")),
        ),
      );
      return;
    }
    const wanted = this.filter.hidden ? "" : this.filter.value.trim().toLowerCase();
    const found = documents.filter((document) => `${document.title} ${document.path} ${JSON.stringify(document.own ?? {})}`.toLowerCase().includes(wanted));
    if (!found.length) {
      fill(this.list, make("p", { class: "quiet" }, phrase("library.filter.none")));
      return;
    }
    fill(this.list, this.#table(found));
  }

  #table(documents) {
    const column = (key, kind) => make("th", { scope: "col", class: kind }, phrase(key));
    return make(
      "table",
      {},
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          column("library.document"),
          column("library.pages", "number"),
          column("library.chunks", "number"),
          column("library.added", "date"),
          make("td", {}),
        ),
      ),
      make("tbody", {}, documents.map((document) => this.#row(document))),
    );
  }

  #row(document) {
    const title = document.title || document.path;
    const warnings = document.warnings ?? [];
    return make(
      "tr",
      {},
      make(
        "th",
        { scope: "row" },
        make(
          "button",
          {
            type: "button",
            class: "document-open",
            on: { click: (event) => this.#shell.source.open([document], 0, this.#shell.collection, event.currentTarget) },
          },
          title,
        ),
        make("span", { class: "document-path" }, document.path),
        chips(document.own),
        warnings.length > 0 &&
          make(
            "details",
            { class: "document-warnings" },
            make("summary", {}, phrase("library.warnings", { n: warnings.length })),
            make("ul", {}, warnings.map((warning) => make("li", {}, warning))),
          ),
      ),
      make("td", { class: "number", "data-name": phrase("library.pages") }, document.pages ? String(document.pages) : "–"),
      make("td", { class: "number", "data-name": phrase("library.chunks") }, String(document.chunks ?? "–")),
      make("td", { class: "date" }, document.ingested_at ? phrase("library.date", { iso: document.ingested_at }) : "–"),
      make(
        "td",
        { class: "act" },
        needs("editor", iconButton("tag", phrase("fields.edit", { title }), () => editFields(document, this.#shell.collection, () => this.refresh()))),
        needs("editor", iconButton("delete", phrase("library.delete", { title }), () => this.#confirm(document, title))),
      ),
    );
  }

  #confirm(document, title) {
    confirm(
      { title: phrase("library.delete.title"), lead: phrase("library.delete.lead", { title }), action: phrase("library.delete.action"), bad: true },
      async () => {
        await api.deleteDocument(document.document_id, this.#shell.collection);
        await this.refresh();
        announce(phrase("library.deleted", { title }));
        this.heading.focus({ preventScroll: true });
      },
    );
  }
}
