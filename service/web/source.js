/**
 * The source panel: a document's text, scrolled to the cited passage and highlighting exactly the quoted words.
 *
 * The text is only ever text nodes. A long document is drawn as a window around the passage until the reader asks for
 * all of it. Beside the page the panel lets the reader go on asking; where it covers the page (a phone) it is modal.
 */

import { documentText, saveOriginal } from "./api.js";
import { announce, fill, iconButton, make } from "./elements.js";
import { phrase } from "./i18n.js";
import { lineEnd, lineStart, unitSpan } from "./offsets.js";
import { PageView } from "./pageview.js";
import { PassageList } from "./passages.js";

const CONTEXT = 4000; // code points fetched on each side of the passage
const OPENING = 20_000; // code points of a document that is opened without a passage

const covering = matchMedia("(max-width: 63.99rem)");

/** "page 3", "pages 3–4" or nothing. */
export function pages(place) {
  if (!place.page_first) return null;
  return place.page_last && place.page_last !== place.page_first
    ? phrase("pages", { a: place.page_first, b: place.page_last })
    : phrase("page", { n: place.page_first });
}

const isPdf = (place) => /\.pdf$/i.test(place.path) && Boolean(place.page_first || place.pages);

/**
 * Where the cited words stand in a stretch of the document, as `{quote, passage}`, pairs of UTF-16 indices, or null
 * where they are not at their place. The passage is what the model read around them (`place.around`), if known.
 */
export function locate({ text, base }, place) {
  const quote = unitSpan(text, place.char_start - base, place.char_end - base);
  if (text.slice(...quote) !== place.text) return null;
  if (!place.around) return { quote, passage: quote };
  const passage = unitSpan(text, place.around.char_start - base, place.around.char_end - base);
  return { quote, passage: [Math.min(passage[0], quote[0]), Math.max(passage[1], quote[1])] };
}

export class SourcePanel {
  #loading = null;
  #trigger = null;
  #shown = null; // {places, index, collection}

