// Maps: canvases with one color for each pixel of an activation, of a gradient, or of the terms of a sum.
//
// Loaded after elements.js. Uses
//   arrays.js: tensors, tensor, mapShape, indicesBelow
//   elements.js: element

const SIDE = 260; // pixels: a map is enlarged to about this, by a whole factor; two stand side by side

// Orange for positive values, blue for negative ones, stronger for larger ones.
function valueColor(x, scale) {
  const share = scale > 0 ? Math.min(Math.abs(x) / scale, 1) : 0;
  return `color-mix(in srgb, ${x < 0 ? colors.accent : colors.second} ${Math.round(100 * share)}%, ${colors.paper})`;
}

// The colors of the light or the dark page, from its style.
const colors = {};
function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["accent", "second", "paper", "ink", "soft", "line"]) {
    colors[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

// A canvas with one color for each place; a color of null stays empty. Padding, [[top, bottom], [left, right]] in pixels, is
// a margin in another color.
function paintedCanvas(height, width, colorAt, [[top, bottom], [left, right]] = [[0, 0], [0, 0]]) {
  const [rows, columns] = [top + height + bottom, left + width + right];
  const factor = Math.max(1, Math.floor(SIDE / Math.max(rows, columns)));
  const canvas = element("canvas", { width: columns * factor, height: rows * factor });
  Object.assign(canvas, { factor, left, top }); // for `outline`
  const places = new Map(); // of each color: a canvas takes long to change its color
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const color = colorAt(row, column);
      if (color === null) continue;
      if (!places.has(color)) places.set(color, []);
      places.get(color).push([row, column]);
    }
  }
  const pen = canvas.getContext("2d");
  if (top + bottom + left + right) {
    pen.fillStyle = colors.line;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.clearRect(left * factor, top * factor, width * factor, height * factor);
  }
  for (const [color, cells] of places) {
    pen.fillStyle = color;
    for (const [row, column] of cells) pen.fillRect((left + column) * factor, (top + row) * factor, factor, factor);
  }
  return canvas;
}

// A map of values; undefined (not in the page), null (padding) and 0 stay empty.
function heatmap(height, width, valueAt, pads) {
  const values = indicesBelow(height).map((row) => indicesBelow(width).map((column) => valueAt(row, column)));
  const scale = values.flat().reduce((most, x) => Math.max(most, Math.abs(x ?? 0)), 0);
  const color = (x) => (x ? valueColor(x, scale) : null);
  return paintedCanvas(height, width, (row, column) => color(values[row][column]), pads);
}

// The map of one channel of an activation, or of the gradient to it; images in color.
function channelMap(name, channel, pads) {
  const [height, width] = mapShape(name);
  const isImage = name === "images" || name === "preprocessed";
  const values = tensors.get(name);
  const valueAt = (row, column) => values && values.find(values.shape.length === 1 ? [channel] : [row, column, channel]);
  return copyOf([name, isImage ? "" : channel, pads], () =>
    (isImage ? paintedCanvas(height, width, pixelColors(), pads) : heatmap(height, width, valueAt, pads)));
}

function pixelColors() {
  const image = tensor(tensors.has("images") ? "images" : "preprocessed");
  const level = (row, column, channel) => Math.round(255 * Math.min(Math.max(image.at(row, column, channel), 0), 1));
  return (row, column) => `rgb(${level(row, column, 0)} ${level(row, column, 1)} ${level(row, column, 2)})`;
}

const paintedBefore = new Map();

// A copy of a map. It is painted once, so that moving the selection draws only its outline.
function copyOf(description, paint) {
  const key = JSON.stringify([description, colors.paper]); // a light and a dark page have other colors
  if (paintedBefore.size > 8) paintedBefore.clear();
  if (!paintedBefore.has(key)) paintedBefore.set(key, paint());
  const { width, height, factor, left, top } = paintedBefore.get(key);
  const canvas = element("canvas", { width, height });
  Object.assign(canvas, { factor, left, top });
  canvas.getContext("2d").drawImage(paintedBefore.get(key), 0, 0);
  return canvas;
}

function outline(canvas, { rows, columns }, kind) {
  const pen = canvas.getContext("2d");
  const { factor } = canvas;
  const half = 1; // of the dark line: at the map's edge the outline moves inward, so that all of it is seen
  const within = (place, length) => Math.min(Math.max(place, half), length - half);
  const [left, right] = [-0.5, 0.5].map((out, k) => within((canvas.left + columns[k]) * factor + out, canvas.width));
  const [top, bottom] = [-0.5, 0.5].map((out, k) => within((canvas.top + rows[k]) * factor + out, canvas.height));
  pen.setLineDash(kind === "unit" ? [] : [4, 3]);
  for (const [color, line] of kind === "unit" ? [[colors.paper, 5], [colors.ink, 2]] : [[colors.soft, 1]]) {
    pen.strokeStyle = color; // a light line around the dark one is visible on any picture
    pen.lineWidth = line;
    pen.strokeRect(left, top, right - left, bottom - top);
  }
}
