// The address of what the page shows, after "#": the operation, the unit, the gradient, the term of a sum over positions,
// and the part of the panel, such as
//   #operation=conv1&unit=3,4,0&gradient=filters:1,1,0,0&term=2,2&part=backward
// Back and Forward of the browser, and a copied address, open the same place.
//
// Loaded after keyboard.js. Uses
//   page.html: #fault
//   arrays.js: operations, tensor, ifHeld, mapShape
//   backward.js: gradientOf, ownGradient, inputName, trainedLeaves
//   elements.js: byId
//   backward_controls.js: chosen, withinPage
//   view.js (later): PARTS, state, setPlace, scrollToPart, initialOperation

const PAUSE = 300; // milliseconds after the last arrow key: moving along a map is one step for Back

let waiting = null; // the timer of the last arrow key
let known = ""; // the last address that was written or opened; a change to another one comes from the browser

// Put the present place into the address. Called after every choice; `byKey` if an arrow key made it.
function remember(byKey = false) {
  clearTimeout(waiting);
  if (byKey) waiting = setTimeout(writeAddress, PAUSE);
  else writeAddress();
}

function writeAddress() {
  const hash = `#${addressOf()}`;
  if (hash !== location.hash) location.hash = hash;
  known = location.hash;
}

function addressOf() {
  const { operation, unit, part } = state;
  const fields = [`operation=${encodeURIComponent(operation.name).replaceAll("%2F", "/")}`, `unit=${placeText(unit)}`];
  if (chosen.operation === operation && chosen.target) {
    const { what, source, leaf, index, unit: at } = chosen.target;
    fields.push(what === "input" ? `gradient=input${source}:${placeText(at)}` : `gradient=${leaf}:${index.join(",")}`);
    if (chosen.position) fields.push(`term=${chosen.position.row},${chosen.position.column}`);
  }
  if (part !== "forward") fields.push(`part=${part}`);
  return fields.join("&");
}

const placeText = ({ row, column, channel }) => [row, column, channel].join(",");

// Show what the address names. An address without an operation, such as that of a line, changes nothing; without
// anything, the page shows what it began with.
function openAddress() {
  clearTimeout(waiting);
  known = location.hash;
  const fields = new URLSearchParams(location.hash.slice(1));
  if (!fields.has("operation")) {
    if (location.hash.length < 2) show(initialOperation(), {}, "");
    return;
  }
  const operation = operations.get(fields.get("operation"));
  if (!operation) {
    show(initialOperation(), {}, `This page has no operation ${fields.get("operation")}; the address may be of another page.`);
    return;
  }
  const unit = unitIn(operation.shape, fields.get("unit"));
  const target = operation.selection && fields.has("gradient") ? targetIn(operation, fields.get("gradient")) : null;
  const position = target && fields.has("term") ? unitIn(operation.shape, `${fields.get("term")},0`) : null;
  const part = PARTS.includes(fields.get("part")) ? fields.get("part") : "forward";
  const isUnknown = !unit || (operation.selection && fields.has("gradient") && !target);
  show(operation, { unit, target, position, part },
    isUnknown ? `The address names a value of ${operation.name} that this page does not have.` : "");
}

// Draw a place without changing the address.
function show(operation, { unit = null, target = null, position = null, part = "forward" }, fault) {
  const isNew = state.operation !== operation || state.part !== part;
  Object.assign(chosen, { operation: target && operation, target, position });
  state.part = part;
  setPlace(operation, unit);
  byId("fault").textContent = fault;
  if (isNew) scrollToPart();
}

// Whole numbers separated by commas, each from 0 to below a length; null if they are anything else.
function indicesIn(shape, text) {
  const indices = (text ?? "").split(",").map((one) => (/^\d+$/.test(one) ? Number(one) : -1));
  const areInside = indices.length === shape.length && indices.every((index, axis) => index >= 0 && index < shape[axis]);
  return areInside ? indices : null;
}

function unitIn(shape, text) {
  const [row, column, channel] = indicesIn(shape, text) ?? [];
  return row === undefined ? null : { row, column, channel };
}

// The target of a gradient that the page can compute; otherwise null.
function targetIn(operation, text) {
  const [, name, place] = /^(\w+):([\d,]+)$/.exec(text) ?? [];
  const source = /^input(\d+)$/.exec(name ?? "")?.[1];
  const target = source === undefined ? parameterIn(operation, name, place) : inputIn(operation, Number(source), place);
  return target && hasGradient(operation, target) ? target : null;
}

function inputIn(operation, source, place) {
  if (source >= operation.inputs.length) return null;
  const unit = unitIn(mapShape(inputName(operation, source)), place);
  const target = { what: "input", source, unit };
  return unit && placeText(withinPage(operation, target).unit) === placeText(unit) ? target : null;
}

function parameterIn(operation, leaf, place) {
  if (!trainedLeaves(operation).includes(leaf)) return null;
  const index = indicesIn(tensor(`${operation.name}/${leaf}`).shape, place);
  return index && { what: "parameter", leaf, index };
}

const hasGradient = (operation, target) =>
  ifHeld(() => gradientOf(operation, target)) !== null && ifHeld(() => ownGradient(operation, target)) !== null;

addEventListener("hashchange", () => {
  if (location.hash !== known) openAddress();
});
