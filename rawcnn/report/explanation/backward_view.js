// Drawing of the backward arithmetic: the maps, the gradient of the target, its parts, and a step of the recipe.
//
// Loaded after backward_controls.js. Uses
//   arrays.js: page, tensor, mapShape, unitValue, indicesBelow
//   terms.js: vectorUnit, unitName, sum, largestTerm
//   windows.js: flatIndex, unitOfFlat
//   backward.js: ownGradient, ownName, inputName, readsOf, readName, gradientParts, gradientTargets,
//     completeIndices, completeChannels
//   recipe_step.js: recipeStep
//   numbers.js: shown
//   backward_presentation.js: explainGradient
//   recipe_presentation.js: RULE_NAMES, stepsOfRecipe
//   elements.js: element, byId, paragraph, valueElement, table, commaSeparated, figure
//   maps.js: heatmap, channelMap, outline
//   explanation_view.js: drawCancellation, drawSteps, namedFactors, drawTerms, drawMatrices
//   choices.js: choosable, span, tapGrid
//   backward_controls.js: chosen, chooseTarget, openGradient, initialTarget, drawTargets, unitControls,
//     parameterControls
//   view.js (later): state

const WEIGHTS = 24; // rows and columns of the map of a dense layer's weights, at most

function drawBackward() {
  const { operation } = state;
  if (!operation.selection) return [];
  if (chosen.operation !== operation || !chosen.target) {
    const [first] = gradientTargets(operation);
    Object.assign(chosen, { operation, position: null, target: initialTarget(operation, first) });
  }
  const { target } = chosen;
  const explanation = explainGradient(operation, target);
  const isInput = target.what === "input";
  return [
    drawTargets(operation),
    ...(isInput ? drawInputTarget(operation, target, explanation) : drawParameterTarget(operation, target)),
    ...drawGradient(operation, target, explanation),
    ...(isInput ? drawParts(operation, target, explanation) : drawStep(operation, target, explanation.result)),
    ...drawOrigins(operation, explanation),
  ];
}

// The target --------------------------------------------------------------------------------------------------------

// The input and its gradient, where a pixel can be chosen, and the outputs that read it.
function drawInputTarget(operation, target, explanation) {
  const { source, unit } = target;
  const name = inputName(operation, source);
  const shape = mapShape(name);
  const choose = (next, byKey) => chooseTarget({ ...target, unit: next }, null, byKey);
  const controls = element("div", { class: "controls" }, ...unitControls(operation, source, unit, choose));
  if (shape[0] === 1 && shape[1] === 1) return [controls, ...drawReaders(operation, explanation)];
  const places = {
    shape,
    rows: completeIndices(operation, source, 0),
    columns: completeIndices(operation, source, 1),
    at: unit,
    choose: (row, column, byKey) => choose({ ...unit, row, column }, byKey),
  };
  const input = choosable(channelMap(name, unit.channel),
    { ...places, id: "backward-input", label: `Input ${name}` });
  const gradient = choosable(channelMap(ownName(operation, source), unit.channel),
    { ...places, id: "backward-gradient", label: `Gradient to ${name}` });
  return [
    controls,
    drawMissing(places),
    element("div", { class: "maps" },
      figure(input, `input ${unitName(name, unit)}`),
      figure(gradient, `∂L/∂x, channel ${unit.channel}`),
      ...drawReaders(operation, explanation)),
  ].filter((part) => part !== null);
}

// At the edges of a grid the page lacks outputs that read a pixel.
function drawMissing({ shape, rows, columns }) {
  if (rows.length === shape[0] && columns.length === shape[1]) return null;
  const [top, bottom] = span(rows);
  const [left, right] = span(columns);
  return paragraph("soft", `Rows ${top} to ${bottom - 1} and columns ${left} to ${right - 1} can be chosen: the page `
    + "holds the gradients of all outputs that read them. --all embeds the rest.");
}

// The map of ∂L/∂y, with the outputs that read the unit.
function drawReaders(operation, { readers }) {
  if (!readers) return [];
  const canvas = channelMap(`∂${operation.name}`, readers.channel);
  for (const box of readers.boxes) outline(canvas, box, "unit");
  canvas.id = "backward-readers";
  const title = `g = ∂L/∂y of ${operation.name}, channel ${readers.channel}: the outputs that read the pixel`;
  return [figure(canvas, title)];
}