  constructor() {
    this.title = make("h2", { id: "source-title", class: "source-title", tabindex: "-1" });
    this.where = make("p", { class: "source-where" });
    this.count = make("span", { class: "source-count" });
    this.steps = make(
      "div",
      { class: "source-steps" },
      iconButton("back", phrase("source.previous"), () => this.#step(-1)),
      this.count,
      iconButton("forth", phrase("source.next"), () => this.#step(1)),
    );
    this.pages = new PageView();
    this.passages = new PassageList();
    this.save = iconButton("download", phrase("source.save"), () => this.#save());
    this.modes = make(
      "div",
      { class: "source-modes", role: "group", "aria-label": phrase("source.modes") },
      ["text", "page", "passages"].map((mode) =>
        make("button", { type: "button", "data-mode": mode, on: { click: () => this.#show(mode) } }, phrase(`source.mode.${mode}`)),
      ),
    );
    this.body = make("div", { class: "source-body", tabindex: "0", role: "region", "aria-label": phrase("source.text") });
    this.node = make(
      "dialog",
      { id: "source", class: "source", "aria-labelledby": "source-title" },
      make(
        "div",
        { class: "source-head" },
        make("div", { class: "source-names" }, this.title, this.where),
        this.steps,
        this.save,
        iconButton("close", phrase("close"), () => this.close()),
      ),
      this.modes,
      this.body,
      this.pages.node,
      this.passages.node,
    );
    this.node.addEventListener("close", () => this.#closed());
    document.addEventListener("keydown", (event) => {
      const inAnotherDialog = event.target.closest?.("dialog") && !this.node.contains(event.target);
      if (event.key === "Escape" && this.node.open && !inAnotherDialog) this.close();
    });
    covering.addEventListener("change", () => this.node.open && this.#raise());
  }

  /**
   * Opens the `index`-th of some places (citations, hits, or a document without a passage). `trigger` gets the focus
   * back when the panel closes.
   */
  open(places, index, collection, trigger) {
    this.#trigger = trigger;
    this.#shown = { places, index, collection };
    if (!this.node.open) this.#raise();
    this.#draw();
  }

  close() {
    if (this.node.open) this.node.close();
  }

  #raise() {
    if (this.node.open) this.node.close("moving");
    if (covering.matches) this.node.showModal();
    else this.node.show();
    document.documentElement.classList.add("with-source");
  }

  #closed() {
    if (this.node.open || this.node.returnValue === "moving") {
      this.node.returnValue = "";
      return;
    }
    this.#loading?.abort();
    document.documentElement.classList.remove("with-source");
    if (this.#trigger?.isConnected) this.#trigger.focus({ preventScroll: true });
    this.#trigger = null;
    this.node.dispatchEvent(new CustomEvent("sourcechange", { detail: null }));
  }

  #step(by) {
    const { places, index } = this.#shown;
    this.#shown.index = (index + by + places.length) % places.length;
    this.#draw(by);
  }

  async #draw(stepped = 0) {
    const { places, index, collection } = this.#shown;
    const place = places[index];
    fill(this.title, place.title || place.path);
    const page = pages(place);
    fill(this.where, page, page && make("span", { class: "dot", "aria-hidden": "true" }, " · "), place.path);
    this.steps.hidden = places.length < 2;
    fill(this.count, phrase("source.of", { i: index + 1, n: places.length }));
    this.node.dispatchEvent(new CustomEvent("sourcechange", { detail: place }));
    this.modes.children[1].hidden = !isPdf(place);
    this.pages.take(place, collection);
    this.passages.take(place, collection);
    this.#show("text");

    this.#loading?.abort();
    const loading = new AbortController();
    this.#loading = loading;
    if (!stepped) {
      fill(this.body, make("p", { class: "source-note" }, phrase("source.loading")));
      this.title.focus({ preventScroll: true });
    }
    try {
      const { stretch, found } = await this.#find(place, collection, loading.signal);
      if (!loading.signal.aborted) this.#write(place, collection, stretch, found, !stepped);
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(this.body, make("p", { class: "problem", role: "alert" }, error.text ?? phrase("error.page")));
      if (!error.text) throw error;
    }
  }

  /** The document's text, or the picture of its page. */
  #show(mode) {
    for (const button of this.modes.children) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    this.body.hidden = mode !== "text";
    this.pages.node.hidden = mode !== "page";
    this.passages.node.hidden = mode !== "passages";
    if (mode === "page") this.pages.show();
    if (mode === "passages") this.passages.show();
  }

  async #save() {
    const { places, index, collection } = this.#shown;
    const { document_id: id, path } = places[index];
    try {
      await saveOriginal(id, collection, path.split("/").at(-1));
    } catch (error) {
      this.body.querySelector(".save-problem")?.remove();
      this.body.prepend(make("p", { class: "problem save-problem", role: "alert" }, error.text ?? phrase("error.page")));
      this.#show("text");
      this.body.scrollTop = 0;
      if (!error.text) throw error;
    }
  }

  /** The stretch of the document to show, and where the place is in it (null: not any more; undefined: no place). */
  async #find(place, collection, signal) {
    const { document_id: id, char_start: start, char_end: end } = place;
    if (end === undefined) {
      return { stretch: await documentText(id, collection, signal, { start: 0, end: 0, context: OPENING }) };
    }
    const stretch = await documentText(id, collection, signal, { start, end, context: CONTEXT });
    const found = locate(stretch, place);
    if (found) return { stretch, found };
    const whole = await documentText(id, collection, signal); // changed since: the words may stand elsewhere now
    const at = whole.text.indexOf(place.text);
    const span = [at, at + place.text.length];
    return { stretch: whole, found: at < 0 ? null : { quote: span, passage: span } };
  }

  #write(place, collection, stretch, found, focus) {
    const { text } = stretch;
    const { passage, quote } = found ?? { passage: [0, 0], quote: [0, 0] };
    const last = stretch.base + Array.from(text).length;
    const from = stretch.base > 0 ? lineStart(text, 200) : 0;
    const to = last < stretch.characters ? lineEnd(text, text.length - 200) : text.length;
    const all = () => this.#writeAll(place, collection, mark);
    const cut = (key, edge) =>
      make(
        "p",
        { class: `source-cut source-cut-${edge}` },
        make("span", {}, phrase(key)),
        make("button", { type: "button", class: "text-button", on: { click: all } }, phrase("source.all")),
      );
    const mark = found && make("mark", { id: "cited", tabindex: "-1" }, text.slice(...quote));
    fill(
      this.body,
      found === null && make("p", { class: "problem", role: "status" }, phrase("source.moved")),
      make(
        "div",
        { class: "source-text" },
        stretch.base > 0 && cut("source.before", "before"),
        make("span", { class: "source-run" }, text.slice(Math.min(from, passage[0]), passage[0])),
        make(
          "span",
          { class: "source-run passage" },
          text.slice(passage[0], quote[0]),
          mark,
          text.slice(quote[1], passage[1]),
        ),
        make("span", { class: "source-run" }, text.slice(passage[1], Math.max(to, passage[1]))),
        last < stretch.characters && cut("source.after", "after"),
      ),
    );
    this.body.scrollTop = 0;
    if (!mark) return;
    const box = mark.getBoundingClientRect();
    const frame = this.body.getBoundingClientRect();
    this.body.scrollTop = Math.max(0, box.top - frame.top - Math.max(24, (frame.height - box.height) / 3));
    if (focus) mark.focus({ preventScroll: true });
    announce(phrase("source.found"));
  }

  /** Everything, with what one was reading where it was. */
  async #writeAll(place, collection, mark) {
    const before = mark?.getBoundingClientRect().top;
    const whole = await documentText(place.document_id, collection, this.#loading.signal);
    const found = place.char_end === undefined ? undefined : locate(whole, place);
    this.#write(place, collection, whole, found, false);
    const now = this.body.querySelector("#cited");
    if (now && before !== undefined) this.body.scrollTop += now.getBoundingClientRect().top - before;
    this.body.focus({ preventScroll: true });
  }
}
