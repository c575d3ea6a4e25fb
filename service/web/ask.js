/**
 * The Ask view: the thread of this page's questions, and the box to ask the next one.
 *
 * The newest question takes at least the height of the window, so that its answer streams into room that is already
 * there and nothing on the page moves. The thread is kept in sessionStorage: it survives a reload, not the tab.
 */

import * as api from "./api.js";
import { AnswerEntry } from "./answer.js";
import { fill, icon, make } from "./elements.js";
import { openHistory } from "./history.js";
import { bind, phrase } from "./i18n.js";
import { restore, session, store } from "./thread.js";
import { tolerance } from "./tolerance.js";
import { offer } from "./widgets.js";

const K = { least: 1, most: 50 }; // what the service accepts
const MODES = ["rag", "quote", "closed_book"];
const READY_POLL_MS = 1000;

export function create(shell) {
  const view = new AskView(shell);
  return { node: view.node, show: (moved) => view.show(moved) };
}

class AskView {
  #shell;
  #entries = [];
  #running = null; // {entry, controller}

  constructor(shell) {
    this.#shell = shell;
    this.hero = make("div", { class: "hero" });
    this.title = make("h1", { class: "unseen", hidden: true }, phrase("ask.thread"));
    this.thread = make("div", { class: "thread" });
    this.ready = make("p", { class: "readiness", role: "status", hidden: true });
    this.form = this.#composer();
    this.node = make("section", { class: "ask" }, this.hero, this.title, this.thread, make("div", { class: "dock" }, this.ready, this.form));
    for (const turn of restore()) this.#append(turn);
    this.#arrange();
    shell.source.node.addEventListener("sourcechange", ({ detail }) => {
      for (const entry of this.#entries) entry.highlight(detail);
    });
  }

  async show(moved) {
    // On a touch screen the focus would bring up the keyboard, so it waits for the reader's hand.
    const focus = () => (moved || matchMedia("(hover: hover)").matches) && this.question.focus({ preventScroll: true });
    focus();
    const focused = document.activeElement;
    const ready = this.#awaitReadiness();
    await this.#welcome();
    if (document.activeElement === focused) focus(); // the box was hidden before
    await ready;
  }

  /** Says above the box that the models are still being loaded, until they are. */
  async #awaitReadiness() {
    while (!this.node.hidden) {
      let state;
      try {
        state = await api.readiness();
      } catch {
        return; // the first question, or the welcome, says so
      }
      this.ready.hidden = state.status === "ready";
      this.ready.className = state.status === "failed" ? "readiness problem" : "readiness";
      if (state.status === "ready") return;
      const broken = Object.values(state.parts).filter((part) => part !== "ready" && part !== "loading");
      if (state.status === "failed") {
        fill(this.ready, broken.join(" ") || phrase("ready.failed"));
        return;
      }
      fill(this.ready, make("span", { class: "pulse", "aria-hidden": "true" }), phrase("ready.loading"));
      await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
    }
  }

  // --- the first sight ---------------------------------------------------------------------------------------------

