// Drawing and clicks. The state is the operation and the unit that are selected, and the part of the panel that was used
// last; every change of operation or unit draws all of it again.

const TERMS = 12; // the largest terms that are named; the rest is summed
const SIDE = 300; // pixels: a map is enlarged to about this, by a whole factor
const NARROW = 5; // columns of a matrix that every screen has room for
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

const PARTS = ["forward", "backward", "kernel"];

const state = { operation: null, unit: null, part: "forward" };
const byId = (id) => document.getElementById(id);

// Elements -----------------------------------------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const paragraph = (className, ...children) => element("p", { class: className }, ...children);

// A number of the arithmetic. Its attribute has all digits.
const value = (x, digits) => element("output", { "data-value": String(x) }, number(x, digits));

function table(headings, rows) {
  const head = element("tr", {}, ...headings.map((heading) => element("th", {}, heading)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) =>
    element("td", cell instanceof HTMLOutputElement ? { class: "number" } : {}, cell))));
  return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

// A button that selects a unit of an operation.
function unitLink(text, { operation, unit }) {
  if (!operations.has(operation)) return text;
  return element("button", { type: "button", class: "link", onclick: () => select(operation, unit) }, text);
}

// Selection ----------------------------------------------------------------------------------------------------------

// Select a unit of an operation, by default the one that is selected first, and put it into the address.
function select(name, unit = null, byKey = false) {
  state.part = "forward";
  setPlace(operations.get(name), unit);
  remember(byKey);
}

function setPlace(operation, unit = null) {
  const [row, column, channel] = operation.selection ? operation.selection.initial : [0, 0, 0];
  const changes = state.operation !== operation;
  state.operation = operation;
  state.unit = unit ?? { row, column, channel };
  draw(changes);
}

function draw(changes) {
  const { operation } = state;
  for (const card of document.querySelectorAll("[data-operation]")) {
    card.setAttribute("aria-pressed", String(card.dataset.operation === operation.name));
  }
  byId("name").textContent = operation.name;
  byId("fault").textContent = "";
  byId("facts").textContent = factsOf(operation);
  byId("place").replaceChildren(...placeOf(operation));
  byId("left-out").textContent = operation.selection ? operation.selection.left_out : missingOf(operation);
  byId("computed").hidden = !operation.selection && !isComputable();
  byId("gradients").hidden = !operation.selection;
  for (const button of document.querySelectorAll("[data-part]")) {
    button.hidden = byId(`part-${button.dataset.part}`).parentElement.hidden;
  }
  byId("selection").replaceChildren(...drawSelection());
  if (changes) [byId("forward"), byId("backward")].forEach((part) => part.replaceChildren());
  redraw(byId("forward"), drawForward);
  redraw(byId("path"), drawPath);
  redraw(byId("backward"), drawBackward);
  if (changes) byId("kernel").replaceChildren(...drawKernel());
  document.querySelectorAll("[data-rove]").forEach((group) => placeStop(group));
}

// Of an operation that is not embedded, the page may hold what a path to the image reads.
function missingOf(operation) {
  const held = isComputable() ? "Of this operation, the page holds only what a path to the image reads"
    : "The arrays of this operation are not in this page";
  return `${held}; run the command again with --layer ${operation.name}.`;
}

// Whether the page holds what the selected unit is computed from.
function isComputable() {
  try {
    forward[state.operation.kind](state.operation, state.unit);
    return true;
  } catch (error) {
    if (!(error instanceof NotEmbedded)) throw error;
    return false;
  }
}

