/** Conversations that the service remembers, to be looked at and gone on with. */

import * as api from "./api.js";
import { announce, fill, iconButton, make } from "./elements.js";
import { phrase } from "./i18n.js";
import { trouble } from "./widgets.js";

/** Opens the list; `go(id, history)` takes up a conversation. */
export function openHistory(go) {
  const problem = trouble();
  const list = make("ul", { class: "history" }, make("li", { class: "quiet" }, phrase("history.loading")));
  const dialog = make(
    "dialog",
    { class: "confirm", "aria-labelledby": "history-title" },
    make(
      "div",
      { class: "history-head" },
      make("h2", { id: "history-title" }, phrase("history.title")),
      iconButton("close", phrase("close"), () => dialog.close()),
    ),
    problem.node,
    list,
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();

  const guarded = async (work) => {
    problem.clear();
    try {
      await work();
    } catch (error) {
      problem.show(error);
      if (!error.text) throw error;
    }
  };
  const draw = async () => {
    const found = await api.sessions();
    if (!found.length) fill(list, make("li", { class: "quiet" }, phrase("history.none")));
    else fill(list, found.map(row));
  };
  const row = (session) =>
    make(
      "li",
      {},
      make(
        "button",
        {
          type: "button",
          class: "run-open",
          on: {
            click: () =>
              guarded(async () => {
                const { id, history } = await api.session(session.id);
                dialog.close();
                go(id, history);
              }),
          },
        },
        make("span", { class: "run-name" }, session.title),
        make("span", { class: "hint" }, phrase("history.turns", { n: session.turns }), " · ", phrase("library.date", { iso: session.updated_at })),
      ),
      iconButton("delete", phrase("library.delete", { title: session.title }), () =>
        guarded(async () => {
          await api.deleteSession(session.id);
          await draw();
          announce(phrase("library.deleted", { title: session.title }));
        }),
      ),
    );
  guarded(draw);
}
