/**
 * One question with its answer: the reading column and, in the margin, the sources.
 *
 * A reply is held as data (`turn`) and drawn from it, so that a stored one looks like a fresh one. While it streams,
 * text is appended to one text node; at the end the service's sanitised HTML takes its place.
 */

import { announce, fill, icon, iconButton, make, sanitised } from "./elements.js";
import { bind, known, phrase } from "./i18n.js";
import { pages } from "./source.js";

/** States of a turn in which more is to come. */
const BUSY = new Set(["loading", "searching", "reading", "thinking", "writing"]);

/** A confidence below which an answer is likelier wrong than right by so much that it stands out. */
const DOUBTFUL = 0.35;

let serial = 0;

export class AnswerEntry {
  /**
   * @param turn `{question, request, state, passages, text, reply, problem}`; `state` is one of loading, searching, reading,
   *   thinking, writing, done, stopped, failed.
   * @param actions `{again(), open(places, index, trigger)}`
   */
  constructor(turn, actions) {
    this.turn = turn;
    this.actions = actions;
    serial += 1;
    this.id = `turn-${serial}`;
    this.status = make("p", { class: "status" });
    this.answer = make("div", { class: "answer", "aria-live": "polite", "aria-atomic": "false" });
    this.notes = make("div", { class: "notes" });
    this.meta = make("footer", { class: "meta" });
    this.margin = make("div", { class: "margin", role: "group", "aria-label": phrase("citation.heading") });
    this.node = make(
      "article",
      { class: "turn", "aria-labelledby": this.id },
      make(
        "div",
        { class: "reading" },
        make("h2", { id: this.id, class: "question", tabindex: "-1" }, turn.question),
        this.status,
        this.answer,
        this.notes,
        this.meta,
      ),
      this.margin,
    );
    this.#draw();
  }

  /** The service is not ready yet. */
  wait() {
    if (this.turn.state === "loading") return;
    this.turn.state = "loading";
    this.#drawStatus();
  }

  /** Takes one event of the stream. */
  take({ event, data }) {
    const { turn } = this;
    if (event === "sources") {
      turn.passages = data.sources;
      turn.state = "reading";
      this.places = this.#places();
      this.#drawStatus();
      this.#drawMargin();
    } else if (event === "reasoning") {
      if (turn.state === "thinking") return;
      turn.state = "thinking";
      this.#drawStatus();
    } else if (event === "token") {
      if (turn.state !== "writing") {
        turn.state = "writing";
        this.stream = document.createTextNode("");
        fill(this.answer, make("p", { class: "streamed" }, this.stream, make("span", { class: "caret", "aria-hidden": "true" })));
        this.#drawStatus();
      }
      turn.text += data.text;
      this.stream.data = turn.text;
    } else if (event === "final") {
      turn.reply = data;
      turn.passages = data.sources;
      this.end("done");
    }
  }

  /** The end, however it came: `done`, `stopped`, or `failed` with a problem to show. */
  end(state, problem = null) {
    this.turn.state = state;
    this.turn.problem = problem;
    this.#draw();
    announce(this.#summary().text);
  }

  /** Marks the citation whose source is open, in the text and in the margin. */
  highlight(place) {
    for (const node of this.node.querySelectorAll("[data-place]")) {
      node.classList.toggle("current", place !== null && this.places[node.dataset.place] === place);
    }
  }

  /** The sources of a recalled answer, found again. */
  cite(citations) {
    this.turn.reply.citations = citations;
    this.#draw();
  }

  get #busy() {
    return BUSY.has(this.turn.state);
  }

  /** What can be opened: the citations, then the other passages that were read. */
  #places() {
    const { reply, passages } = this.turn;
    const cited = reply?.citations ?? [];
    const isCited = (hit) => cited.some((citation) => holds(hit, citation));
    return [...this.#citations(), ...(passages ?? []).filter((hit) => !isCited(hit))];
  }

