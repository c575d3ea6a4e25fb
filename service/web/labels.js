/** One label of a classifier with its examples, being written. */

import { fill, icon, iconButton, make } from "./elements.js";
import { phrase } from "./i18n.js";

export class LabelCard {
  #boxes = [];

  /** `open`: its examples are shown; `remove()` is called when it shall go. */
  constructor(label, texts, open, remove) {
    this.name = make("input", {
      type: "text",
      value: label,
      class: "label-name",
      "aria-label": phrase("classify.label"),
      placeholder: phrase("classify.label"),
    });
    this.list = make("ul", { class: "examples" });
    this.count = make("span", { class: "label-count" });
    this.node = make(
      "div",
      { class: "label-card", role: "group", "aria-label": label || phrase("classify.label") },
      make("div", { class: "label-head" }, this.name, iconButton("delete", phrase("classify.label.remove"), remove)),
      make(
        "details",
        { class: "label-examples", open: !label || open },
        make("summary", {}, this.count),
        this.list,
        make(
          "button",
          { type: "button", class: "text-button add", on: { click: () => this.#add("", true) } },
          icon("plus"),
          phrase("classify.example.add"),
        ),
      ),
    );
    for (const text of texts) this.#add(text, false);
    this.#recount();
  }

  /** The examples that hold something. */
  get texts() {
    return this.#boxes.map(({ value }) => value.trim()).filter(Boolean);
  }

  #recount() {
    fill(this.count, phrase("classify.examples", { n: this.texts.length }));
  }

  #add(text, focus) {
    const keydown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault(); // the next example; Shift and Enter begin a line
      this.#add("", true);
    };
    const box = make("textarea", {
      rows: "1",
      class: "growing",
      "aria-label": phrase("classify.example"),
      placeholder: phrase("classify.example"),
      on: { input: () => this.#recount(), keydown },
    });
    box.value = text;
    const remove = () => {
      this.#boxes.splice(this.#boxes.indexOf(box), 1);
      item.remove();
      this.#recount();
      (this.#boxes.at(-1) ?? this.name).focus();
    };
    const item = make("li", {}, box, iconButton("close", phrase("classify.example.remove"), remove));
    this.#boxes.push(box);
    this.list.append(item);
    this.#recount();
    if (focus) box.focus();
  }
}