// Draw a part again. Boxes that were scrolled sideways stay so: another unit has a matrix of the same size.
function redraw(part, drawPart) {
  const offsets = [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  part.replaceChildren(...attempt(drawPart));
  part.querySelectorAll(".scroll").forEach((box, k) => { box.scrollLeft = offsets[k] ?? 0; });
}

// What a function draws; a sentence if it needs arrays that the page does not hold.
function attempt(drawPart) {
  try {
    return drawPart();
  } catch (error) {
    if (!(error instanceof NotEmbedded)) throw error;
    return [paragraph("soft missing", `${error.message}.`)];
  }
}

function factsOf(operation) {
  const shape = operation.shape.join("×");
  const read = operation.inputs.join(", ");
  return `${page.kinds[operation.kind]}, output ${shape}, reads ${read}`;
}

// The lines of the source that applied an operation, the innermost call first, as links.
function placeOf({ places }) {
  return places.flatMap(({ source, line, loops }, k) => [
    k ? ", called in " : "",
    element("a", { href: `#line-${source}-${line}` }, `line ${line}${k ? "" : ` of ${page.sources[source].file}`}`),
    loops.length ? ` (${loops.join(", ")})` : "",
  ]);
}

// Maps ---------------------------------------------------------------------------------------------------------------

function drawSelection() {
  const { operation, unit } = state;
  if (!operation.selection) return [];
  const [height, width] = operation.shape;
  const controls = element("div", { class: "controls" });
  if (height > 1 || width > 1) {
    controls.append(indexInput("row", height), indexInput("column", width));
  }
  if (operation.kind !== "cross_entropy") controls.append(channelSelect(operation));
  const maps = element("div", { class: "maps" });
  if (height > 1 || width > 1) maps.append(outputMap(operation, unit));
  let windows = [];
  try {
    windows = forward[operation.kind](operation, unit).windows;
  } catch (error) {
    if (!(error instanceof NotEmbedded)) throw error;
  }
  for (const box of windows) maps.append(inputMap(box, operation.settings.pads));
  return [controls, maps];
}

function indexInput(axis, length) {
  const change = (event) => {
    const index = Math.min(Math.max(Math.trunc(event.target.value) || 0, 0), length - 1);
    const isFocused = document.activeElement === event.target;
    select(state.operation.name, { ...state.unit, [axis]: index });
    if (isFocused) byId(`unit-${axis}`).focus();
  };
  return element("label", {}, `${axis} `, element("input", {
    id: `unit-${axis}`, type: "number", min: 0, max: length - 1, value: state.unit[axis], onchange: change,
  }));
}

function channelSelect(operation) {
  const { channels } = operation.selection;
  const known = channels.includes(state.unit.channel) ? channels : [state.unit.channel, ...channels];
  const isHead = operation.name === page.network.head;
  const options = known.map((channel) => element("option",
    { value: channel, selected: channel === state.unit.channel ? "" : null }, isHead ? className(channel) : String(channel)));
  const change = (event) => {
    select(state.operation.name, { ...state.unit, channel: Number(event.target.value) });
    byId("unit-channel").focus();
  };
  return element("label", {}, isHead ? "class " : "channel ", element("select", { id: "unit-channel", onchange: change }, ...options));
}

// The map of the selected channel. A click or an arrow key selects a position.
function outputMap(operation, unit) {
  const [height, width] = operation.shape;
  const canvas = mapCanvas(operation.name, unit.channel);
  const { rows, columns } = operation.selection;
  outline(canvas, { rows, columns }, "grid");
  outline(canvas, { rows: [unit.row, unit.row + 1], columns: [unit.column, unit.column + 1] }, "unit");
  canvas.id = "output-map";
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", `Output map; row ${unit.row}, column ${unit.column} is selected. Arrow keys move.`);
  canvas.addEventListener("click", (event) => {
    const row = Math.floor((event.offsetY / canvas.clientHeight) * height); // without the border
    const column = Math.floor((event.offsetX / canvas.clientWidth) * width);
    moveTo(clamp(row, height), clamp(column, width));
  });
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    const [down, right] = ARROWS[event.key];
    moveTo(clamp(unit.row + down, height), clamp(unit.column + right, width), true);
  });
  return element("figure", {}, canvas, element("figcaption", {}, `output ${unitName(operation.name, unit)}`));
}

const clamp = (index, length) => Math.min(Math.max(index, 0), length - 1);

