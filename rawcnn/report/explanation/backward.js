// Backward arithmetic: from the gradient of the loss to an operation's output, g = ∂L/∂y, to one gradient before it.
//
// A target is what the gradient is computed for:
//   {what: "input", source, unit}              a unit of the operation's input number `source`
//   {what: "parameter", leaf, index}           an element of a parameter, such as index [i, j, c, o] of "filters"
// gradientOf(operation, target) returns {terms, result}, the result being ∂L/∂(that value). Sections: which gradient the
// network itself has, the parts of a gradient to what several operations read, and which targets the page can compute.
//
// Loaded after parameter_gradients.js. Uses
//   arrays.js: page, tensors, tensor, mapShape, unitValue, indicesBelow
//   windows.js: readersAlong, groupChannels
//   input_gradients.js: inputGradient
//   parameter_gradients.js: parameterGradient

function gradientOf(operation, target) {
  return target.what === "input"
    ? inputGradient[operation.kind](operation, target.unit, target.source)
    : parameterGradient[operation.kind](operation, target.index, target.leaf);
}

// The same gradient as the network's own backward pass computed it.
function ownGradient(operation, target) {
  if (target.what === "parameter") return tensor(`∂${operation.name}/${target.leaf}`).at(...target.index);
  return unitValue(ownName(operation, target.source), target.unit);
}

// The tensor that holds the gradient to an input: the part through this operation, or the whole gradient.
function ownName(operation, source) {
  const part = partName({ operation, source });
  return tensors.has(part) ? part : `∂${inputName(operation, source)}`;
}

// The name of an input. A page without a preprocessing step holds the images once, as preprocessed ones.
function inputName(operation, source) {
  const name = operation.inputs[source];
  return tensors.has(`∂${name}`) || name !== "images" ? name : "preprocessed";
}

// Several readers ---------------------------------------------------------------------------------------------------

// Where an activation is read, in order: [{operation, source}], `source` being the number of the operation's input. An
// operation may read an activation twice.
const readsOf = (name) => page.operations.flatMap((operation) =>
  operation.inputs.flatMap((input, source) => (input === name ? [{ operation, source }] : [])));

const isReadTwice = ({ operation: { inputs }, source }) => inputs.filter((name) => name === inputs[source]).length > 1;

// An operation that reads an activation; with the number of the input if it reads it twice.
const readName = (read) => read.operation.name + (isReadTwice(read) ? ` (input ${read.source})` : "");

// The part of an activation's gradient that comes through one of its reads.
function partName(read) {
  const { operation, source } = read;
  return `∂${operation.inputs[source]}←${operation.name}${isReadTwice(read) ? `[${source}]` : ""}`;
}

// The parts of the gradient to a unit: [{operation, source, value}]. The value is undefined if the page does not hold it.
function gradientParts(name, unit) {
  return readsOf(name).map((read) => {
    const part = tensors.get(partName(read));
    const indices = part && (part.shape.length === 1 ? [unit.channel] : [unit.row, unit.column, unit.channel]);
    return { ...read, value: part && part.find(indices) };
  });
}

// What can be selected ----------------------------------------------------------------------------------------------

// The inputs and the parameters that have a gradient: [{what, source} or {what, leaf}], without a place.
function gradientTargets(operation) {
  const inputs = operation.inputs.map((_, source) => ({ what: "input", source }));
  return [...inputs, ...trainedLeaves(operation).map((leaf) => ({ what: "parameter", leaf }))];
}

// The parameters of an operation that have a gradient, by the last part of their paths.
function trainedLeaves(operation) {
  const leaves = ["filters", "weights", "bias", "scale", "offset"];
  return leaves.filter((leaf) => tensors.has(`∂${operation.name}/${leaf}`));
}

// The rows (axis 0) or columns (axis 1) of an input at which the page holds ∂L/∂y of all outputs that read them. A
// convolution needs all output channels, which are embedded in a grid; other kinds have complete maps.
function completeIndices(operation, source, axis) {
  const all = indicesBelow(mapShape(inputName(operation, source))[axis]);
  if (operation.kind !== "conv") return all;
  const { selection } = operation;
  const [start, stop] = axis === 0 ? selection.rows : selection.columns;
  const isHeld = ({ output }) => output >= start && output < stop;
  return all.filter((index) => readersAlong(operation, axis, index).every(isHeld));
}

// The channels of an input whose gradient can be computed.
function completeChannels(operation, source) {
  const { channels, inputs } = operation.selection;
  if (operation.kind === "cross_entropy") return tensor(operation.inputs[0]).shape.flatMap(indicesBelow);
  // a response normalization reads neighbors, and a gate's gradient sums over its channel's map
  return operation.kind === "lrn" || operation.kind === "scale_channels" ? channels : inputs[source];
}

// The input channels, within the group, of an output channel's filter whose maps are in the page.
function filterDepths(operation, channel) {
  const { first, count } = groupChannels(operation, channel);
  return operation.selection.inputs[0].filter((c) => c >= first && c < first + count).map((c) => c - first);
}
