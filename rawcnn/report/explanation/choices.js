// Maps and grids in which a place can be chosen, by pointer, touch or arrow keys.
//
// Loaded after explanation_view.js. Uses
//   numbers.js: number
//   elements.js: element, byId
//   maps.js: valueColor, outline
//   explanation_view.js: WIDE

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// Let a place of a canvas be chosen by `choose(row, column, byKey)`. `rows` and `columns` are the indices that can be
// chosen, `at` is the present place. The dashed box `grid` is drawn if it is not the entire map.
function choosable(canvas, { id, label, shape: [height, width], rows, columns, grid, at, choose }) {
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
  const box = grid ?? { rows: span(rows), columns: span(columns) };
  if (box.rows[1] - box.rows[0] < height || box.columns[1] - box.columns[0] < width) outline(canvas, box, "grid");
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
const stepIn = (indices, index, by) => indices[clamp(indices.indexOf(nearest(indices, index)) + by, indices.length)];

const clamp = (index, length) => Math.min(Math.max(index, 0), length - 1);

// The taps of a filter as a grid of buttons, with their values.
function tapGrid({ id, title, values, at, choose }) {
  const scale = values.flat().reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const chooseAndFocus = (i, j) => {
    choose(i, j);
    byId(id).focus({ preventScroll: true });
  };
  const buttons = values.flatMap((line, i) => line.map((x, j) => {
    const isChosen = i === at[0] && j === at[1];
    return element("button", {
      type: "button", class: "tap", tabindex: isChosen ? 0 : -1, "aria-pressed": String(isChosen), title: number(x),
      "aria-label": `tap ${i}, ${j}: ${number(x, 3)}`, id: isChosen ? id : null, "data-tap": `${i},${j}`,
      style: `background: ${valueColor(x, 2 * scale)}`, onclick: () => chooseAndFocus(i, j),
    }, number(x, 3));
  }));
  const grid = element("div", {
    class: `matrix taps${values[0].length > WIDE ? " small" : ""}`, role: "group", "aria-label": `${title}; arrow keys move`,
    style: `grid-template-columns: repeat(${values[0].length}, auto)`,
  }, ...buttons);
  onArrows(grid, (down, right) => choose(clamp(at[0] + down, values.length), clamp(at[1] + right, values[0].length), true));
  return element("figure", {}, element("div", { class: "scroll" }, grid), element("figcaption", {}, title));
}
