/**
 * A run's curves as SVG: every step's loss faintly, its running mean as a line, validations as dots joined by a line.
 *
 * The picture says its gist in words as its name; the figures stand beside it as text.
 */

import { bind, phrase } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";
const SIZE = { width: 640, height: 260 };
const ROOM = { left: 44, right: 12, top: 12, bottom: 28 };
const SMOOTHING = 0.9; // weight of the past
const MOST = 600; // points of a line

/** Exponential moving average without the pull towards its start, as the run's own picture has it. */
export function smoothed(values) {
  let average = 0;
  return values.map((value, at) => {
    average = SMOOTHING * average + (1 - SMOOTHING) * value;
    return average / (1 - SMOOTHING ** (at + 1));
  });
}

/** Round numbers that cover [low, high] in about `count` steps. */
export function ticks(low, high, count = 4) {
  const raw = Math.max((high - low) / count, 1e-9);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const first = Math.floor(low / step);
  const found = [];
  for (let n = first; n * step < high + step; n += 1) found.push(Number((n * step).toPrecision(12)));
  return found;
}

function shape(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const thin = (points) => {
  const every = Math.ceil(points.length / MOST);
  return points.filter((_, at) => at % every === 0 || at === points.length - 1);
};

/** The chart of a run's events; empty axes where there is no step yet. */
export function curves(events, steps) {
  const training = events.filter((event) => Number.isFinite(event.loss));
  const validation = events.filter((event) => Number.isFinite(event.eval_loss));
  const losses = [...training.map(({ loss }) => loss), ...validation.map(({ eval_loss: loss }) => loss)];
  const marks = losses.length ? ticks(Math.min(...losses), Math.max(...losses)) : [0, 1];
  const last = Math.max(1, steps ?? 0, ...training.map(({ step }) => step));
  const x = (step) => ROOM.left + (step / last) * (SIZE.width - ROOM.left - ROOM.right);
  const y = (loss) =>
    SIZE.height - ROOM.bottom - ((loss - marks[0]) / (marks.at(-1) - marks[0])) * (SIZE.height - ROOM.top - ROOM.bottom);
  const path = (points) => thin(points).map(([a, b], at) => `${at ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const running = smoothed(training.map(({ loss }) => loss));
  const svg = shape("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, class: "chart", role: "img" });
  bind(svg, phrase("train.chart", { n: training.length, steps: last }), (node, text) => node.setAttribute("aria-label", text));
  const text = (at, words, attributes) => {
    const node = shape("text", { ...at, ...attributes });
    node.textContent = words;
    return node;
  };
  for (const mark of marks) {
    svg.append(
      shape("line", { x1: ROOM.left, x2: SIZE.width - ROOM.right, y1: y(mark), y2: y(mark), class: "chart-grid" }),
      text({ x: ROOM.left - 8, y: y(mark) + 4 }, String(mark), { class: "chart-mark", "text-anchor": "end" }),
    );
  }
  for (const step of [0, ...ticks(0, last).filter((mark) => mark > 0 && mark <= last)]) {
    svg.append(text({ x: x(step), y: SIZE.height - 8 }, String(step), { class: "chart-mark", "text-anchor": "middle" }));
  }
  if (training.length) {
    svg.append(
      shape("path", { d: path(training.map(({ step, loss }) => [step, loss])), class: "chart-raw" }),
      shape("path", { d: path(training.map(({ step }, at) => [step, running[at]])), class: "chart-line" }),
    );
  }
  if (validation.length) {
    const points = validation.map(({ step, eval_loss: loss }) => [step, loss]);
    svg.append(shape("path", { d: path(points), class: "chart-validation" }));
    for (const [a, b] of thin(points)) svg.append(shape("circle", { cx: x(a), cy: y(b), r: 4, class: "chart-dot" }));
  }
  return svg;
}
