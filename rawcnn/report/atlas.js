"use strict";
// The map of an activation atlas. A place in the atlas is (x, y) in the unit square. The view consists of the place in the
// center of the canvas and the factor by which the square is enlarged. Every change draws everything again.

const { levels, classes } = JSON.parse(document.getElementById("atlas").textContent);
const sheets = [...document.querySelectorAll("img.sheet")]; // one for each level
const canvas = document.querySelector("canvas");
const pen = canvas.getContext("2d");
const description = document.querySelector(".description");

const SMALLEST = 44; // a level is shown automatically if its cells have at least this many pixels
const FAINT = 0.1; // opacity of icons that do not belong to the highlighted class
const COLORS = ["#4c7fb5", "#e8862e", "#4f9d57", "#d1495b", "#8e6cb8", "#e0bb3c", "#4bb3b5", "#e58fb1", "#8c6a4f", "#9aa0a6"];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const widest = Math.max(4, levels.at(-1).grid / 2.5); // a cell of the finest grid fills two fifths of the map

let view = { x: 0.5, y: 0.5, zoom: 1 };
let fixed = null; // the requested level; null: chosen by the zoom
let lit = null; // the highlighted class
let rings = false;
let current = null; // the cell that is described

// Positions ---------------------------------------------------------------------------------------------------------

const side = () => 0.96 * Math.min(canvas.clientWidth, canvas.clientHeight) * view.zoom; // side of the square in pixels
const color = (rank) => COLORS[rank] ?? `hsl(${(rank * 137.508) % 360} 55% ${[45, 60, 72][rank % 3]}%)`;

function level() {
  if (fixed !== null) return levels[fixed];
  return levels.findLast((one) => side() / one.grid >= SMALLEST) ?? levels[0];
}

function toScreen(x, y) {
  return [canvas.clientWidth / 2 + (x - view.x) * side(), canvas.clientHeight / 2 + (y - view.y) * side()];
}

function toAtlas(left, top) {
  return [view.x + (left - canvas.clientWidth / 2) / side(), view.y + (top - canvas.clientHeight / 2) / side()];
}

function nearest(x, y) {
  const { grid, cells } = level();
  const apart = (cell) => Math.hypot((cell.x + 0.5) / grid - x, (cell.y + 0.5) / grid - y);
  return cells.reduce((best, cell) => (apart(cell) < apart(best) ? cell : best));
}

function cellAt(left, top) {
  const { grid, cells } = level();
  const [x, y] = toAtlas(left, top).map((place) => Math.floor(place * grid));
  return cells.find((cell) => cell.x === x && cell.y === y) ?? null;
}

// Drawing ---------------------------------------------------------------------------------------------------------

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

function draw() {
  const dense = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(height * dense);
  pen.scale(dense, dense);
  pen.imageSmoothingQuality = "high";
  const shown = level();
  const cellSide = side() / shown.grid;
  for (const cell of shown.cells) {
    const icon = 0.96 * cellSide * cell.size;
    const [x, y] = toScreen((cell.x + 0.5) / shown.grid, (cell.y + 0.5) / shown.grid);
    if (x + icon < 0 || y + icon < 0 || x - icon > width || y - icon > height) continue;
    pen.globalAlpha = lit === null || lit === cell.rank ? 1 : FAINT;
    const box = [x - icon / 2, y - icon / 2, icon, icon];
    const { pitch, side: pixels } = shown;
    pen.drawImage(sheets[levels.indexOf(shown)], cell.at[0] * pitch, cell.at[1] * pitch, pixels, pixels, ...box);
    if (rings && cell.rank !== null) frame(box, color(cell.rank), Math.max(2, icon / 14));
    if (cell === current) frame(box, getComputedStyle(canvas).color, 2.5);
  }
  pen.globalAlpha = 1;
  describe(cellSide);
  for (const button of document.querySelectorAll("[data-level]")) {
    const number = button.dataset.level === "" ? null : Number(button.dataset.level);
    button.setAttribute("aria-pressed", String(number === fixed));
    button.classList.toggle("seen", levels[number] === shown);
  }
}

function frame([left, top, width, height], style, thickness) {
  pen.strokeStyle = style;
  pen.lineWidth = thickness;
  pen.strokeRect(left + thickness / 2, top + thickness / 2, width - thickness, height - thickness);
}

function describe(cellSide) {
  const lines = current ? [classes[current.rank], ...current.lines].filter((line) => line !== undefined) : [];
  if (lines.join("\n") !== description.dataset.shown) {
    description.replaceChildren(
      ...lines.map((line, number) => {
        const element = document.createElement(number ? "span" : "b");
        element.textContent = line;
        return element;
      }),
    );
    description.dataset.shown = lines.join("\n");
  }
  if (!current) return;
  const { grid } = level();
  const [x, y] = toScreen((current.x + 0.5) / grid, (current.y + 0.5) / grid);
  const [wide, tall] = [description.offsetWidth, description.offsetHeight];
  const reach = cellSide / 2 + 8;
  let [left, top] = [x + reach, y - tall / 2]; // to the right of the cell, else to its left, else below or above it
  if (left + wide > canvas.clientWidth) left = x - reach - wide;
  if (left < 0) [left, top] = [x - wide / 2, y + reach + tall < canvas.clientHeight ? y + reach : y - reach - tall];
  const within = (place, room) => Math.max(4, Math.min(place, room - 4));
  description.style.left = `${within(left, canvas.clientWidth - wide)}px`;
  description.style.top = `${within(top, canvas.clientHeight - tall)}px`;
}