function moveTo(row, column, byKey = false) {
  const focused = document.activeElement === byId("output-map");
  select(state.operation.name, { ...state.unit, row, column }, byKey);
  if (focused) byId("output-map").focus();
}

// The input with the window, and with the padding around it.
function inputMap(box, pads) {
  const canvas = mapCanvas(box.operation, box.channel, pads);
  canvas.className = "shown";
  outline(canvas, box, "unit");
  return element("figure", {}, canvas, element("figcaption", {}, `input ${box.operation}, channel ${box.channel}, with the window${pads?.flat().some((n) => n) ? " and the padding" : ""}`));
}

// A canvas with a channel of an activation; images in color. Values that are not in the page stay empty. Padding,
// [[top, bottom], [left, right]] in pixels, is a margin in another color.
function mapCanvas(name, channel, [[top, bottom], [left, right]] = [[0, 0], [0, 0]]) {
  const [height, width] = mapShape(name);
  const factor = Math.max(1, Math.floor(SIDE / Math.max(height, width)));
  const canvas = element("canvas", { width: (left + width + right) * factor, height: (top + height + bottom) * factor });
  const pen = canvas.getContext("2d");
  if (top + bottom + left + right) {
    pen.fillStyle = colors.line;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.clearRect(left * factor, top * factor, width * factor, height * factor);
  }
  const isImage = name === "images" || name === "pixels";
  const paint = isImage ? pixelColors() : channelColors(name, channel, height, width);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const color = paint(row, column);
      if (!color) continue;
      pen.fillStyle = color;
      pen.fillRect((left + column) * factor, (top + row) * factor, factor, factor);
    }
  }
  Object.assign(canvas, { factor, left, top }); // for `outline`
  return canvas;
}

function pixelColors() {
  const name = tensors.has("pixels") ? "pixels" : "images";
  const level = (row, column, channel) => Math.round(255 * Math.min(Math.max(tensor(name).at(row, column, channel), 0), 1));
  return (row, column) => `rgb(${level(row, column, 0)} ${level(row, column, 1)} ${level(row, column, 2)})`;
}

function channelColors(name, channel, height, width) {
  const values = tensors.get(name);
  if (!values) return () => null;
  const read = (row, column) => values.find(values.shape.length === 1 ? [channel] : [row, column, channel]);
  let scale = 0;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) scale = Math.max(scale, Math.abs(read(row, column) ?? 0));
  }
  return (row, column) => {
    const x = read(row, column);
    return x === undefined ? null : valueColor(x, scale);
  };
}

// Orange for positive values, blue for negative ones, stronger for larger ones.
function valueColor(x, scale) {
  const share = scale > 0 ? Math.min(Math.abs(x) / scale, 1) : 0;
  return `color-mix(in srgb, ${x < 0 ? colors.accent : colors.second} ${Math.round(100 * share)}%, ${colors.paper})`;
}

const colors = {};
function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["accent", "second", "paper", "ink", "soft", "line"]) colors[name] = style.getPropertyValue(`--${name}`).trim();
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

// Arithmetic ---------------------------------------------------------------------------------------------------------

function drawForward() {
  const { operation, unit } = state;
  const explanation = forward[operation.kind](operation, unit);
  return drawExplanation(explanation, () => unitValue(operation.name, unit), `${unitName(operation.name, unit)} = `);
}

// An explanation, with the network's own value if the page holds it.
function drawExplanation(explanation, own, name) {
  const parts = [
    ...drawEquation(state.operation.equation),
    drawSymbols(explanation.symbols),
    explanation.note ? paragraph("soft", explanation.note) : null,
    drawMatrices(explanation),
    ...drawTerms(explanation),
    drawSteps(explanation.steps),
    paragraph("result", name, value(explanation.result)),
  ];
  try {
    parts.push(paragraph("agrees", "the network’s own value: ", value(own())));
  } catch (error) {
    if (!(error instanceof NotEmbedded)) throw error;
  }
  return [...parts, drawCancellation(explanation)].filter((part) => part !== null);
}

