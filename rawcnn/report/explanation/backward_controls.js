// Which gradient is shown: the target, the controls that change it, and where it begins.
//
// Loaded after choices.js. Uses
//   page.html: #backward
//   arrays.js: page, operations, ifHeld, mapShape
//   terms.js: vectorUnit, largestTerm
//   windows.js: groupChannels, flatIndex, unitOfFlat
//   forward.js: forward
//   backward.js: ownGradient, inputName, isReadTwice, gradientTargets, completeIndices, completeChannels,
//     filterDepths
//   numbers.js: className
//   elements.js: element, byId
//   choices.js: nearest
//   backward_view.js (later): drawBackward
//   keyboard.js (later): rove
//   address.js (later): remember
//   view.js (later): state, setPlace, redraw, scrollToPart

const chosen = { operation: null, target: null, position: null }; // position: the chosen term of a sum over positions

// Show another gradient of the selected operation, and keep the focus where it is.
function chooseTarget(target, position = null, byKey = false) {
  Object.assign(chosen, { target, position });
  state.part = "backward";
  const focused = document.activeElement && document.activeElement.id;
  redraw(byId("backward"), drawBackward);
  if (focused && byId(focused)) byId(focused).focus();
  remember(byKey);
}

// Open an operation with a target of its own.
function openGradient(name, target) {
  const operation = operations.get(name);
  Object.assign(chosen, { operation, target: operation.selection && withinPage(operation, target), position: null });
  state.part = operation.selection ? "backward" : "forward";
  setPlace(operation);
  scrollToPart();
  remember();
}

// Where a target begins ---------------------------------------------------------------------------------------------

function initialTarget(operation, { what, source, leaf }) {
  if (what === "input") return withGradient(operation, { what, source, unit: unitRead(operation, source) });
  const { channels } = operation.selection;
  const channel = channels.includes(state.unit.channel) ? state.unit.channel : channels[0];
  if (leaf === "filters") {
    const { size } = operation.settings;
    const center = [Math.floor(size[0] / 2), Math.floor(size[1] / 2)];
    return { what, leaf, index: [...center, ...filterChannels(operation, channel)] };
  }
  if (leaf === "weights") {
    const { unit } = withinPage(operation, { what: "input", source: 0, unit: unitRead(operation, 0) });
    return { what, leaf, index: [flatIndex(operation.inputs[0], unit), channel] };
  }
  return { what, leaf, index: [channel] };
}

// The unit of an input that contributes most to the selected output.
function unitRead(operation, source) {
  if (operation.kind === "cross_entropy") return vectorUnit(page.image.label);
  const { terms, leading } = ifHeld(() => forward[operation.kind](operation, state.unit)) ?? { terms: [] };
  const reads = (term) => term.from && term.from.operation === operation.inputs[source];
  const term = leading && reads(leading) ? leading : largestTerm(terms.filter(reads));
  return term ? term.from.unit : state.unit;
}

// The target within the page; if its gradient is 0, the unit of the same channel with the largest one.
function withGradient(operation, target) {
  const begin = withinPage(operation, target);
  if (ownGradient(operation, begin) !== 0) return begin;
  const units = completeIndices(operation, target.source, 0).flatMap((row) =>
    completeIndices(operation, target.source, 1).map((column) => ({ ...begin.unit, row, column })));
  const size = (unit) => Math.abs(ownGradient(operation, { ...begin, unit }));
  return { ...begin, unit: units.reduce((best, unit) => (size(unit) > size(best) ? unit : best), begin.unit) };
}

// The input channel (within the group) and output channel of a filter: the first whose maps the page holds.
function filterChannels(operation, channel) {
  const outputs = outputsWithFilters(operation);
  const output = outputs.includes(channel) ? channel : outputs[0];
  return [filterDepths(operation, output)[0], output];
}

const outputsWithFilters = (operation) =>
  operation.selection.channels.filter((channel) => filterDepths(operation, channel).length);