  async #welcome() {
    if (this.#entries.length) return;
    let documents = null;
    const { collection } = this.#shell;
    try {
      documents = await api.documents(collection);
      if (collection !== this.#shell.collection) return; // another was chosen meanwhile
    } catch (error) {
      const text = error.text ?? phrase("error.page");
      fill(this.hero, make("h1", {}, phrase("ask.title")), make("p", { class: "problem", role: "alert" }, text));
      return;
    }
    this.node.classList.toggle("bare", documents.length === 0);
    if (documents.length === 0) {
      fill(
        this.hero,
        make("h1", {}, phrase("ask.empty.title")),
        make("p", { class: "lead" }, phrase("ask.empty.lead")),
        make("a", { class: "button", href: "#/library" }, icon("upload"), phrase("ask.empty.action")),
      );
      return;
    }
    const recent = [...documents].sort((a, b) => String(b.ingested_at).localeCompare(String(a.ingested_at))).slice(0, 4);
    fill(
      this.hero,
      make("h1", {}, phrase("ask.title")),
      make("p", { class: "lead" }, phrase("ask.lead", { n: documents.length })),
      make(
        "div",
        { class: "recent" },
        make("p", { class: "recent-title" }, phrase("ask.recent")),
        make(
          "ul",
          {},
          recent.map((document) =>
            make(
              "li",
              {},
              make(
                "button",
                {
                  type: "button",
                  class: "chip",
                  on: {
                    click: (event) =>
                      this.#shell.source.open([{ ...document }], 0, this.#shell.collection, event.currentTarget),
                  },
                },
                icon("file"),
                make("span", {}, document.title || document.path),
              ),
            ),
          ),
        ),
      ),
    );
  }

  // --- the box -----------------------------------------------------------------------------------------------------

  #composer() {
    this.question = make("textarea", {
      id: "question",
      rows: "1",
      placeholder: phrase("ask.placeholder"),
      "aria-label": phrase("ask.question"),
      enterkeyhint: "send",
      on: {
        input: () => this.#grow(),
        keydown: (event) => {
          // Enter while an input method is composing picks a character, it does not ask.
          if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
          event.preventDefault();
          if (!this.#running) this.form.requestSubmit();
        },
      },
    });
    this.send = make("button", { type: "submit", class: "send" }, icon("send"));
    this.#dressSend();
    const model = this.#picker("model", [], null);
    const collection = this.#picker("collection", [], null);
    const shelve = () => {
      offer(collection, this.#shell.collections, this.#shell.collection);
      collection.hidden = this.#shell.collections.length < 2;
    };
    document.addEventListener("collectionschange", shelve);
    const know = () => {
      offer(model, this.#shell.models, this.#shell.model);
      model.hidden = this.#shell.models.length < 2;
      const { mode } = form.elements;
      if (this.#shell.mode) mode.value = this.#shell.mode;
      this.#shell.mode = null;
    };
    document.addEventListener("modelschange", know);
    const form = make(
      "form",
      // A number out of range is clamped; the browser's own word on it would stand in options that are folded away.
      { class: "composer", novalidate: true, on: { submit: (event) => this.#submit(event) } },
      this.question,
      make(
        "div",
        { class: "composer-row" },
        collection,
        model,
        this.#options(),
        this.send,
      ),
    );
    know();
    shelve();
    return form;
  }

  #picker(name, values, value) {
    const select = make(
      "select",
      { name, "aria-label": phrase(`ask.${name}`) },
      values.map((each) => make("option", { value: each }, each)),
    );
    select.value = value;
    if (name === "model") select.addEventListener("change", () => this.#shell.choose(select.value));
    if (name === "collection") {
      select.addEventListener("change", () => {
        this.#shell.shelve(null, select.value);
        this.#welcome();
      });
    }
    return select;
  }

  #options() {
    const k = make("input", {
      type: "number",
      name: "k",
      min: K.least,
      max: K.most,
      placeholder: phrase("ask.k.usual"),
      inputmode: "numeric",
    });
    const mode = make(
      "select",
      { name: "mode" },
      MODES.map((each) => make("option", { value: each }, phrase(`ask.mode.${each}`))),
    );
    const rerank = make("input", { type: "checkbox", name: "rerank" });
    const section = make("input", { type: "checkbox", name: "section" });
    this.clear = make(
      "button",
      { type: "button", class: "text-button", on: { click: () => this.#clear() } },
      phrase("ask.clear"),
    );
    const history = make(
      "button",
      { type: "button", class: "text-button", on: { click: () => openHistory((id, turns) => this.#takeUp(id, turns)) } },
      phrase("history.open"),
    );
    const details = make(
      "details",
      { class: "options" },
      make("summary", {}, icon("sliders"), make("span", {}, phrase("ask.options"))),
      make(
        "div",
        { class: "options-sheet" },
        make("label", {}, make("span", {}, phrase("ask.mode")), mode),
        make("label", {}, make("span", {}, phrase("ask.k")), k),
        make("label", {}, make("span", {}, phrase("ask.error")), tolerance()),
        make("label", {}, make("span", {}, phrase("ask.rerank")), rerank),
        make("label", {}, make("span", {}, phrase("ask.section")), section),
        history,
        this.clear,
      ),
    );
    details.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !details.open) return;
      event.stopPropagation();
      details.open = false;
      details.querySelector("summary").focus();
    });
    document.addEventListener("pointerdown", (event) => {
      if (details.open && !details.contains(event.target)) details.open = false;
    });
    return details;
  }

  #grow() {
    this.question.style.height = "auto";
    this.question.style.height = `${Math.min(this.question.scrollHeight, 200)}px`;
  }

  #dressSend() {
    const name = this.#running ? "stop" : "send";
    fill(this.send, icon(name));
    bind(this.send, phrase(`ask.${name}`), (node, text) => {
      if ((this.#running ? "stop" : "send") !== name) return; // an older phrase
      node.setAttribute("aria-label", text);
      node.title = text;
    });
  }

  // --- asking ------------------------------------------------------------------------------------------------------

  #submit(event) {
    event.preventDefault();
    if (this.#running) {
      this.#running.controller.abort();
      return;
    }
    const question = this.question.value.trim();
    if (!question) {
      this.question.focus();
      return;
    }
    const { collection, model, mode, k, error, rerank, section } = this.form.elements;
    const request = { question, collection: collection.value || this.#shell.collection, mode: mode.value };
    if (model && !model.hidden) request.model = model.value;
    if (k.value) request.k = within(k.value);
    if (error.value) request.acceptable_error = Number(error.value);
    if (rerank.checked) request.rerank = true;
    if (section.checked) request.context = "section";
    request.session_id = session();
    this.question.value = "";
    this.#grow();
    this.#run(this.#append(fresh(request)));
  }

  async #run(entry) {
    const controller = new AbortController();
    this.#running = { entry, controller };
    this.#dressSend();
    this.#arrange();
    store(this.#entries); // a reload keeps the question
    entry.node.scrollIntoView({ block: "start", behavior: calm() ? "auto" : "smooth" });
    try {
      await this.#whenReady(entry, controller.signal);
      for await (const event of api.ask(entry.turn.request, controller.signal)) entry.take(event);
      if (controller.signal.aborted) entry.end("stopped");
    } catch (error) {
      if (error.name === "AbortError") entry.end("stopped");
      else entry.end("failed", error.text ?? phrase("error.page"));
      if (!(error instanceof api.ApiError) && error.name !== "AbortError") throw error;
    } finally {
      this.#running = null;
      this.#dressSend();
      this.#arrange();
      store(this.#entries);
    }
  }

  /** A question asked while the models are still being loaded waits for them instead of being refused. */
  async #whenReady(entry, signal) {
    while ((await api.readiness()).status === "loading" && !signal.aborted) {
      entry.wait();
      await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
    }
  }

  #append(turn) {
    const entry = new AnswerEntry(turn, {
      again: () => this.#again(entry),
      open: (places, index, trigger) => this.#shell.source.open(places, index, turn.request.collection, trigger),
    });
    this.#entries.push(entry);
    this.thread.append(entry.node);
    return entry;
  }

  /** Asks the same again, at the end of the thread: the earlier answer stays to compare with. A failed one goes. */
  #again(entry) {
    if (this.#running) return;
    if (entry.turn.state !== "done") this.#remove(entry);
    this.#run(this.#append(fresh(entry.turn.request)));
    this.question.focus({ preventScroll: true });
  }

  #remove(entry) {
    this.#entries.splice(this.#entries.indexOf(entry), 1);
    entry.node.remove();
  }

  /** Shows a conversation that the service remembers; the next question goes on with it. */
  async #takeUp(id, history) {
    this.#empty();
    session(id);
    for (const turn of history) {
      const { question, answer, answer_html, answered, refusal_reason, collection, mode, model } = turn;
      const reply = { answer, answer_html, answered, refusal_reason, citations: [], model, confidence: null, recalled: true };
      this.#append({ question, request: { question, collection, mode, session_id: id }, state: "done", passages: [], text: "", reply });
    }
    this.#arrange();
    this.question.focus();
    const recalled = [...this.#entries];
    for (const [at, { citations, collection }] of history.entries()) {
      recalled[at].cite((await Promise.all(citations.map((place) => asItStands(place, collection)))).filter(Boolean));
    }
    store(this.#entries);
  }

  #empty() {
    this.#running?.controller.abort();
    for (const entry of [...this.#entries]) this.#remove(entry);
  }

  #clear() {
    this.#empty();
    session(null);
    this.#shell.source.close();
    this.form.querySelector("details").open = false;
    store(this.#entries);
    this.#arrange();
    this.#welcome();
    this.question.focus();
  }

  #arrange() {
    this.node.classList.toggle("started", this.#entries.length > 0);
    this.hero.hidden = this.#entries.length > 0;
    this.title.hidden = !this.hero.hidden;
    this.clear.hidden = this.#entries.length === 0;
  }
}

const fresh = (request) => ({ question: request.question, request, state: "searching", passages: null, text: "", reply: null });

/** A cited place with the text that stands there now: the service keeps places, not texts. Null: it is gone. */
async function asItStands(place, collection) {
  const span = { start: place.char_start, end: place.char_end, context: 0 };
  try {
    const { text } = await api.documentText(place.document_id, collection, undefined, span);
    return text.trim() ? { ...place, text, quote: text } : null;
  } catch {
    return null; // the document, or the collection, has been deleted since
  }
}

const within = (k) => Math.min(K.most, Math.max(K.least, Math.round(Number(k)) || K.least));

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