// The equation as it stands in the source, and where that is.
const drawEquation = ({ file, line, text }) => [
  paragraph("equation", text),
  paragraph("soft origin", `${file}, line ${line}`),
];

// What the letters of the equation are for the selected unit.
function drawSymbols(symbols) {
  if (!symbols?.length) return null;
  const written = symbols.map(([letter, x]) => `${letter}\u00a0=\u00a0${typeof x === "number" ? shown(x) : x}`);
  return paragraph("symbols", `Here ${written.join(", ")}.`);
}

function drawCancellation({ summands, result }) {
  const remark = cancellation(summands, result);
  return remark && paragraph("soft cancellation", remark);
}

function drawSteps(steps) {
  const rows = steps.map((step) => [step.formula, step.numbers, value(step.value)]);
  return element("div", { class: "steps" }, table(["", "with the numbers", "value"], rows));
}

function drawSingle(terms) {
  if (!terms.length) return null;
  const [term] = terms;
  return paragraph("term", "reads ", term.from ? unitLink(term.name, term.from) : term.name, `: ${namedFactors(term)}`);
}

const namedFactors = (term) => term.factors.map((factor) => `${factor.name}\u00a0${shown(factor.value)}`).join(" · ");

// The terms: the largest ones in a table, and all of them on demand.
function drawTerms({ terms, isMaximum }) {
  if (terms.length < 2) return [drawSingle(terms)];
  const largest = isMaximum ? drawCompared(terms) : drawLargest(terms);
  return terms.length > TERMS ? [largest, drawEveryTerm(terms)] : [largest];
}

function drawLargest(terms) {
  const ordered = inOrder(terms);
  const named = ordered.slice(0, TERMS);
  const rest = ordered.slice(TERMS);
  const rows = named.map((term) => [
    term.from ? unitLink(term.name, term.from) : term.name,
    namedFactors(term),
    value(term.value),
  ]);
  if (rest.length) rows.push([`the other ${rest.length}`, "summed", value(sum(rest.map((term) => term.value)))]);
  return table(["largest terms by |value|", "", "value"], rows);
}

// Values that a maximum compares: the winner first.
function drawCompared(terms) {
  const ordered = fromLargest(terms);
  const rest = ordered.slice(TERMS);
  const rows = ordered.slice(0, TERMS).map((term) => [unitLink(term.name, term.from), value(term.value)]);
  if (rest.length) rows.push([`the other ${rest.length}, at most`, value(rest[0].value)]);
  return table(["values of the window, the largest first", "value"], rows);
}

// All terms in the order of the sum, drawn when they are asked for.
function drawEveryTerm(terms) {
  const fill = (event) => {
    if (!event.target.open || event.target.childElementCount > 1) return;
    const rows = terms.map((term) => [term.name, namedFactors(term), value(term.value)]);
    event.target.append(table(["", "", "value"], rows));
  };
  return element("details", { class: "every", ontoggle: fill }, element("summary", {}, `All ${terms.length} terms`));
}

function drawMatrices({ matrices }) {
  if (!matrices.length) return null;
  return element("div", { class: "matrices" }, ...matrices.map(drawMatrix));
}

// A matrix with its numbers. One that is wider than a narrow screen scrolls sideways in a box of its own.
function drawMatrix({ title, values, winner }) {
  const present = values.flat().filter((x) => x !== null);
  const scale = Math.max(...present.map(Math.abs), 0);
  const isWinner = (i, j) => winner !== undefined && winner[0] === i && winner[1] === j;
  const cells = values.flatMap((row, i) => row.map((x, j) => x === null
    ? element("span", { class: "padding", title: "padding" }, "0")
    : element("span", { class: isWinner(i, j) ? "winner" : null, title: number(x),
      style: `background: ${valueColor(x, 2 * scale)}` }, number(x, 3))));
  const grid = element("div",
    { class: "matrix", style: `grid-template-columns: repeat(${values[0].length}, auto)` }, ...cells);
  const isWide = values[0].length > NARROW;
  const box = { class: "scroll", ...(isWide ? { tabindex: 0, role: "group", "aria-label": title } : {}) };
  return element("figure", {}, element("div", box, grid), element("figcaption", {}, title));
}

