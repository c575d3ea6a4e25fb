/** A document's passages as the index holds them, one below the other. */

import { documentChunks } from "./api.js";
import { fill, make } from "./elements.js";
import { phrase } from "./i18n.js";
import { pages } from "./source.js";

const AT_ONCE = 100;

export class PassageList {
  #of = null;

  constructor() {
    this.list = make("ol", { class: "passages" });
    this.node = make(
      "div",
      { class: "source-body", tabindex: "0", role: "region", "aria-label": phrase("source.mode.passages"), hidden: true },
      this.list,
    );
  }

  take(place, collection) {
    this.place = place;
    this.collection = collection;
  }

  async show() {
    const { place, collection } = this;
    if (this.#of === place) return;
    this.#of = place;
    fill(this.list, make("li", { class: "source-note" }, phrase("source.loading")));
    try {
      const chunks = await documentChunks(place.document_id, collection);
      if (this.#of !== place) return;
      fill(this.list);
      this.#append(chunks, 0);
    } catch (error) {
      this.#of = null;
      fill(this.list, make("li", { class: "problem", role: "alert" }, error.text ?? phrase("error.page")));
      if (!error.text) throw error;
    }
  }

  #append(chunks, from) {
    this.list.append(...chunks.slice(from, from + AT_ONCE).map((chunk) => this.#passage(chunk)));
    if (chunks.length <= from + AT_ONCE) return;
    const more = make("li", {}, make("button", { type: "button", class: "text-button add", on: { click: () => {
      more.remove();
      this.#append(chunks, from + AT_ONCE);
    } } }, phrase("source.more", { n: chunks.length - from - AT_ONCE })));
    this.list.append(more);
  }

  #passage(chunk) {
    const facts = [pages(chunk), phrase("source.tokens", { n: chunk.tokens }), chunk.heading_path.join(" › ")];
    return make(
      "li",
      { class: "passage-card" },
      make("ul", { class: "facts" }, facts.filter(Boolean).map((fact) => make("li", {}, fact))),
      make("p", {}, chunk.text.trim()),
    );
  }
}