// The controls of a parameter; for filters and weights also a map of its elements.
function drawParameterTarget(operation, target) {
  const controls = element("div", { class: "controls" }, ...parameterControls(operation, target));
  if (target.leaf === "filters") return [controls, drawTaps(operation, target)];
  if (target.leaf === "weights") return [controls, drawWeights(operation, target)];
  return [controls];
}

// The taps of a filter, where one can be chosen.
function drawTaps(operation, target) {
  const [i, j, c, channel] = target.index;
  const path = `${operation.name}/filters`;
  const { size } = operation.settings;
  const grid = (id, name, title) => tapGrid({
    id,
    title,
    values: indicesBelow(size[0]).map((a) => indicesBelow(size[1]).map((b) => tensor(name).at(a, b, c, channel))),
    at: [i, j],
    choose: (a, b, byKey) => chooseTarget({ ...target, index: [a, b, c, channel] }, null, byKey),
  });
  return element("div", { class: "matrices" },
    grid("backward-taps", path, "the filter w: choose a tap"),
    grid("backward-tap-gradients", `∂${path}`, "∂L/∂w, the network’s own"));
}

// Weights of a dense layer around the chosen one, where another can be chosen: a row per output, a column per input
// channel.
function drawWeights(operation, target) {
  const [source] = operation.inputs;
  const [n, channel] = target.index;
  const unit = unitOfFlat(source, n);
  const outputs = indicesAround(operation.selection.channels, channel, WEIGHTS);
  const inputs = indicesAround(completeChannels(operation, 0), unit.channel, WEIGHTS);
  const weights = tensor(`${operation.name}/weights`);
  const indexAt = (row, column) => [flatIndex(source, { ...unit, channel: inputs[column] }), outputs[row]];
  const canvas = heatmap(outputs.length, inputs.length, (row, column) => weights.at(...indexAt(row, column)));
  const places = choosable(canvas, {
    id: "backward-weights",
    label: "Weights",
    shape: [outputs.length, inputs.length],
    rows: indicesBelow(outputs.length),
    columns: indicesBelow(inputs.length),
    at: { row: outputs.indexOf(channel), column: inputs.indexOf(unit.channel) },
    choose: (row, column, byKey) => chooseTarget({ ...target, index: indexAt(row, column) }, null, byKey),
  });
  const title = `weights W: ${outputs.length} outputs (rows) × ${inputs.length} input channels (columns); choose one`;
  return element("div", { class: "maps" }, figure(places, title));
}

// Some of a list's indices around one of them.
function indicesAround(indices, index, count) {
  const first = Math.max(Math.min(indices.indexOf(index) - count / 2, indices.length - count), 0);
  return indices.slice(first, first + count);
}

// The gradient ------------------------------------------------------------------------------------------------------

function drawGradient(operation, target, explanation) {
  const { equation, steps, result, map, note } = explanation;
  const parts = [
    paragraph("equation", equation),
    drawMatrices(explanation),
    map && drawProducts(operation, explanation),
    ...drawTerms(explanation),
    drawSteps(steps),
    paragraph("result", `${targetName(operation, target)} = `, valueElement(result)),
    paragraph("agrees", "the network’s own gradient: ", valueElement(ownGradient(operation, target))),
    drawCancellation(explanation),
    drawByHand(operation),
    note ? paragraph("soft", note) : null,
  ];
  return parts.filter((part) => part);
}

// A link to the kernel's own gradient: its code, from which the equation above follows for one element.
function drawByHand({ file }) {
  const kernel = page.kernels[file];
  if (!kernel) return null;
  const k = kernel.sections.findIndex(({ title }) => title === "Gradient by hand" || title.endsWith("_gradient"));
  const { title, line } = kernel.sections[k];
  const openSection = () => {
    const section = byId(`kernel-section-${k}`);
    section.open = true;
    section.firstElementChild.focus();
    section.scrollIntoView();
  };
  const link = element("button", { type: "button", class: "link", onclick: openSection }, title);
  return paragraph("soft by-hand", "The kernel’s code: ", link, ` (${kernel.file}, line ${line}).`);
}