  /** The citations, each with the passage that it was found in. */
  #citations() {
    const { reply, passages } = this.turn;
    return (reply?.citations ?? []).map((citation) => ({
      ...citation,
      around: (passages ?? []).find((hit) => holds(hit, citation)),
    }));
  }

  #summary() {
    const { state, reply, passages } = this.turn;
    const n = reply?.citations.length ?? 0;
    if (state === "searching") {
      return { text: phrase(this.turn.request.mode === "closed_book" ? "state.waiting" : "state.searching") };
    }
    if (state === "loading") return { text: phrase("state.loading") };
    if (state === "thinking") return { text: phrase("state.thinking") };
    if (state === "reading") return { text: phrase("state.reading", { n: passages.length }) };
    if (state === "writing") return { text: phrase("state.writing") };
    if (state === "stopped") return { icon: "stop", text: phrase("state.stopped") };
    if (state === "failed") return { icon: "warn", text: phrase("state.failed"), tone: "bad" };
    if (reply.recalled) return { icon: "history", text: phrase(n ? "history.recalled" : "history.unsourced"), tone: "plain" };
    if (!reply.answered) return { icon: "none", text: phrase("state.refused"), tone: "plain" };
    if (reply.llm_generated === false) return { icon: "quote", text: phrase("state.quoted", { n }), tone: "good" };
    if (n === 0) return { icon: "warn", text: phrase("state.unsourced"), tone: "bad" };
    return { icon: "tick", text: phrase("state.sourced", { n }), tone: "good" };
  }

  #draw() {
    this.places = this.#places(); // the panel tells by identity which of them is open
    this.node.dataset.state = this.turn.state;
    this.answer.setAttribute("aria-busy", String(this.#busy));
    this.#drawStatus();
    this.#drawAnswer();
    this.#drawMargin();
    this.#drawMeta();
  }

  #drawStatus() {
    const { icon: picture, text, tone = "plain" } = this.#summary();
    this.node.dataset.state = this.turn.state;
    this.status.className = `status status-${tone}`;
    fill(this.status, picture ? icon(picture) : make("span", { class: "pulse", "aria-hidden": "true" }), make("span", {}, text));
  }

  #drawAnswer() {
    const { state, reply, text, problem } = this.turn;
    const notes = [];
    if (state === "done") {
      if (reply.answered) {
        const answer = sanitised(reply.answer_html ?? "");
        if (answer.textContent.trim()) fill(this.answer, answer);
        else fill(this.answer, make("p", { class: reply.recalled ? "" : "quiet" }, reply.answer || phrase("answer.empty")));
        this.#linkMarkers();
        const unsupported = this.answer.querySelectorAll(".unsupported");
        for (const flag of unsupported) bind(flag, phrase("unsupported.flag"), (node, title) => (node.title = title));
        if (unsupported.length) notes.push(make("p", { class: "legend" }, phrase("unsupported.legend")));
      } else {
        fill(this.answer, make("p", {}, refusal(reply)));
        if (!this.places.length && !reply.recalled) notes.push(make("p", { class: "quiet" }, phrase("refused.near.none")));
      }
    } else if (state === "stopped" || state === "failed") {
      fill(this.answer, text && make("p", { class: "streamed quiet" }, text));
      if (problem) notes.push(make("p", { class: "problem", role: "alert" }, problem));
    } else if (state === "searching") {
      this.answer.replaceChildren();
    }
    if (state === "done" && reply.reasoning) {
      notes.push(
        make(
          "details",
          { class: "reasoning" },
          make("summary", {}, phrase("reasoning")),
          make("p", { class: "streamed" }, reply.reasoning),
        ),
      );
    }
    fill(this.notes, notes);
  }

  #linkMarkers() {
    const cited = this.places.slice(0, this.turn.reply.citations.length);
    linkMarkers(this.answer, cited, (index, trigger) => this.actions.open(cited, index, trigger));
  }

  #drawMargin() {
    const { state, reply } = this.turn;
    const { places } = this;
    const cited = reply?.citations.length ?? 0;
    const busy = this.#busy;
    this.margin.hidden = places.length === 0;
    this.margin.classList.toggle("pending", busy);
    const cards = places.map((place, index) => this.#card(place, index, index < cited));
    if (busy || state !== "done") {
      return fill(this.margin, busy && heading("citation.reading"), make("ol", { class: "cards small" }, cards));
    }
    if (!reply.answered) return fill(this.margin, heading("refused.near"), make("ol", { class: "cards" }, cards));
    return fill(
      this.margin,
      cited > 0 && [heading("citation.heading"), make("ol", { class: "cards" }, cards.slice(0, cited))],
      cards.length > cited &&
        make(
          "details",
          { class: "also" },
          make("summary", {}, phrase("citation.also", { n: cards.length - cited })),
          make("ol", { class: "cards small" }, cards.slice(cited)),
        ),
    );
  }

  #card(place, index, isCitation) {
    const { places } = this;
    const cited = this.turn.reply?.citations.length ?? 0;
    const number = isCitation ? String(place.marker) : null;
    const title = place.title || place.path;
    const page = pages(place);
    const support = isCitation && this.turn.reply.llm_generated ? place.support : null;
    return make(
      "li",
      { class: "card", "data-place": String(index) },
      number && make("span", { class: "card-number", "aria-hidden": "true" }, number),
      make(
        "h3",
        { class: "card-title" },
        make(
          "button",
          {
            type: "button",
            class: "card-open",
            "aria-label": number && phrase("citation.open", { n: number, title }),
            on: {
              click: (event) =>
                this.actions.open(isCitation ? places.slice(0, cited) : places, index, event.currentTarget),
            },
          },
          title,
        ),
      ),
      make(
        "p",
        { class: "card-where" },
        page && make("span", { class: "card-page" }, page),
        make("span", { class: "card-path" }, place.path),
        support !== null && make("span", { class: "card-support" }, phrase("citation.support", { share: support })),
      ),
      make("blockquote", { class: "card-quote" }, excerpt(place.quote || place.text)),
    );
  }

  #drawMeta() {
    const { state, reply } = this.turn;
    if (this.#busy) return fill(this.meta);
    const facts = [];
    if (reply) {
      const { timings = {}, usage = {} } = reply;
      if (reply.model) facts.push(reply.model);
      if (reply.answered && reply.confidence !== null) {
        const share = phrase("meta.confidence", { share: reply.confidence });
        facts.push(reply.confidence < DOUBTFUL ? make("strong", { class: "doubtful" }, share) : share);
      }
      if (timings.first_token_ms) facts.push(phrase("meta.first", { ms: timings.first_token_ms }));
      if (timings.total_ms) facts.push(phrase("meta.total", { ms: timings.total_ms }));
      if (usage.dropped_chunks) facts.push(phrase("meta.dropped", { n: usage.dropped_chunks }));
    }
    return fill(
      this.meta,
      make("div", { class: "meta-actions" }, [
        iconButton("again", phrase("ask.again"), () => this.actions.again()),
        state === "done" && reply.answered && this.#copyButton(),
      ]),
      make("ul", { class: "facts" }, facts.map((fact) => make("li", {}, fact))),
    );
  }

  #copyButton() {
    const button = iconButton("copy", phrase("ask.copy"), async () => {
      try {
        await navigator.clipboard.writeText(this.turn.reply.answer);
      } catch {
        return; // not allowed to: the text can still be selected
      }
      fill(button, icon("tick"));
      announce(phrase("ask.copied"));
      setTimeout(() => fill(button, icon("copy")), 1500);
    });
    return button;
  }
}