// The same target, moved to the nearest unit whose gradient the page can compute.
function withinPage(operation, target) {
  const { source, unit } = target;
  const channels = completeChannels(operation, source);
  return {
    ...target,
    unit: {
      row: nearest(completeIndices(operation, source, 0), unit.row),
      column: nearest(completeIndices(operation, source, 1), unit.column),
      channel: channels.includes(unit.channel) ? unit.channel : channels[0],
    },
  };
}

// Controls ----------------------------------------------------------------------------------------------------------

// Buttons that choose what the gradient is computed for.
function drawTargets(operation) {
  const { target } = chosen;
  const isChosen = (one) => one.what === target.what && one.source === target.source && one.leaf === target.leaf;
  const buttons = gradientTargets(operation).map((one) => {
    const name = one.what === "input" ? inputName(operation, one.source) : one.leaf;
    const isTwice = one.what === "input" && isReadTwice({ operation, source: one.source });
    const id = `target-${one.what}-${one.source ?? one.leaf}`;
    return element("button", {
      type: "button", class: "target", id, "aria-pressed": String(isChosen(one)),
      onclick: () => chooseTarget(initialTarget(operation, one)),
    }, one.what === "input" ? `to input ${isTwice ? `${one.source}, ` : ""}` : "to ", element("b", {}, name));
  });
  return rove(element("div", { class: "targets", role: "toolbar", "aria-label": "Gradient" }, ...buttons));
}

// Row, column and channel of an input's unit.
function unitControls(operation, source, unit, change, name = "channel") {
  const [height, width] = mapShape(inputName(operation, source));
  const place = (axis, key) => indexControl(key, completeIndices(operation, source, axis), unit[key],
    (index) => change({ ...unit, [key]: index }));
  const isLogits = inputName(operation, source) === page.network.head;
  return [
    ...(height > 1 || width > 1 ? [place(0, "row"), place(1, "column")] : []),
    listControl(isLogits ? "class" : name, "backward-channel", completeChannels(operation, source), unit.channel,
      (channel) => change({ ...unit, channel }), isLogits ? className : String),
  ];
}

// A number among some indices.
function indexControl(name, indices, at, change) {
  return element("label", {}, `${name} `, element("input", {
    id: `backward-${name}`, type: "number", min: indices[0], max: indices[indices.length - 1], value: at,
    onchange: (event) => change(nearest(indices, Math.trunc(event.target.value) || 0)),
  }));
}

// A list of indices; `text` says what each is called.
function listControl(name, id, indices, at, change, text = String) {
  const options = indices.map((index) =>
    element("option", { value: index, selected: index === at ? "" : null }, text(index)));
  const onchange = (event) => change(Number(event.target.value));
  return element("label", {}, `${name} `, element("select", { id, onchange }, ...options));
}

// The controls of a parameter's element; `to` selects the one at another index.
function parameterControls(operation, target) {
  const { leaf, index } = target;
  const to = (...next) => chooseTarget({ ...target, index: next });
  if (leaf === "filters") return filterControls(operation, index, to);
  if (leaf === "weights") return weightControls(operation, index, to);
  return [outputControl(operation, operation.selection.channels, index[0], to)];
}

function outputControl(operation, channels, at, change) {
  const isHead = operation.name === page.network.head;
  return listControl(isHead ? "class" : "output channel", "backward-output", channels, at, change,
    isHead ? className : String);
}

function filterControls(operation, [i, j, c, channel], to) {
  const { first } = groupChannels(operation, channel);
  const changeOutput = (next) => {
    const numbers = filterDepths(operation, next); // those of another group, perhaps
    to(i, j, numbers.includes(c) ? c : numbers[0], next);
  };
  return [
    outputControl(operation, outputsWithFilters(operation), channel, changeOutput),
    listControl("input channel", "backward-depth", filterDepths(operation, channel), c,
      (next) => to(i, j, next, channel), (depth) => String(first + depth)),
  ];
}

function weightControls(operation, [n, channel], to) {
  const [source] = operation.inputs;
  const changeInput = (unit) => to(flatIndex(source, unit), channel);
  return [
    outputControl(operation, operation.selection.channels, channel, (next) => to(n, next)),
    ...unitControls(operation, 0, unitOfFlat(source, n), changeInput, "input channel"),
  ];
}
