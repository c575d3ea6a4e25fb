/**
 * The service's HTTP routes, one function each. Every failure is an ApiError whose message a person can read.
 *
 * Addresses are relative to the page, so that it also works behind a proxy that serves it under a path.
 */

import { phrase, say } from "./i18n.js";
import { readEvents } from "./events.js";
import { anotherKey, authorization, currentKey } from "./key.js";

/** What went wrong: `code` for the program, `text` (a Phrase or the service's own sentence) for the reader. */
export class ApiError extends Error {
  constructor(code, text, status = 0) {
    super(say(text));
    this.code = code;
    this.text = text;
    this.status = status;
  }
}

const address = (path) => new URL(path, document.baseURI);

async function call(path, init = {}) {
  const key = currentKey();
  let response;
  try {
    response = await fetch(address(path), { ...init, headers: { ...init.headers, ...authorization(key) } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unreachable", phrase("error.unreachable"));
  }
  if (response.status === 401 && (await anotherKey(key))) return call(path, init);
  if (!response.ok) throw refused(response.status, await response.text().catch(() => ""), response.headers.get("Retry-After"));
  return response;
}

/** The service's error reply as an ApiError, whatever came back in its place. */
function refused(status, body, retryAfter = null) {
  let error;
  try {
    error = JSON.parse(body).error;
  } catch {
    // Not JSON: a proxy's page, perhaps.
  }
  if (typeof error?.message !== "string" || !error.message) {
    return new ApiError(error?.code ?? "unexpected", phrase("error.unexpected", { status }), status);
  }
  const wait = status === 429 && Number(retryAfter) > 0 ? ` ${say(phrase("error.busy", { s: Number(retryAfter) }))}` : "";
  return new ApiError(error.code ?? "unexpected", error.message + wait, status);
}

const json = (body) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

/**
 * Asks, and yields the events `sources`, `reasoning`, `token`, `citation` and `final` as they come.
 * Aborting the signal closes the connection, which frees the service's slot.
 */
export async function* ask(request, signal) {
  const response = await call("ask", { ...json({ ...request, stream: true }), signal });
  try {
    for await (const item of readEvents(response.body)) {
      if (item.event === "error") throw refused(item.data.status ?? 500, JSON.stringify(item.data));
      yield item;
      if (item.event === "final") return; // whatever the connection still does, the answer is complete
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError("broken", phrase("error.broken"));
  }
  if (!signal.aborted) throw new ApiError("broken", phrase("error.broken"));
}

const list = async (path, name) => (await (await call(path)).json())[name];

export const documents = (collection) => list(`documents?collection=${encodeURIComponent(collection)}`, "documents");

/** `{collections, default}`. */
export const collections = async () => (await call("collections")).json();

/** `{models, default}`. */
export const models = async () => (await call("models")).json();

/** `{status: "ready" | "loading" | "failed", parts}`; it is no failure of this call that the service is not ready. */
export async function readiness() {
  let response;
  try {
    response = await fetch(address("readyz"));
  } catch {
    throw new ApiError("unreachable", phrase("error.unreachable"));
  }
  return response.json().catch(() => ({ status: "failed", parts: {} }));
}

const inCollection = (collection) => `?collection=${encodeURIComponent(collection)}`;

/**
 * A document's stored text as `{text, base, characters}`: `base` is the code point of the document that `text` begins
 * with. With `span`, only that span of code points and `context` code points on either side; else all of it.
 */
export async function documentText(id, collection, signal, span = null) {
  const path = `documents/${encodeURIComponent(id)}/text${inCollection(collection)}`;
  if (!span) {
    const { text, characters } = await (await call(path, { signal })).json();
    return { text, base: 0, characters };
  }
  const { start, end, context } = span;
  const reply = await (await call(`${path}&char_start=${start}&char_end=${end}&context=${context}`, { signal })).json();
  return {
    text: reply.before + reply.passage + reply.after,
    base: Math.max(0, reply.char_start - context),
    characters: reply.characters,
  };
}

export const deleteDocument = (id, collection) =>
  call(`documents/${encodeURIComponent(id)}${inCollection(collection)}`, { method: "DELETE" });

export const job = async (id, signal) => (await call(`jobs/${encodeURIComponent(id)}`, { signal })).json();

/** Sends one file and resolves to its job. `onProgress` gets the share sent, 0 to 1 (fetch cannot tell it). */
export function upload(file, collection, onProgress) {
  const key = currentKey();
  const form = new FormData();
  form.append("files", file, file.name);
  form.append("collection", collection);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address("documents"));
    for (const [name, value] of Object.entries(authorization(key))) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.addEventListener("load", async () => {
      if (request.status === 401 && (await anotherKey(key))) return resolve(upload(file, collection, onProgress));
      if (request.status >= 400) return reject(refused(request.status, request.responseText, request.getResponseHeader("Retry-After")));
      try {
        return resolve(JSON.parse(request.responseText));
      } catch {
        return reject(new ApiError("unexpected", phrase("error.unexpected", { status: request.status })));
      }
    });
    request.addEventListener("error", () => reject(new ApiError("unreachable", phrase("error.unreachable"))));
    request.send(form);
  });
}
