/**
 * Server-sent events from the body of a fetch (EventSource cannot POST), after the WHATWG's "Interpreting an event
 * stream": lines end in LF, CR or CRLF, several data lines join, a line that starts with a colon is a comment, and an
 * event without its blank line is not dispatched.
 */

/** Yields `{event, data}` with `data` parsed from JSON. `body` is a ReadableStream of bytes. */
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = "message";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      for (;;) {
        const end = /\r\n|\n|\r(?=[\s\S])/.exec(rest); // a CR at the very end may be half of a CRLF: wait
        if (!end) break;
        const line = rest.slice(0, end.index);
        rest = rest.slice(end.index + end[0].length);
        if (line === "") {
          if (data.length) yield { event, data: JSON.parse(data.join("\n")) };
          event = "message";
          data = [];
          continue;
        }
        const colon = line.indexOf(":");
        if (colon === 0) continue;
        const field = colon < 0 ? line : line.slice(0, colon);
        const content = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (field === "event") event = content;
        else if (field === "data") data.push(content);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
