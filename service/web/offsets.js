/**
 * Code points to UTF-16 units. The service counts offsets in code points, JavaScript slices in UTF-16 units, and an
 * emoji or a rare Chinese character before the place makes them differ.
 */

const isHigh = (unit) => unit >= 0xd800 && unit <= 0xdbff;
const isLow = (unit) => unit >= 0xdc00 && unit <= 0xdfff;

/** The UTF-16 index of the n-th code point, counted on from `from` (itself an index between two code points). */
export function unitIndex(text, n, from = 0) {
  let index = from;
  for (let seen = 0; seen < n && index < text.length; seen += 1) {
    index += isHigh(text.charCodeAt(index)) && isLow(text.charCodeAt(index + 1)) ? 2 : 1;
  }
  return index;
}

/** The span `[start, end)` of code points as a pair of UTF-16 indices, cut to the text. */
export function unitSpan(text, start, end) {
  const first = unitIndex(text, Math.max(0, start));
  return [first, unitIndex(text, Math.max(0, end - start), first)];
}

/** The nearest start of a line to `index`, at most `reach` units back, never inside a surrogate pair. */
export function lineStart(text, index, reach = 400) {
  const newline = text.lastIndexOf("\n", Math.max(0, index - 1));
  if (index <= 0) return 0;
  if (newline >= 0 && index - newline <= reach) return newline + 1;
  return isLow(text.charCodeAt(index)) ? index - 1 : index;
}

/** The nearest end of a line to `index`, at most `reach` units on, never inside a surrogate pair. */
export function lineEnd(text, index, reach = 400) {
  if (index >= text.length) return text.length;
  const newline = text.indexOf("\n", index);
  if (newline >= 0 && newline - index <= reach) return newline;
  return isLow(text.charCodeAt(index)) ? index - 1 : index;
}