function targetName(operation, target) {
  if (target.what === "parameter") return `∂L/∂${operation.name}/${target.leaf}[${target.index.join(", ")}]`;
  const name = inputName(operation, target.source);
  const isPart = readsOf(operation.inputs[target.source]).length > 1;
  return `∂L/∂${unitName(name, target.unit)}${isPart ? ` through ${readName({ operation, source: target.source })}` : ""}`;
}

// The terms of a sum over positions as a map; a chosen position shows its numbers.
function drawProducts(operation, { terms, map }) {
  const [height, width] = operation.shape;
  const largest = largestTerm(terms);
  const at = chosen.position ?? (largest ? largest.from.unit : vectorUnit(0));
  const canvas = choosable(heatmap(height, width, (row, column) => map.values[row][column]), {
    id: "backward-products",
    label: map.title,
    shape: [height, width],
    rows: indicesBelow(height),
    columns: indicesBelow(width),
    at,
    choose: (row, column, byKey) => chooseTarget(chosen.target, { row, column }, byKey),
  });
  const term = terms.find(({ from: { unit } }) => unit.row === at.row && unit.column === at.column);
  const place = `at [${at.row}, ${at.column}]: `;
  const numbers = term
    ? paragraph("position", place, `${namedFactors(term)} = `, valueElement(term.value))
    : paragraph("position", place, "the tap reads padding, which adds ", valueElement(0));
  return element("div", { class: "products" }, element("div", { class: "maps" }, figure(canvas, map.title)), numbers);
}

// Other operations --------------------------------------------------------------------------------------------------

// If a unit is read more than once, the gradient to it is the sum of the parts through each operation that reads it.
function drawParts(operation, { source, unit }, explanation) {
  const name = operation.inputs[source];
  const parts = gradientParts(name, unit);
  if (parts.length < 2) return [];
  const isHere = (part) => part.operation === operation && part.source === source;
  const here = (part) => (isHere(part) ? explanation.result : part.value);
  const rows = parts.map((part) => [
    gradientLink(part, unit),
    isHere(part) ? "computed above" : "as the network computed it",
    here(part) === undefined ? "not in this page" : valueElement(here(part)),
  ]);
  const isComplete = parts.every((part) => here(part) !== undefined);
  const count = new Set(parts.map((part) => part.operation)).size;
  const readers = count > 1 ? `${count} operations read ${unitName(name, unit)}`
    : `${operation.name} reads ${unitName(name, unit)} ${parts.length} times`;
  return [
    element("h4", {}, `${readers}; its gradient is the sum of ${parts.length} parts`),
    table(["through", "", "part"], rows),
    isComplete ? paragraph("result sum-of-parts", `∂L/∂${unitName(name, unit)} = `, valueElement(sum(parts.map(here)))) : null,
    paragraph("agrees sum-agrees", "the network’s own gradient: ", valueElement(unitValue(`∂${name}`, unit))),
  ].filter((part) => part !== null);
}

// Where g comes from: the operations that read the output.
function drawOrigins(operation, { terms }) {
  const reads = readsOf(operation.name);
  if (!reads.length) return [];
  const largest = largestTerm(terms);
  const unit = largest ? largest.from.unit : state.unit;
  const links = commaSeparated(reads.map((read) => gradientLink(read, unit)));
  return [paragraph("soft origins", "g comes from the operations that read the output: ", ...links)];
}

// A button that opens the gradient to a unit of an operation's input.
function gradientLink(read, unit) {
  const onclick = () => openGradient(read.operation.name, { what: "input", source: read.source, unit });
  return element("button", { type: "button", class: "link", onclick }, readName(read));
}

// The step ----------------------------------------------------------------------------------------------------------

function drawStep(operation, { leaf, index }, gradient) {
  const { recipe } = page;
  const steps = stepsOfRecipe(recipeStep(`${operation.name}/${leaf}`, index, gradient));
  return [
    element("h4", {}, `One step of the recipe ${recipe.name}: ${RULE_NAMES[recipe.optimizer]}, η = ${shown(recipe.rate)}`),
    element("div", { class: "step" }, drawSteps(steps)),
    paragraph("soft", "The gradient is that of this image at inference. A training step has the mean gradient of a "
      + "batch, with the batch’s own statistics and with dropout."),
  ];
}
