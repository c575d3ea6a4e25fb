/** The picture of a PDF's page beside the answer: the service draws it, the reader turns the pages. */

import { pagePicture } from "./api.js";
import { fill, iconButton, make } from "./elements.js";
import { phrase } from "./i18n.js";

export class PageView {
  #place = null;
  #collection = null;
  #page = 1;
  #last = null; // page, once it is known
  #loading = null;

  constructor() {
    this.count = make("span", { class: "source-count" });
    this.back = iconButton("back", phrase("source.page.previous"), () => this.#turn(-1));
    this.forth = iconButton("forth", phrase("source.page.next"), () => this.#turn(1));
    this.paper = make("div", { class: "paper" });
    this.node = make(
      "div",
      { class: "source-body pages", tabindex: "0", role: "region", "aria-label": phrase("source.mode.page"), hidden: true },
      make("div", { class: "page-steps" }, this.back, this.count, this.forth),
      this.paper,
    );
  }

  /** Another document or another place in it; nothing is drawn before it is shown. */
  take(place, collection) {
    this.#loading?.abort();
    this.#place = place;
    this.#collection = collection;
    this.#page = place.page_first ?? 1;
    this.#last = place.pages ?? null;
    fill(this.paper);
  }

  async show() {
    this.#loading?.abort();
    const loading = new AbortController();
    this.#loading = loading;
    const page = this.#page;
    fill(this.count, phrase("page", { n: page }));
    this.back.disabled = page <= 1;
    this.forth.disabled = this.#last !== null && page >= this.#last;
    this.paper.setAttribute("aria-busy", "true");
    try {
      const address = await pagePicture(this.#place.document_id, this.#collection, page, loading.signal);
      if (loading.signal.aborted) return;
      fill(this.paper, make("img", { src: address, alt: phrase("source.page.alt", { n: page, title: this.#place.title || this.#place.path }) }));
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 404 && error.code === "unknown_name" && page > 1) {
        this.#last = page - 1; // a citation does not say how many pages there are
        this.#page = page - 1;
        await this.show();
        return;
      }
      fill(this.paper, make("p", { class: "problem", role: "alert" }, error.text ?? phrase("error.page")));
      if (!error.text) throw error;
    } finally {
      this.paper.removeAttribute("aria-busy");
    }
  }

  #turn(by) {
    this.#page = Math.max(1, this.#page + by);
    this.show();
  }
}