/** The service's links `#citation-1` become buttons that open the source: the hash belongs to the routes. */
export function linkMarkers(answer, cited, open) {
  for (const link of answer.querySelectorAll("a")) {
    const marker = /^#citation-(\d+)$/.exec(link.getAttribute("href") ?? "")?.[1];
    const index = cited.findIndex((citation) => String(citation.marker) === marker);
    if (index < 0) {
      link.replaceWith(...link.childNodes);
      continue;
    }
    link.replaceWith(
      make(
        "button",
        {
          type: "button",
          class: "marker",
          "data-place": String(index),
          "aria-label": phrase("citation.marker", { n: marker }),
          on: { click: (event) => open(index, event.currentTarget) },
        },
        marker,
      ),
    );
  }
}

const heading = (key) => make("p", { class: "margin-title" }, phrase(key));

/** Whether the search's passage holds the citation. */
const holds = (hit, citation) =>
  hit.document_id === citation.document_id && hit.char_start <= citation.char_start && citation.char_end <= hit.char_end;

/** A quotation short enough for a card, cut between code points. */
export function excerpt(text = "") {
  const points = Array.from(text.trim().replace(/\s+/g, " ").slice(0, 700));
  return points.length > 280 ? `${points.slice(0, 280).join("").trimEnd()}…` : points.join("");
}

/** Why nothing was answered: words for a known code, else the service's own sentence. */
function refusal(reply) {
  const reason = reply.refusal_reason;
  if (reason && known(`refusal.${reason}`)) return phrase(`refusal.${reason}`);
  return reply.answer || phrase("state.refused");
}
