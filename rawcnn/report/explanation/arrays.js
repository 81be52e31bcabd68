// Tensors: float32 pieces of the network's own arrays, decoded from one base64 text.
//
// A piece is a box of a tensor; `axes` holds, for each axis, {start, stop} or {list}. A value that no piece holds is not
// in the page, and reading it throws NotEmbedded. JavaScript computes with the values in float64.
//
// Loaded first. Uses
//   page.html: #document, #arrays

class NotEmbedded extends Error {}

function decodeFloats(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return new Float32Array(bytes.buffer); // little-endian, as all machines with browsers are
}

class Piece {
  constructor({ axes, offset }, floats) {
    this.floats = floats;
    this.offset = offset;
    this.lengths = axes.map((axis) => (axis.list ? axis.list.length : axis.stop - axis.start));
    this.starts = axes.map((axis) => axis.start);
    this.places = axes.map((axis) => axis.list && new Map(axis.list.map((index, place) => [index, place])));
  }

  // The value at some indices of the tensor; undefined if this piece does not hold it.
  at(indices) {
    let position = 0;
    for (let axis = 0; axis < indices.length; axis++) {
      const place = this.places[axis] ? this.places[axis].get(indices[axis]) : indices[axis] - this.starts[axis];
      if (place === undefined || place < 0 || place >= this.lengths[axis]) return undefined;
      position = position * this.lengths[axis] + place;
    }
    return this.floats[this.offset + position];
  }
}

class Tensor {
  constructor(name, { shape, pieces }, floats) {
    this.name = name;
    this.shape = shape;
    this.pieces = pieces.map((piece) => new Piece(piece, floats));
  }

  find(indices) {
    for (const piece of this.pieces) {
      const value = piece.at(indices);
      if (value !== undefined) return value;
    }
    return undefined;
  }

  at(...indices) {
    const value = this.find(indices);
    if (value === undefined) throw new NotEmbedded(`${this.name}[${indices.join(", ")}] is not in this page`);
    return value;
  }
}

function readTensors(descriptions) {
  const floats = decodeFloats(document.getElementById("arrays").textContent.trim());
  return new Map(Object.entries(descriptions).map(([name, one]) => [name, new Tensor(name, one, floats)]));
}

const page = JSON.parse(document.getElementById("document").textContent);
const tensors = readTensors(page.tensors);
const operations = new Map(page.operations.map((operation) => [operation.name, operation]));

// A tensor by name: an activation, a parameter ("conv1/filters"), or the gradient to one of them ("∂conv1").
function tensor(name) {
  if (!tensors.has(name)) throw new NotEmbedded(`${name} is not in this page`);
  return tensors.get(name);
}

// What a function computes; null if it needs values that the page does not hold.
function ifHeld(compute) {
  try {
    return compute();
  } catch (error) {
    if (!(error instanceof NotEmbedded)) throw error;
    return null;
  }
}

// An element of a parameter of an operation; the fallback if the layer has no such parameter.
function parameter(operation, leaf, index, fallback) {
  const name = `${operation.name}/${leaf}`;
  return tensors.has(name) ? tensor(name).at(...index) : fallback;
}

// The shape [H,W,C] of an activation, or of the gradient to it; a vector is a map of one pixel.
function mapShape(tensorName) {
  const name = tensorName.replace(/^∂/, "").split("←")[0];
  if (operations.has(name)) return operations.get(name).shape;
  return operations.get("preprocessed").shape; // "images"
}

// The value of a unit of an activation, or of the gradient to it with the prefix "∂".
function unitValue(name, { row, column, channel }) {
  const values = tensor(name);
  return values.shape.length === 1 ? values.at(channel) : values.at(row, column, channel);
}

function isInside(name, { row, column, channel }) {
  const [height, width, channels] = mapShape(name);
  return row >= 0 && row < height && column >= 0 && column < width && channel >= 0 && channel < channels;
}

const indicesBelow = (length) => Array.from({ length }, (_, index) => index);
