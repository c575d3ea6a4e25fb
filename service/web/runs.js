/**
 * What Train and Evaluate share: work that processes of their own do on the service's machine, one of them open, and
 * all looked at again as long as one of them is live and the view is shown.
 */

import { fill, icon, make } from "./elements.js";
import { phrase } from "./i18n.js";
import { tag, trouble } from "./widgets.js";

/** What a run or a comparison may be called, as a pattern of an input. */
export const NAME = "[A-Za-z0-9][A-Za-z0-9._\\-]*";

const KINDS = { finished: "", failed: "bad", killed: "bad", "not started": "bad" };

/** How far it has come, as a tag. */
export const state = (one) =>
  make(
    "span",
    { class: "run-state" },
    isLive(one) && make("span", { class: "pulse", "aria-hidden": "true" }),
    one.state === "finished" && icon("tick"),
    tag(phrase(`train.state.${one.state.replace(" ", "_")}`), KINDS[one.state] ?? "plain"),
  );

/** Whether something about it can still change. */
export const isLive = (one) => one.live ?? one.state === "running";

export class RunList {
  #looking = false;

  /**
   * @param read resolves to all of them, newest first.
   * @param draw shows the open one; undefined where there is none.
   * @param opened another one is open now; `draw` follows.
   * @param shown whether the view is on the page.
   */
  constructor({ read, draw, opened, shown, everyMs }) {
    Object.assign(this, { read, draw, opened, shown, everyMs });
    this.found = [];
    this.name = null; // of the open one
    this.problem = trouble();
    this.node = make("ul", { class: "run-list" });
  }

  get open() {
    return this.found.find(({ name }) => name === this.name);
  }

  choose(name) {
    this.name = name;
    this.opened();
  }

  /** Reads and draws, and again. One call does it for all who ask meanwhile. */
  async look() {
    if (this.#looking) return;
    this.#looking = true;
    try {
      for (;;) {
        this.found = await this.read();
        this.problem.clear();
        if (!this.open) this.choose(this.found[0]?.name ?? null);
        await this.#draw();
        if (!this.shown() || !this.found.some(isLive)) break;
        await new Promise((resolve) => setTimeout(resolve, this.everyMs));
      }
    } catch (error) {
      this.problem.show(error);
      if (!error.text) throw error;
    } finally {
      this.#looking = false;
    }
  }

  async #draw() {
    const focused = document.activeElement?.closest?.(".run-list button")?.dataset.name;
    fill(this.node, this.found.map((one) => this.#row(one)));
    if (focused) [...this.node.querySelectorAll("button")].find((node) => node.dataset.name === focused)?.focus();
    await this.draw(this.open);
  }

  #row(one) {
    const open = () => {
      this.choose(one.name);
      return this.#draw();
    };
    return make(
      "li",
      {},
      make(
        "button",
        { type: "button", class: "run-open", "data-name": one.name, "aria-current": one.name === this.name ? "true" : null, on: { click: open } },
        make("span", { class: "run-name" }, one.name),
        state(one),
      ),
    );
  }
}