// Moving ----------------------------------------------------------------------------------------------------------

function look(x, y, zoom) {
  const before = level();
  const inside = (place) => Math.max(0, Math.min(1, place));
  const limited = Math.max(1, Math.min(widest, zoom));
  view = limited === 1 ? { x: 0.5, y: 0.5, zoom: 1 } : { x: inside(x), y: inside(y), zoom: limited };
  if (current && level() !== before) current = nearest((current.x + 0.5) / before.grid, (current.y + 0.5) / before.grid);
  redraw();
}

function pan(right, down) {
  look(view.x - right / side(), view.y - down / side(), view.zoom);
}

function put([x, y], left, top, zoom) { // moves a place of the atlas to a point of the canvas
  const limited = Math.max(1, Math.min(widest, zoom));
  const length = (side() / view.zoom) * limited;
  look(x - (left - canvas.clientWidth / 2) / length, y - (top - canvas.clientHeight / 2) / length, limited);
}

function zoomAt(left, top, factor) {
  put(toAtlas(left, top), left, top, view.zoom * factor);
}

function zoom(factor) {
  const { grid } = level();
  const [left, top] = current
    ? toScreen((current.x + 0.5) / grid, (current.y + 0.5) / grid)
    : [canvas.clientWidth / 2, canvas.clientHeight / 2];
  zoomAt(left, top, factor);
}

function select(cell) {
  if (cell === current) return;
  current = cell;
  redraw();
}

function step([right, down]) {
  const { grid, cells } = level();
  let best = current ?? nearest(view.x, view.y);
  if (current) {
    let least = Infinity;
    for (const cell of cells) {
      const along = (cell.x - current.x) * right + (cell.y - current.y) * down;
      const aside = Math.abs((cell.x - current.x) * down) + Math.abs((cell.y - current.y) * right);
      if (along > 0 && along + 2 * aside < least) [least, best] = [along + 2 * aside, cell];
    }
  }
  select(best);
  const [x, y] = toScreen((best.x + 0.5) / grid, (best.y + 0.5) / grid);
  const room = side() / grid;
  const over = (place, length) => Math.min(0, place - room) + Math.max(0, place + room - length);
  pan(-over(x, canvas.clientWidth), -over(y, canvas.clientHeight)); // so that the cell is visible
}

// Mouse, fingers, keys ---------------------------------------------------------------------------------------------

const held = new Map(); // pointer → its position
let travelled = 0;

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 16 : 1;
  zoomAt(event.offsetX, event.offsetY, Math.exp(-0.0018 * lines * event.deltaY));
}, { passive: false });

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  held.set(event.pointerId, [event.offsetX, event.offsetY]);
  if (held.size === 1) travelled = 0;
});

canvas.addEventListener("pointermove", (event) => {
  const now = [event.offsetX, event.offsetY];
  const before = held.get(event.pointerId);
  if (!before) return select(cellAt(...now));
  held.set(event.pointerId, now);
  travelled += Math.hypot(now[0] - before[0], now[1] - before[1]);
  const other = [...held].find(([id]) => id !== event.pointerId)?.[1];
  if (!other) return pan(now[0] - before[0], now[1] - before[1]);
  const apart = (place) => Math.max(8, Math.hypot(place[0] - other[0], place[1] - other[1]));
  const middle = (place) => [(place[0] + other[0]) / 2, (place[1] + other[1]) / 2];
  put(toAtlas(...middle(before)), ...middle(now), (view.zoom * apart(now)) / apart(before));
});

for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    held.delete(event.pointerId);
    if (kind === "pointerup" && travelled < 6) select(cellAt(event.offsetX, event.offsetY));
  });
}
canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && select(null));
canvas.addEventListener("dblclick", (event) => zoomAt(event.offsetX, event.offsetY, 2));
canvas.addEventListener("blur", () => select(null));

canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  if (arrow && event.shiftKey) pan(-60 * arrow[0], -60 * arrow[1]);
  else if (arrow) step(arrow);
  else if (event.key === "+" || event.key === "=") zoom(1.4);
  else if (event.key === "-") zoom(1 / 1.4);
  else if (event.key === "0") look(0.5, 0.5, 1);
  else if (event.key === "Escape") select(null);
  else return;
  event.preventDefault();
});

// Buttons ---------------------------------------------------------------------------------------------------------

function press(selector, act) {
  for (const button of document.querySelectorAll(selector)) button.addEventListener("click", () => act(button));
}

press("[data-zoom]", (button) => (button.dataset.zoom ? zoom(Number(button.dataset.zoom)) : look(0.5, 0.5, 1)));

press("[data-level]", (button) => {
  fixed = button.dataset.level === "" ? null : Number(button.dataset.level);
  current = null;
  redraw();
});

press("[data-rings]", (button) => {
  rings = !rings;
  button.setAttribute("aria-pressed", String(rings));
  redraw();
});

press("[data-class]", (button) => {
  const rank = Number(button.dataset.class);
  lit = lit === rank ? null : rank;
  for (const other of document.querySelectorAll("[data-class]")) {
    other.setAttribute("aria-pressed", String(Number(other.dataset.class) === lit));
  }
  redraw();
});

for (const swatch of document.querySelectorAll("[data-class] i")) {
  swatch.style.background = color(Number(swatch.parentElement.dataset.class));
}

document.documentElement.classList.add("scripted");
new ResizeObserver(redraw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
Promise.all(sheets.map((sheet) => sheet.decode())).then(redraw);
