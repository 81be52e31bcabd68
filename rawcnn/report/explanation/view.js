// The panel of an operation: what is selected, its map, and the parts that other scripts draw. Every change of operation or
// unit draws all of it again. The page's last script: at its end it selects the first operation.
//
// Loaded after address.js. Uses
//   page.html: #skip, #operation, #name, #fault, #facts, #place, #left-out, #selection, #computed, #forward,
//     #path, #gradients, #backward, #kernel
//   arrays.js: NotEmbedded, page, operations, ifHeld, unitValue, indicesBelow
//   terms.js: unitName
//   forward.js: forward, pathToImage
//   numbers.js: className
//   forward_presentation.js: explainUnit
//   elements.js: element, byId, paragraph, valueElement, table, commaSeparated, figure
//   maps.js: readColors, channelMap, outline
//   explanation_view.js: drawExplanation, namedFactors, unitLink
//   choices.js: choosable
//   backward_view.js: drawBackward
//   keyboard.js: placeStop, rove, skipToMap
//   address.js: remember, openAddress

const PARTS = ["forward", "backward", "kernel"];

const state = { operation: null, unit: null, part: "forward" }; // `part` of the panel is the one that was used last

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
const isComputable = () => ifHeld(() => forward[state.operation.kind](state.operation, state.unit)) !== null;

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

// The map and its window ----------------------------------------------------------------------------------------------

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
  const windows = ifHeld(() => explainUnit(operation, unit).windows) ?? [];
  maps.append(...windows.map((box) => inputMap(box, operation.settings.pads)));
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
  const offered = channels.includes(state.unit.channel) ? channels : [state.unit.channel, ...channels];
  const isHead = operation.name === page.network.head;
  const options = offered.map((channel) => element("option",
    { value: channel, selected: channel === state.unit.channel ? "" : null }, isHead ? className(channel) : String(channel)));
  const change = (event) => {
    select(state.operation.name, { ...state.unit, channel: Number(event.target.value) });
    byId("unit-channel").focus();
  };
  const list = element("select", { id: "unit-channel", onchange: change }, ...options);
  return element("label", {}, isHead ? "class " : "channel ", list);
}

// The map of the selected channel, where a position can be chosen.
function outputMap(operation, unit) {
  const { shape, selection: { rows, columns } } = operation;
  const canvas = choosable(channelMap(operation.name, unit.channel), {
    id: "output-map",
    label: "Output map",
    shape,
    rows: indicesBelow(shape[0]),
    columns: indicesBelow(shape[1]),
    grid: { rows, columns },
    at: unit,
    choose: moveTo,
  });
  return figure(canvas, `output ${unitName(operation.name, unit)}`);
}

function moveTo(row, column, byKey = false) {
  const isFocused = document.activeElement === byId("output-map");
  select(state.operation.name, { ...state.unit, row, column }, byKey);
  if (isFocused) byId("output-map").focus();
}

// The input with the window, and with the padding around it.
function inputMap(box, pads) {
  const canvas = channelMap(box.operation, box.channel, pads);
  canvas.className = "shown";
  outline(canvas, box, "unit");
  const padding = pads?.flat().some((count) => count) ? " and the padding" : "";
  return figure(canvas, `input ${box.operation}, channel ${box.channel}, with the window${padding}`);
}

// The forward arithmetic and its path ---------------------------------------------------------------------------------

function drawForward() {
  const { operation, unit } = state;
  const own = () => unitValue(operation.name, unit);
  return drawExplanation(explainUnit(operation, unit), own, `${unitName(operation.name, unit)} = `);
}

function drawPath() {
  const { path, ended } = pathToImage(state.operation, state.unit);
  const rows = path.map(({ operation, unit, value, term }) => [
    unitLink(unitName(operation, unit), { operation, unit }),
    valueElement(value, 5),
    term ? namedFactors(term) : "",
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
  const links = others.map(([row, column, channel]) => {
    const at = { row, column, channel };
    return unitLink(unitName(operation.name, at), { operation: operation.name, unit: at });
  });
  return paragraph("soft", "Other units whose paths are in this page: ", ...commaSeparated(links));
}

// The kernel's source ------------------------------------------------------------------------------------------------

function drawKernel() {
  const { operation } = state;
  const kernel = page.kernels[operation.file];
  if (!kernel) return [paragraph("soft", "This operation has no kernel.")];
  const sections = kernel.sections.map(({ title, line, source }, k) =>
    element("details", { id: `kernel-section-${k}`, open: k === 0 ? "" : null },
      element("summary", {}, `${title} (line ${line})`), element("pre", {}, element("code", {}, source))));
  const heading = sections.length === 5 ? "The five sections of" : "Functions of";
  return [...drawForm(operation.form), paragraph("", `${heading} ${kernel.file}:`), ...sections];
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
