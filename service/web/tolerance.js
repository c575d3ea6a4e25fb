/** Which share of the answers may be wrong: chosen once, kept by the browser as the language and the colours are. */

import { phrase } from "./i18n.js";
import { choice } from "./widgets.js";

const KEY = "lorebase.acceptable_error";
const SHARES = ["0.05", "0.1", "0.2", "0.3", "0.5"];

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // Storage is forbidden here: the usual point counts.
  }
}

/** The control; its value is empty where the service shall take its own point. */
export function tolerance() {
  const offered = SHARES.map((share) => [share, phrase("ask.error.most", { share: Number(share) })]);
  const select = choice([["", phrase("ask.error.usual")], ...offered], remembered(), { name: "error" });
  select.addEventListener("change", () => {
    try {
      if (select.value) localStorage.setItem(KEY, select.value);
      else localStorage.removeItem(KEY);
    } catch {
      // The choice lasts as long as the page.
    }
  });
  return select;
}
