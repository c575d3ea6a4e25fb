/**
 * What several views are made of: fields, bars, empty states, dialogs, and work that may fail.
 */

import { announce, fill, icon, make } from "./elements.js";
import { phrase } from "./i18n.js";

let serial = 0;

/** A label above its control, and a hint below it where there is one. */
export function field(label, control, hint = null, kind = "") {
  serial += 1;
  control.id ||= `field-${serial}`;
  if (hint) control.setAttribute("aria-describedby", `${control.id}-hint`);
  return make(
    "div",
    { class: `field ${kind}` },
    make("label", { for: control.id }, label),
    control,
    hint && make("p", { class: "hint", id: `${control.id}-hint` }, hint),
  );
}

/** A select over `values`: strings, or pairs of value and words. */
export function choice(values, chosen = null, attributes = {}) {
  const select = make("select", attributes);
  offer(select, values, chosen);
  return select;
}

/** Other things to choose from; what was chosen stays so where it is still offered. */
export function offer(select, values, chosen = select.value) {
  const pairs = values.map((each) => (Array.isArray(each) ? each : [each, each]));
  fill(select, pairs.map(([value, words]) => make("option", { value }, words)));
  select.value = pairs.some(([value]) => value === chosen) ? chosen : (pairs[0]?.[0] ?? "");
}

/** An ordinary button. */
export const button = (words, onClick, attributes = {}) =>
  make("button", { type: "button", class: "button button-plain", on: { click: onClick }, ...attributes }, words);

/** A share of one as a bar. The number is said by the text beside it. */
export function bar(share, kind = "") {
  const inner = make("span", { class: "bar-fill" });
  inner.style.setProperty("width", `${Math.max(0, Math.min(1, share)) * 100}%`);
  return make("span", { class: `bar ${kind}`, "aria-hidden": "true" }, inner);
}

/** What stands where nothing is yet: says what to do next. */
export function empty(title, lead, ...actions) {
  return make("div", { class: "empty" }, make("h2", {}, title), make("p", {}, lead), ...actions);
}

/** Where a view says what went wrong; hidden until it does. */
export function trouble() {
  const node = make("p", { class: "problem", role: "alert", hidden: true });
  return {
    node,
    show(error) {
      node.hidden = false;
      fill(node, error.text ?? (typeof error === "string" ? error : phrase("error.page")));
    },
    clear() {
      node.hidden = true;
      fill(node);
    },
  };
}

/**
 * Does some work for a button: it cannot be pressed again meanwhile, and a failure is shown. True where it succeeded.
 */
export async function attempt(pressed, problem, work) {
  problem.clear();
  pressed.disabled = true;
  pressed.classList.add("working");
  try {
    await work();
    return true;
  } catch (error) {
    if (error.name === "AbortError") return false;
    problem.show(error);
    if (!error.text) throw error;
    return false;
  } finally {
    pressed.disabled = false;
    pressed.classList.remove("working");
  }
}

/**
 * Asks before something is done. `work` may throw: the dialog stays open and says why. It stays open, too, where the
 * work resolves to true.
 *
 * @param words `{title, lead, action}`; `body` holds fields between the lead and the buttons; `bad`: it takes something away.
 */
export function confirm({ title, lead, action, body = null, bad = false }, work) {
  const problem = trouble();
  const go = make("button", { type: "submit", class: bad ? "button button-bad" : "button" }, action);
  const submit = async (event) => {
    event.preventDefault();
    let stays = false;
    const done = await attempt(go, problem, async () => {
      stays = await work();
    });
    if (done && stays !== true) dialog.close();
  };
  const dialog = make(
    "dialog",
    { class: "confirm", "aria-labelledby": "confirm-title", "aria-describedby": lead ? "confirm-lead" : null },
    make(
      "form",
      { on: { submit } },
      make("h2", { id: "confirm-title" }, title),
      lead && make("p", { id: "confirm-lead" }, lead),
      body,
      problem.node,
      make("div", { class: "confirm-actions" }, button(phrase("cancel"), () => dialog.close()), go),
    ),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Text to take along, with a button that copies it. */
export function copyable(words) {
  const code = make("code", { tabindex: "0" }, words);
  const copy = make(
    "button",
    { type: "button", class: "icon-button", "aria-label": phrase("copy"), title: phrase("copy") },
    icon("copy"),
  );
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      return; // not allowed to: the text can still be selected
    }
    fill(copy, icon("tick"));
    announce(phrase("ask.copied"));
    setTimeout(() => fill(copy, icon("copy")), 1500);
  });
  return { node: make("div", { class: "command" }, code, copy), set: (text) => fill(code, text) };
}

/** A small word on a coloured ground: a state. */
export const tag = (words, kind = "") => make("span", { class: `tag ${kind}` }, words);
