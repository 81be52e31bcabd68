// Maps and grids of the backward arithmetic in which a place can be chosen, by pointer, touch or arrow keys.

const GRADIENT_SIDE = 260; // pixels: a map is enlarged to about this, by a whole factor; two stand side by side

// A canvas with one color for each place; a color of null stays empty.
function paintedCanvas(height, width, colorAt) {
  const factor = Math.max(1, Math.floor(GRADIENT_SIDE / Math.max(height, width)));
  const canvas = element("canvas", { width: width * factor, height: height * factor });
  Object.assign(canvas, { factor, left: 0, top: 0 }); // for `outline`
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
  for (const [color, cells] of places) {
    pen.fillStyle = color;
    for (const [row, column] of cells) pen.fillRect(column * factor, row * factor, factor, factor);
  }
  return canvas;
}

// A map of values; undefined (not in the page), null (padding) and 0 stay empty.
function heatmap(height, width, valueAt) {
  const values = indicesBelow(height).map((row) => indicesBelow(width).map((column) => valueAt(row, column)));
  const scale = values.flat().reduce((most, x) => Math.max(most, Math.abs(x ?? 0)), 0);
  const color = (x) => (x ? valueColor(x, scale) : null);
  return paintedCanvas(height, width, (row, column) => color(values[row][column]));
}

// The map of one channel of an activation, or of the gradient to it; images in color. `source` names the activation.
function channelMap(name, source, channel) {
  const [height, width] = mapShape(source);
  if (name === "images" || name === "pixels") return copyOf(name, () => paintedCanvas(height, width, pixelColors()));
  const values = tensors.get(name);
  return copyOf(`${name} ${channel}`, () =>
    heatmap(height, width, (row, column) => values && values.find([row, column, channel])));
}

const paintedBefore = new Map();

// A copy of a map. It is painted once, so that moving the selection draws only its outline.
function copyOf(key, paint) {
  const themed = `${key} ${colors.paper}`; // a light and a dark page have other colors
  if (paintedBefore.size > 8) paintedBefore.clear();
  if (!paintedBefore.has(themed)) paintedBefore.set(themed, paint());
  const original = paintedBefore.get(themed);
  const canvas = element("canvas", { width: original.width, height: original.height });
  Object.assign(canvas, { factor: original.factor, left: 0, top: 0 });
  canvas.getContext("2d").drawImage(original, 0, 0);
  return canvas;
}

// Let a place of a canvas be chosen. `rows` and `columns` are the indices that can be, `at` is the present place.
function choosable(canvas, { id, label, shape: [height, width], rows, columns, at, choose }) {
  canvas.id = id;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", `${label}; row ${at.row}, column ${at.column} is selected. Arrow keys move.`);
  canvas.addEventListener("click", (event) => {
    canvas.focus();
    choose( // offsets and client sizes leave out the border
      nearest(rows, Math.floor((event.offsetY / canvas.clientHeight) * height)),
      nearest(columns, Math.floor((event.offsetX / canvas.clientWidth) * width)),
    );
  });
  onArrows(canvas, (down, right) => choose(stepIn(rows, at.row, down), stepIn(columns, at.column, right), true));
  const isPart = rows.length < height || columns.length < width;
  if (isPart) outline(canvas, { rows: span(rows), columns: span(columns) }, "grid");
  outline(canvas, { rows: [at.row, at.row + 1], columns: [at.column, at.column + 1] }, "unit");
  return canvas;
}

function onArrows(node, move) {
  node.addEventListener("keydown", (event) => {
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    move(...ARROWS[event.key]);
  });
}

const span = (indices) => (indices.length ? [indices[0], indices[indices.length - 1] + 1] : [0, 0]);

// Of some ascending indices, the one nearest to another.
const nearest = (indices, index) =>
  indices.reduce((best, one) => (Math.abs(one - index) < Math.abs(best - index) ? one : best), indices[0]);

// The index before or after another one.
function stepIn(indices, index, step) {
  const place = indices.indexOf(nearest(indices, index)) + step;
  return indices[Math.min(Math.max(place, 0), indices.length - 1)];
}

// The taps of a filter as a grid of buttons, with their values.
function tapGrid({ id, title, values, at, choose }) {
  const scale = values.flat().reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const chooseAndFocus = (i, j) => {
    choose(i, j);
    byId(id).focus({ preventScroll: true });
  };
  const buttons = values.flatMap((line, i) => line.map((x, j) => {
    const chosen = i === at[0] && j === at[1];
    return element("button", {
      type: "button", class: "tap", tabindex: chosen ? 0 : -1, "aria-pressed": String(chosen), title: number(x),
      "aria-label": `tap ${i}, ${j}: ${number(x, 3)}`, id: chosen ? id : null, "data-tap": `${i},${j}`,
      style: `background: ${valueColor(x, 2 * scale)}`, onclick: () => chooseAndFocus(i, j),
    }, number(x, 3));
  }));
  const grid = element("div", {
    class: "matrix taps", role: "group", "aria-label": `${title}; arrow keys move`,
    style: `grid-template-columns: repeat(${values[0].length}, auto)`,
  }, ...buttons);
  onArrows(grid, (down, right) => choose(clamp(at[0] + down, values.length), clamp(at[1] + right, values[0].length), true));
  return element("figure", {}, element("div", { class: "scroll" }, grid), element("figcaption", {}, title));
}
