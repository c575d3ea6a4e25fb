/** The reader's own fields of a document (tags, a year, a course): shown, and changed as lines of text. */

import * as api from "./api.js";
import { announce, make } from "./elements.js";
import { phrase } from "./i18n.js";
import { confirm, field } from "./widgets.js";

const shown = (value) => (Array.isArray(value) ? value.join(", ") : String(value));

/** A value as the line it is read back from: as JSON where plain words would come back as something else. */
const written = (value) => (JSON.stringify(read(shown(value))) === JSON.stringify(value) ? shown(value) : JSON.stringify(value));

/** Chips of the fields, or nothing. */
export function chips(own = {}) {
  const entries = Object.entries(own);
  if (!entries.length) return null;
  return make("ul", { class: "fields-shown" }, entries.map(([name, value]) => make("li", { class: "tag plain" }, `${name}: ${shown(value)}`)));
}

/** `name = value` lines as fields: several values are separated by commas; numbers are numbers; JSON is itself. */
export function parse(text) {
  const fields = {};
  for (const line of text.split("\n").filter((each) => each.trim())) {
    const at = line.indexOf("=");
    const name = line.slice(0, Math.max(at, 0)).trim();
    if (!name) throw api.problem(phrase("fields.malformed", { line: line.trim() }));
    fields[name] = read(line.slice(at + 1).trim());
  }
  return fields;
}

function read(words) {
  if (/^\[.*\]$|^".*"$/.test(words)) {
    try {
      return JSON.parse(words);
    } catch {
      // plain words that only look like it
    }
  }
  const values = words.split(",").map((each) => each.trim()).filter(Boolean).map(typed);
  return values.length === 1 ? values[0] : values;
}

function typed(word) {
  return /^-?\d{1,15}(\.\d{1,15})?$/.test(word) && !/^-?0\d/.test(word) ? Number(word) : word;
}

/** Asks for a document's fields and sets them; `changed()` afterwards. */
export function editFields(document, collection, changed) {
  const own = document.own ?? {};
  const text = make("textarea", { rows: "5", spellcheck: "false" });
  text.value = Object.entries(own).map(([name, value]) => `${name} = ${written(value)}`).join("\n");
  confirm(
    { title: phrase("fields.title"), lead: phrase("fields.lead"), action: phrase("fields.save"), body: field(phrase("fields.label"), text) },
    async () => {
      const fields = parse(text.value);
      for (const name of Object.keys(own)) if (!(name in fields)) fields[name] = null;
      await api.setFields(document.document_id, collection, fields);
      await changed();
      announce(phrase("fields.saved"));
    },
  );
}
