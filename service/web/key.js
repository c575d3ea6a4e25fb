/**
 * The key that a service may ask for: entered once, kept in this tab only (sessionStorage), gone when it is closed.
 *
 * However many requests are refused at the same time, the reader is asked once.
 */

import { fill, make } from "./elements.js";
import { phrase } from "./i18n.js";

const NAME = "lorebase.key";
let asking = null;

/** The key in use, or null. */
export const currentKey = () => sessionStorage.getItem(NAME);

/** The header that brings `key`, if there is one. */
export const authorization = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

/**
 * Asks for another key after `refused` (a key, or null) was not let in. Resolves to true when there is one to try,
 * and to false when the reader would rather not.
 */
export async function anotherKey(refused) {
  if (currentKey() !== refused) return true; // entered while this request was under way
  asking ??= prompt(refused !== null).finally(() => {
    asking = null;
  });
  return asking;
}

function prompt(wrong) {
  return new Promise((resolve) => {
    const problem = make("p", { class: "problem", role: "alert", hidden: !wrong }, phrase("key.wrong"));
    const input = make("input", { id: "key", type: "password", autocomplete: "current-password", required: true });
    let given = false;
    const submit = (event) => {
      event.preventDefault();
      const key = input.value.trim();
      if (!/^[\x21-\x7e]+$/.test(key)) {
        fill(problem, phrase("key.wrong")); // no such key can be sent
        problem.hidden = false;
        return;
      }
      sessionStorage.setItem(NAME, key);
      given = true;
      document.dispatchEvent(new Event("keychange"));
      dialog.close();
    };
    const dialog = make(
      "dialog",
      { class: "confirm", "aria-labelledby": "key-title", "aria-describedby": "key-lead" },
      make(
        "form",
        { on: { submit } },
        make("h1", { id: "key-title" }, phrase("key.title")),
        make("p", { id: "key-lead" }, phrase("key.lead")),
        make("p", { class: "key-field" }, make("label", { for: "key" }, phrase("key.label")), input),
        problem,
        make(
          "div",
          { class: "confirm-actions" },
          make("button", { type: "button", class: "button button-plain", on: { click: () => dialog.close() } }, phrase("cancel")),
          make("button", { type: "submit", class: "button" }, phrase("key.send")),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(given);
    });
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
}
