/** What this tab keeps of its conversation (sessionStorage): the turns as they were drawn, and the conversation's id. */

import { say } from "./i18n.js";

const KEY = "lorebase.thread.1"; // another number when a turn gets another shape
const SESSION = "lorebase.session";
const KEPT = 30; // turns
const ENDED = new Set(["done", "stopped", "failed"]);

/** The conversation that the service keeps of this thread; null begins another one. */
export function session(id = undefined) {
  try {
    if (id === null) sessionStorage.removeItem(SESSION);
    else if (id !== undefined) sessionStorage.setItem(SESSION, id);
    else if (!sessionStorage.getItem(SESSION)) sessionStorage.setItem(SESSION, newId());
    return sessionStorage.getItem(SESSION) ?? undefined;
  } catch {
    return undefined; // without storage every question stands alone
  }
}

/** Not crypto.randomUUID, which pages that came over plain HTTP from another machine do not have. */
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** The turns of before a reload; one that was being answered has stopped. */
export function restore() {
  try {
    const turns = JSON.parse(sessionStorage.getItem(KEY)) ?? [];
    return turns.map((turn) => (ENDED.has(turn.state) ? turn : { ...turn, state: "stopped" }));
  } catch {
    return [];
  }
}

/** Keeps the latest turns. */
export function store(entries) {
  const turns = entries.slice(-KEPT).map(({ turn }) => ({ ...turn, problem: turn.problem && say(turn.problem) }));
  try {
    sessionStorage.setItem(KEY, JSON.stringify(turns));
  } catch {
    // Full or forbidden: the thread lasts until the page is reloaded.
  }
}