function drawPath() {
  const { steps, ended } = pathToImage(state.operation, state.unit);
  const rows = steps.map((step) => [
    unitLink(unitName(step.operation, step.unit), step),
    value(step.value, 5),
    step.term ? namedFactors(step.term) : "",
  ]);
  const parts = rows.length ? [table(["unit", "value", "its largest term"], rows)] : [];
  if (ended) parts.push(paragraph("soft missing", ended));
  return [...parts, drawPaths()].filter((part) => part !== null);
}

// Links to the units whose complete paths are in the page.
function drawPaths() {
  const { operation, unit } = state;
  const isSelected = ([row, column, channel]) => row === unit.row && column === unit.column && channel === unit.channel;
  const others = (operation.selection?.paths ?? []).filter((one) => !isSelected(one));
  if (!others.length) return null;
  const links = others.flatMap(([row, column, channel], k) => {
    const at = { row, column, channel };
    return [k ? ", " : "", unitLink(unitName(operation.name, at), { operation: operation.name, unit: at })];
  });
  return paragraph("soft", "Paths of other units, all in this page: ", ...links, ".");
}

// The kernel's source ------------------------------------------------------------------------------------------------

function drawKernel() {
  const { operation } = state;
  const kernel = page.kernels[operation.file];
  if (!kernel) return [paragraph("soft", "This step has no kernel of its own.")];
  return [...drawForm(operation.form), paragraph("", `The five sections of ${kernel.file}:`), ...kernel.sections.map((section, k) =>
    element("details", { id: `kernel-section-${k}`, open: k === 0 ? "" : null },
      element("summary", {}, `${section.title} (line ${section.line})`), element("pre", {}, element("code", {}, section.source))))];
}

function drawForm(form) {
  if (!form) return [paragraph("", "No kernel ran: at inference this operation returns its input, or TensorFlow computes it.")];
  return [
    paragraph("", `The form that ran: ${form.name} in ${form.file}, line ${form.line}.`),
    element("details", {}, element("summary", {}, "Its source, and all functions that were called"),
      element("pre", {}, element("code", {}, form.source)),
      element("ul", { class: "notes" }, ...form.calls.map((call) => element("li", {}, call)))),
  ];
}

// Start --------------------------------------------------------------------------------------------------------------

function open(name) {
  select(name);
  scrollToPart();
}

// Scroll to the part of the panel that is used. On a narrow screen the panel is below the source.
function scrollToPart() {
  const panel = byId("operation");
  if (state.part !== "forward") byId(`part-${state.part}`).scrollIntoView();
  else if (panel.getBoundingClientRect().top > window.innerHeight / 2) panel.scrollIntoView();
  else panel.scrollTop = 0;
}

// Go to a part of the panel, with the keyboard's focus.
function openPart(part) {
  state.part = part;
  byId(`part-${part}`).focus({ preventScroll: true });
  byId(`part-${part}`).scrollIntoView();
  remember();
}

document.addEventListener("click", (event) => {
  const card = event.target.closest("[data-operation]");
  const line = event.target.closest(".applies > code");
  const part = event.target.closest("[data-part]");
  if (card) open(card.dataset.operation);
  else if (line) open(line.parentElement.dataset.first);
  else if (part) openPart(part.dataset.part);
});
byId("skip").addEventListener("click", skipToMap);

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColors();
  draw(false);
});

const initialOperation = () => page.operations.find((operation) => operation.selection && operation.counts);

readColors();
document.querySelectorAll("[data-rove]").forEach(rove);
setPlace(initialOperation());
if (location.hash) openAddress();
